"""Pauses of a scheduler's duties."""

import random
import time

BACKOFF_FIRST, BACKOFF_LAST = 0.02, 1.0
"""Seconds until the next turn of a duty that had work and could do none of it, because another scheduler was faster or
its rows are locked. They double from turn to turn."""

MAX_EXPIRY_PAUSE = 30.0
"""The maximum seconds until the next expiry after expiries that found no dead worker."""

PENDING_INTERVAL = 0.25
"""Seconds between two expiries while a worker has been given notice (SQLite), or its row is locked."""


def expiry_pause(empty: int) -> float:
    """Return the seconds until the next expiry. ``empty``: the number of expiries in a row that expired nothing."""
    return float(min(BACKOFF_FIRST * 2 ** min(empty, 20), MAX_EXPIRY_PAUSE)) if empty > 0 else BACKOFF_FIRST


def first_turn(interval: float) -> float:
    """Return a random time soon, in monotonic seconds, so that schedulers that start together take turns."""
    return time.monotonic() + random.random() * interval / 10
