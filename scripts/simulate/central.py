"""The perfect dispatcher: it knows everything at once, and every run starts where the load is lowest."""

import heapq
from collections import deque
from collections.abc import Sequence

from scripts.simulate.workload import Result, Run, Spread


def dispatch(slots: Sequence[int], bursts: Sequence[Sequence[Run]]) -> Result:
    """What it makes of the arrivals, without any delay."""
    busy = [0] * len(slots)
    spread = Spread(slots)
    waiting: deque[Run] = deque()
    waits: dict[int, float] = {}
    idle = [((1 / its), worker) for worker, its in enumerate(slots)]  # by the load that one more run would make
    heapq.heapify(idle)
    events: list[tuple[float, int, int]] = []  # when, the run's number, its worker; -1: a burst
    for number, burst in enumerate(bursts):
        heapq.heappush(events, (burst[0].queued_at, -1, number))
    while events:
        now, run, which = heapq.heappop(events)
        if run < 0:
            waiting.extend(bursts[which])
        else:
            busy[which] -= 1
            spread.change(which, busy[which], now)
            heapq.heappush(idle, ((busy[which] + 1) / slots[which], which))
        while waiting and (worker := _least_loaded(idle, busy, slots)) is not None:
            one = waiting.popleft()
            busy[worker] += 1
            spread.change(worker, busy[worker], now)
            if busy[worker] < slots[worker]:
                heapq.heappush(idle, ((busy[worker] + 1) / slots[worker], worker))
            waits[one.number] = now - one.queued_at
            heapq.heappush(events, (now + one.duration, one.number, worker))
    return Result([waits[number] for number in sorted(waits)], spread.mean())


def _least_loaded(idle: list[tuple[float, int]], busy: Sequence[int], slots: Sequence[int]) -> int | None:
    """Take the least loaded worker with a free slot from the heap, past entries that are out of date."""
    while idle:
        load, worker = heapq.heappop(idle)
        if load == (busy[worker] + 1) / slots[worker] and busy[worker] < slots[worker]:
            return worker
    return None
