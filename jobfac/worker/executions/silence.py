"""How long a program has written nothing. Uses no process and no clock."""

import contextlib
import os
from collections.abc import Hashable, Iterable

SHARE = 20
"""A silence is measured in so many steps, so it is detected at most this share of it too late."""

SHORTEST, LONGEST = 0.05, 10.0
"""Seconds between two checks."""


def states_of(files: Iterable[int | str]) -> list[tuple[int, int]]:
    """Return size and time of these files, by descriptor or path."""
    found: list[tuple[int, int]] = []
    for file in files:
        with contextlib.suppress(OSError):  # not there yet, removed by the program, or on a failing disk
            one = os.stat(file)  # noqa: PTH116
            found.append((one.st_size, one.st_mtime_ns))
    return found


class Silence:
    """Detects that a program writes nothing. All times are monotonic seconds."""

    def __init__(self, limit: float) -> None:
        """``limit``: seconds of silence after which the program is ended."""
        self._limit = limit
        self._step = min(max(limit / SHARE, SHORTEST), LONGEST)
        self._written: Hashable = None
        self._since: float | None = None
        self._look_at = 0.0
        self._was_late = False

    def is_too_long(self, now: float, written: Hashable) -> bool:
        """Check. ``written``: a value that changes whenever the program writes.

        A check that comes late does not decide: the program may have stood still with its worker, or a file system may
        not have answered yet. It has one more step, once in a silence, because a busy worker may always be late.
        """
        is_late = self._since is not None and now > self._look_at + self._step
        if self._since is None or written != self._written:
            self._since, self._written, self._was_late = now, written, False
        self._look_at = now + self._step
        if now < self._since + self._limit:
            return False
        waits = is_late and not self._was_late
        self._was_late = self._was_late or waits
        return not waits

    def next_time(self) -> float:
        """When to check again."""
        return self._look_at
