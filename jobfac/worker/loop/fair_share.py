"""How many queued runs a worker may claim so that a burst spreads over the fleet. Pure decisions.

There is no coordinator: every worker computes the same assignment from the same facts, and takes only its own part of
it. Runs are dealt one by one to the worker whose slots would be used least, so a worker that has taken its part is
dealt nothing more while a neighbour is less loaded. What a neighbour leaves (it is frozen, or slow) is taken by the
others after ``GRACE``.
"""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from jobfac.store.fleet_load import Load

GRACE = 0.1
"""Seconds for which a run is left to a less loaded worker before any worker with a free slot takes it."""

FIRST_PAUSE = 0.005
"""Seconds until a worker looks again at runs that it left to others; doubled with each look."""


class Share(NamedTuple):
    """What a worker may claim now.

    Attributes:
        most: by queue, how many runs at most.
        left: how many queued runs are left to other workers.
        is_long: the queue holds more than all free slots, so there is nothing to be fair about.
    """

    most: Mapping[str, int]
    left: int
    is_long: bool


def share_of(worker_id: int, fleet: Iterable[Load], queued: Mapping[str, int]) -> Share:
    """The part of the queued runs that ``worker_id`` may claim.

    Args:
        fleet: every live worker that takes new runs, this one among them.
        queued: by queue, in the order in which this worker claims, how many runs are queued; counts beyond all free
            slots need not be exact.
    """
    workers = {load.worker_id: load for load in fleet}
    busy = {load.worker_id: load.busy for load in workers.values()}
    most: dict[str, int] = {}
    left, is_long = 0, True
    for queue, number in queued.items():
        takers = [load for load in workers.values() if queue in load.queues]
        dealt = _deal(worker_id, takers, busy, number)
        most[queue] = dealt.get(worker_id, 0)
        left += sum(dealt.values()) - most[queue]
        is_long = is_long and number > sum(load.free for load in takers)
        for who, runs in dealt.items():
            busy[who] += runs
    return Share(most, left, is_long)


def _deal(me: int, takers: Sequence[Load], busy: Mapping[int, int], number: int) -> dict[int, int]:
    """Deal ``number`` runs one by one to the worker that would be used least; ties go to the one that asks."""
    heap = [
        ((busy[one.worker_id] + 1) / one.slots, one.worker_id != me, one.worker_id, one.slots, busy[one.worker_id])
        for one in takers
        if busy[one.worker_id] < one.slots
    ]
    heapq.heapify(heap)
    dealt: dict[int, int] = {}
    for _ in range(number):
        if not heap:
            break
        _, other, who, slots, used = heapq.heappop(heap)
        dealt[who] = dealt.get(who, 0) + 1
        if used + 1 < slots:
            heapq.heappush(heap, ((used + 2) / slots, other, who, slots, used + 1))
    return dealt


class FairClaims:
    """Decides, turn by turn, whether a claim has to look at the fleet first. Owned by the worker's loop.

    A worker that is alone, or that saw a queue longer than all free slots, claims without a look. Runs that it left to
    less loaded workers it looks at again after a few milliseconds, and takes them after ``GRACE``: nothing waits for a
    worker that is frozen. Times are seconds of a monotonic clock.

    Attributes:
        fleet: live workers, this one included; until a heartbeat has counted them, assume that there are others.
    """

    def __init__(self) -> None:
        self.fleet = 2
        self._is_long = False
        self._take_all_at: float | None = None
        self._pause = FIRST_PAUSE

    def must_look(self, now: float) -> bool:
        """Whether the next claim has to be limited to the worker's share."""
        waited = self._take_all_at is not None and now >= self._take_all_at
        return self.fleet > 1 and not self._is_long and not waited

    def claimed(self, share: Share | None, asked: int, taken: int, now: float) -> float | None:
        """A claim of up to ``asked`` runs took so many; returns when to look again, None: when there is new work.

        Args:
            share: what the claim was limited to; None: it was not limited.
        """
        if share is not None:
            self._is_long = share.is_long
        elif taken < asked:
            self._is_long = False
        if share is None or share.is_long or not share.left:
            self._take_all_at, self._pause = None, FIRST_PAUSE
            return None
        if self._take_all_at is None:
            self._take_all_at = now + GRACE
        again = min(now + self._pause, self._take_all_at)
        self._pause *= 2
        return again
