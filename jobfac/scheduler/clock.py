"""Notices that the database's clock was set. Pure: the times are arguments."""

from datetime import datetime

LEAST = 600.0
"""By how many seconds the clock must have been set. After a failover another machine's clock may differ a little, and
due times that come again within minutes need no care."""


class ClockWatch:
    """Compares the time of the database with the time that has passed. One thread uses it."""

    def __init__(self) -> None:
        self._seen: tuple[datetime, float] | None = None

    def step(self, now: datetime, passed: float) -> float:
        """Return by how many seconds the clock was set forward since the last call, negative: back.

        0: by less than ``LEAST``.

        Args:
            now: the time of the database.
            passed: seconds on a clock that does not step, and that goes on while the machine is suspended.
        """
        before, self._seen = self._seen, (now, passed)
        if before is None:
            return 0.0
        step = (now - before[0]).total_seconds() - (passed - before[1])
        return step if abs(step) >= LEAST else 0.0
