"""How long a program has written nothing. Uses no process and no clock."""

from collections.abc import Hashable

SHARE = 20
"""A silence is measured in so many steps, so it is detected at most this share of it too late."""

SHORTEST, LONGEST = 0.05, 10.0
"""Seconds between two checks."""


class Silence:
    """Detects that a program writes nothing. All times are monotonic seconds."""

    def __init__(self, limit: float) -> None:
        """``limit``: seconds of silence after which the program is ended."""
        self._limit = limit
        self._step = min(max(limit / SHARE, SHORTEST), LONGEST)
        self._written: Hashable = None
        self._since: float | None = None
        self._look_at = 0.0

    def is_too_long(self, now: float, written: Hashable) -> bool:
        """Check. ``written``: a value that changes whenever the program writes."""
        if self._since is None or written != self._written:
            self._since, self._written = now, written
        self._look_at = now + self._step
        return now >= self._since + self._limit

    def next_time(self) -> float:
        """When to check again."""
        return self._look_at
