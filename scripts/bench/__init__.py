"""Speed, measured as ratios to limits that are measured in the same run, so that nobody has to believe a machine."""
