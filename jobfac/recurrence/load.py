"""How full the coming hours are: due times with usual durations, against the slots of the pools. Pure."""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from jobfac.views.results.load import HourLoad, MoveView, PoolLoad

HOUR = timedelta(hours=1)
TOO_LONG = 60.0
"""Seconds of waiting from which the slots do not suffice."""

RARE = 4
"""A schedule that is due at most this often a day may be moved."""

MOVES = 20
"""The maximum number of proposed moves."""


class Firing(NamedTuple):
    """A run to come. ``seconds``: how long it usually takes; ``slots``: how many slots it takes."""

    due_at: datetime
    pool: str
    job: str
    schedule: str
    seconds: float
    slots: int = 1


class Waiting(NamedTuple):
    """A run to come, and how long it would wait for a slot."""

    firing: Firing
    seconds: float


def waits(firings: Iterable[Firing], slots: int) -> list[Waiting]:
    """Return how long each run of a pool would wait, if runs start in the order of their due times.

    A run that takes more slots than there are waits for all of them. Without slots nothing waits, since nothing starts.
    """
    ordered = sorted(firings)
    if not slots:
        return [Waiting(one, 0.0) for one in ordered]
    free = [datetime.min.replace(tzinfo=one.due_at.tzinfo) for one in ordered[:1] for _ in range(slots)]
    found = []
    for one in ordered:
        taken = [heapq.heappop(free) for _ in range(min(one.slots, slots))]
        begin = max(one.due_at, *taken)
        for _ in taken:
            heapq.heappush(free, begin + timedelta(seconds=one.seconds))
        found.append(Waiting(one, (begin - one.due_at).total_seconds()))
    return found


def pool_load(pool: str, firings: Sequence[Firing], slots: int, begin: datetime, hours: int) -> PoolLoad:
    """Return the load of a pool in each of ``hours`` hours from ``begin`` on."""
    runs, busy, longest = [0] * hours, [0.0] * hours, [0.0] * hours
    for one, waited in waits(firings, slots):
        place = (one.due_at - begin) // HOUR
        if 0 <= place < hours:
            runs[place] += 1
            longest[place] = max(longest[place], waited)
        for at, seconds in _shares(one, begin, hours):
            busy[at] += seconds * one.slots
    percents = [round(100 * seconds / (slots * 3600), 1) if slots else None for seconds in busy]
    rows = zip(range(hours), runs, percents, longest, strict=True)
    return PoolLoad(pool, slots, [HourLoad(begin + at * HOUR, number, part, late) for at, number, part, late in rows])


def _shares(one: Firing, begin: datetime, hours: int) -> Iterable[tuple[int, float]]:
    """Return the seconds that a run takes of each hour, if it starts at its due time."""
    start = (one.due_at - begin).total_seconds()
    end = min(start + one.seconds, hours * 3600.0)
    start = max(start, 0.0)
    while start < end:
        place = int(start // 3600)
        until = min(end, (place + 1) * 3600.0)
        yield place, until - start
        start = until


def load(
    firings: Sequence[Firing], slots: Mapping[str, int], begin: datetime, hours: int
) -> tuple[list[PoolLoad], list[MoveView]]:
    """Return the load of each pool, and which due times to move where the slots of a pool will not suffice."""
    by_pool: defaultdict[str, list[Firing]] = defaultdict(list)
    for one in firings:
        by_pool[one.pool].append(one)
    pools = [pool_load(name, by_pool[name], slots.get(name, 0), begin, hours) for name in sorted({*by_pool, *slots})]
    moves = [move for one in pools for move in _moves(one, by_pool[one.pool])]
    return pools, moves[:MOVES]


def _moves(pool: PoolLoad, firings: Sequence[Firing]) -> Iterable[MoveView]:
    """Propose moves, the longest runs of each hour that is too full first."""
    if not pool.slots:
        return
    busy = [hour.busy_percent or 0.0 for hour in pool.hours]
    full = {place for place, hour in enumerate(pool.hours) if hour.wait_seconds > TOO_LONG}
    begin = pool.hours[0].at
    days = max(1, len(pool.hours) // 24)
    often: defaultdict[tuple[str, str], int] = defaultdict(int)
    by_hour: defaultdict[int, list[Firing]] = defaultdict(list)
    for one in firings:
        often[one.job, one.schedule] += 1
        by_hour[(one.due_at - begin) // HOUR].append(one)
    for place in sorted(full):
        excess = pool.hours[place].wait_seconds
        for one in sorted(by_hour[place], key=lambda one: (-one.seconds * one.slots, one)):
            if excess <= TOO_LONG:
                break
            if often[one.job, one.schedule] > RARE * days:
                continue
            share = 100 * one.seconds * one.slots / (pool.slots * 3600)
            target = _quiet(place, busy, full, share)
            reason = f"the last run of this hour would wait {round(pool.hours[place].wait_seconds / 60)} minutes"
            to = None if target is None else begin + target * HOUR
            yield MoveView(pool.pool, one.job, one.schedule, one.due_at, to, reason)
            excess -= one.seconds * one.slots / pool.slots
            if target is not None:
                busy[target] += share
                busy[place] -= share


def _quiet(place: int, busy: Sequence[float], full: Iterable[int], share: float) -> int | None:
    """Return the nearest hour of the same day with room for so many per cent more; None: there is none."""
    day = range(place // 24 * 24, min(place // 24 * 24 + 24, len(busy)))
    able = [at for at in day if at not in full and busy[at] + share <= 100]
    return min(able, key=lambda at: (abs(at - place), at), default=None)
