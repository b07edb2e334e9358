"""Which event ids a reader has seen. Pure: callers pass the time.

Ids are assigned in the order of insertion but become visible in the order of commit, so a reader that only reads ids
above the highest one would miss some. A missing id is expected for ``GAP_TIMEOUT``; then its transaction has certainly
been rolled back.
"""

from collections.abc import Iterable, Iterator

GAP_TIMEOUT = 30.0
"""Seconds for which a missing id is expected."""

MAX_MISSING = 1000
"""The maximum number of missing ids. After a restart of SQL Server the ids may jump by as many."""


class Positions:
    """The ids that a reader has seen.

    Attributes:
        last: the highest id seen.
        missing: the ids below ``last`` that were not seen, with the time when they were first missed.
    """

    def __init__(self, newest: Iterable[int], now: float) -> None:
        """Begin after the latest events. ``newest``: ids of some of them, in any order."""
        ids = sorted(newest)
        self.last = ids[0] if ids else 0
        self.missing: dict[int, float] = {}
        self.see(ids, now)

    @property
    def contiguous(self) -> int:
        """The id up to which no event is missing. A reader that continues after it misses nothing."""
        return min(self.missing, default=self.last + 1) - 1

    def see(self, ids: Iterable[int], now: float) -> None:
        """Record ids, in ascending order, that were read at ``now`` (monotonic seconds)."""
        for seen in ids:
            self.missing.pop(seen, None)
            if seen > self.last:
                self.missing.update(dict.fromkeys(range(max(self.last + 1, seen - MAX_MISSING), seen), now))
                self.last = seen
        for missed in [missed for missed, since in self.missing.items() if now - since > GAP_TIMEOUT]:
            del self.missing[missed]
        for missed in sorted(self.missing)[: max(0, len(self.missing) - MAX_MISSING)]:
            del self.missing[missed]


def resume_points(ids: list[int], contiguous: int) -> Iterator[int]:
    """Return, for each of these ids in the order of sending, where a client resumes after it.

    The position is never after an event that was not sent yet: a client may receive events twice, but misses none.
    """
    for number in range(len(ids)):
        yield min(contiguous, ids[number + 1] - 1) if number + 1 < len(ids) else contiguous
