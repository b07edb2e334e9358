"""Watches for files that start jobs and files for which a step of a sequence waits."""
