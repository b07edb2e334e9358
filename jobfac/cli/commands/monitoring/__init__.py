"""Commands that watch: top, report, doctor, logs."""
