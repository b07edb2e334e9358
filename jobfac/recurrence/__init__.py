"""Compute when a schedule is due, and why. Pure functions: the current time is an argument."""

from jobfac.recurrence.blackout import FOREVER, blackout_end
from jobfac.recurrence.due import due_times, jitter, missed, next_due
from jobfac.recurrence.preview import explain
from jobfac.recurrence.window import in_window

__all__ = [
    "FOREVER", "blackout_end", "due_times", "explain", "in_window", "jitter", "missed", "next_due",
]  # fmt: skip
