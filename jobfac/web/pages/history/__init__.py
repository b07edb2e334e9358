"""The pages of runs: one run, the history with its filters, and many runs at once."""
