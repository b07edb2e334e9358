"""Limit how many queued runs a worker claims, to spread a burst over the fleet. Pure decisions.

There is no coordinator. Every worker computes the same assignment from the same data and claims only its own share.
Each run is assigned to the worker with the lowest resulting load. So a worker gets no more runs while another worker
is less loaded. If there are more runs than free slots, those of higher priority and older ones are assigned first, so
that a backlog in one queue keeps no other queue waiting. Runs that another worker does not claim, because it is frozen
or slow, are claimed by the others after ``GRACE``.

A run may take several slots. If no worker has so many free, the worker with the most free slots holds them: it claims
nothing that comes after that run, until its own runs have ended and the run fits. All other workers go on with lighter
runs. So a heavy run waits at most until the runs of one worker have ended.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from jobfac.store.workers.fleet_load import Load

GRACE = 0.1
"""Seconds that a run is left to a less loaded worker before any worker with a free slot may claim it."""

FIRST_PAUSE = 0.005
"""Seconds until a worker first rechecks the runs that it left to others. The pause doubles each time."""


class Share(NamedTuple):
    """The limits of a worker's next claim.

    Attributes:
        most: by queue, how many runs at most.
        left: how many queued runs are left to other workers.
        is_long: more runs are queued than there are free slots, so no share is needed.
        holds: queues with a heavy run for which this worker holds its free slots.
        is_contested: runs of several queues compete for the free slots, so the share needs their order.
    """

    most: Mapping[str, int]
    left: int
    is_long: bool
    holds: frozenset[str] = frozenset()
    is_contested: bool = False


class _Candidate(NamedTuple):
    """A worker that may get a run: the load that it would have then. Of equal loads that of this worker comes first."""

    load: float
    is_other: bool
    worker_id: int
    slots: int


def share_of(
    worker_id: int,
    fleet: Iterable[Load],
    queued: Mapping[str, int],
    weights: Mapping[str, int] = MappingProxyType({}),
    order: Sequence[str] = (),
) -> Share:
    """Return the part of the queued runs that ``worker_id`` may claim.

    Args:
        fleet: every live worker that claims runs, including this one.
        queued: number of queued runs by queue. Counts above the number of free slots need not be exact.
        weights: by queue, how many slots each of its runs takes, if not one.
        order: the queues of the best runs in order, more of each queue than there are free slots. Needed if the share
            without it ``is_contested``.
    """
    workers = {load.worker_id: load for load in fleet}
    serving = {queue: [load for load in workers.values() if queue in load.queues] for queue in queued}
    busy = {load.worker_id: load.busy for load in workers.values()}
    assigned: dict[str, Counter[int]] = {queue: Counter() for queue in queued}
    heaps = {queue: _heap(worker_id, serving[queue], busy, weights.get(queue, 1)) for queue in queued}
    for queue in order or (queue for queue, number in queued.items() for _ in range(number)):
        if (worker := _next(heaps[queue], busy, weights.get(queue, 1))) is not None:
            assigned[queue][worker] += 1
    return _summed_up(worker_id, serving, queued, weights, assigned)


def _summed_up(
    me: int,
    serving: Mapping[str, Sequence[Load]],
    queued: Mapping[str, int],
    weights: Mapping[str, int],
    assigned: Mapping[str, Counter[int]],
) -> Share:
    """Return the share of worker ``me`` of what was assigned."""
    most: dict[str, int] = {}
    holds = set()
    left, is_long, is_short = 0, True, False
    for queue, number in queued.items():
        weight, of_queue = weights.get(queue, 1), assigned[queue]
        most[queue] = of_queue[me]
        left += of_queue.total() - of_queue[me]
        is_long = is_long and number > sum(load.free // weight for load in serving[queue])
        is_short = is_short or of_queue.total() < number
        if weight > 1 and of_queue.total() < number and _holder(serving[queue]) == me:
            holds.add(queue)
            most[queue] += 1
    is_contested = is_short and sum(number > 0 for number in queued.values()) > 1
    return Share(most, left, is_long, frozenset(holds), is_contested)


def _heap(me: int, serving: Sequence[Load], busy: Mapping[int, int], weight: int) -> list[_Candidate]:
    """Return the workers that have room for a run, as a heap by the load that they would have with it."""
    heap = [
        _Candidate((busy[one.worker_id] + weight) / one.slots, one.worker_id != me, one.worker_id, one.slots)
        for one in serving
        if busy[one.worker_id] + weight <= one.slots
    ]
    heapq.heapify(heap)
    return heap


def _next(heap: list[_Candidate], busy: dict[int, int], weight: int) -> int | None:
    """Assign a run to the worker with the lowest resulting load, and count it in ``busy``; None: it fits nowhere.

    Runs of other queues may have made workers of the heap busier. It is put right only where it is read: a fleet may
    have a thousand workers, and the runs of two queues may alternate.
    """
    while heap:
        first = heap[0]
        used = busy[first.worker_id] + weight
        if used > first.slots:
            heapq.heappop(heap)
        elif (load := used / first.slots) != first.load:
            heapq.heapreplace(heap, _Candidate(load, first.is_other, first.worker_id, first.slots))
        else:
            busy[first.worker_id] = used
            return first.worker_id
    return None


def _holder(serving: Sequence[Load]) -> int | None:
    """The worker that holds its free slots for a heavy run: the one with the most, of several the oldest.

    While it holds, its free slots only grow, and the others' do not grow beyond them without taking its part.
    """
    return max(serving, key=lambda one: (one.free, -one.worker_id)).worker_id if serving else None


class FairClaims:
    """Decides for each turn whether the claim is limited to a share. Only the worker's loop uses it.

    A worker that is alone, or that saw more queued runs than free slots, claims without a limit. It rechecks runs that
    it left to less loaded workers after a few milliseconds and claims them after ``GRACE``, so no run waits for a
    frozen worker. Times are monotonic seconds.

    Attributes:
        fleet: number of live workers, including this one. Before the first survey it assumes that there are others.
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

    def claimed(self, share: Share | None, requested: int, taken: int, now: float) -> float | None:
        """Record that a claim for up to ``requested`` slots took ``taken``.

        Returns when to recheck; None: not before there is new work.

        Args:
            share: the limit of the claim; None: the claim was not limited.
        """
        if share is not None:
            self._is_long = share.is_long
        elif taken < requested:
            self._is_long = False
        if share is None or share.is_long or not share.left:
            self._take_all_at, self._pause = None, FIRST_PAUSE
            return None
        if self._take_all_at is None:
            self._take_all_at = now + GRACE
        again = min(now + self._pause, self._take_all_at)
        self._pause *= 2
        return again
