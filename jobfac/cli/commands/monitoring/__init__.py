"""Monitoring commands: top, report, doctor, logs."""
