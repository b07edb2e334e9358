"""Which events were seen. Pure: the clock comes in as an argument.

Ids are given in the order of insertion but become visible in the order of commit, so a reader that only asks for what
is beyond the last id would miss some. A missing id is looked for until it has come, or for ``GAP_TIMEOUT``: by then the
transaction that drew it was rolled back.
"""

from collections.abc import Iterable, Iterator

GAP_TIMEOUT = 30.0
"""Seconds that a missing id is looked for."""

MOST = 1000
"""Ids looked for at most; after a server's restart the numbers may jump by as many."""


class Positions:
    """``last``: the highest id seen. ``missing``: ids below it that were not, with the time since when."""

    def __init__(self, newest: Iterable[int], now: float) -> None:
        """``newest``: the ids of some of the latest events, in any order."""
        ids = sorted(newest)
        self.last = ids[0] if ids else 0
        self.missing: dict[int, float] = {}
        self.see(ids, now)

    @property
    def contiguous(self) -> int:
        """Up to this id everything was seen that will ever be: where a reader may continue later."""
        return min(self.missing, default=self.last + 1) - 1

    def see(self, ids: Iterable[int], now: float) -> None:
        """Note what was found at ``now``, a monotonic time, in order of ids."""
        for found in ids:
            self.missing.pop(found, None)
            if found > self.last:
                self.missing.update(dict.fromkeys(range(max(self.last + 1, found - MOST), found), now))
                self.last = found
        for missed in [missed for missed, since in self.missing.items() if now - since > GAP_TIMEOUT]:
            del self.missing[missed]
        for missed in sorted(self.missing)[: max(0, len(self.missing) - MOST)]:
            del self.missing[missed]


def resume_points(ids: list[int], contiguous: int) -> Iterator[int]:
    """For each of these ids, told in this order, from where to continue for someone who has heard it but not the next.

    Never later than something that was not told yet, so a reader hears some twice but misses none.
    """
    for number in range(len(ids)):
        yield min(contiguous, ids[number + 1] - 1) if number + 1 < len(ids) else contiguous
