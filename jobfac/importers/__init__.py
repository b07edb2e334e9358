"""Convert the configuration of other schedulers into job definitions."""
