"""How full the coming hours are: due times with usual durations, against the slots of the workers. Pure."""

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from heapq import nsmallest
from typing import NamedTuple

from jobfac.views.results.load import MOVES, HourLoad, MoveView, PoolLoad

HOUR = timedelta(hours=1)
TOO_LONG = 60.0
"""Seconds of waiting from which the slots do not suffice."""

RARE = 4
"""A schedule that is due at most this often a day may be moved."""

_NEVER = datetime.min.replace(tzinfo=UTC)
_END, _DUE = 0, 1


class Limit(NamedTuple):
    """At most ``most`` runs with the same key at a time."""

    key: str
    most: int


class Firing(NamedTuple):
    """A run to come. ``seconds``: how long it usually takes; ``slots``: how many slots of a worker it takes.

    ``labels``: those that its worker must have; ``limit``: with which other runs it does not run at a time.
    """

    due_at: datetime
    pool: str
    job: str
    schedule: str
    seconds: float
    slots: int = 1
    labels: frozenset[tuple[str, str]] = frozenset()
    limit: Limit | None = None


class Crew(NamedTuple):
    """Live workers that are alike. ``each``: the slots of one of them."""

    pools: frozenset[str]
    labels: frozenset[tuple[str, str]]
    each: int
    workers: int = 1

    @property
    def slots(self) -> int:
        """The slots of all of them."""
        return self.each * self.workers

    def serves(self, one: Firing) -> bool:
        """Whether each of these workers may claim the run."""
        return one.pool in self.pools and one.labels <= self.labels and one.slots <= self.each


class Waiting(NamedTuple):
    """A run to come, and how many seconds it would wait for a slot; None: no live worker may claim it.

    ``limited``: how many seconds it would wait before that because of its limit.
    """

    firing: Firing
    seconds: float | None
    limited: float = 0.0


class _Fleet:
    """When each slot of the crews becomes free."""

    def __init__(self, crews: Iterable[Crew]) -> None:
        # A run takes the least special workers that are free at once, so special ones stay free for others.
        self._crews = sorted(crews, key=lambda crew: (len(crew.pools) + len(crew.labels), crew.each))
        self._free = [[_NEVER] * crew.slots for crew in self._crews]

    def begin(self, one: Firing, at: datetime) -> datetime | None:
        """Take slots for a run that is ready, and return when it begins; None: no worker may claim it."""
        able = [free for crew, free in zip(self._crews, self._free, strict=True) if crew.serves(one)]
        if not able:
            return None
        chosen = min(able, key=lambda free: max(at, free[0] if one.slots == 1 else nsmallest(one.slots, free)[-1]))
        begin = max(at, *(heapq.heappop(chosen) for _ in range(one.slots)))
        for _ in range(one.slots):
            heapq.heappush(chosen, begin + timedelta(seconds=one.seconds))
        return begin


def waits(firings: Iterable[Firing], crews: Iterable[Crew]) -> list[Waiting]:
    """Return how long each run would wait, in the order of their due times.

    Runs take slots in the order in which they are ready: a run that exceeds its limit is not.
    """
    ordered = sorted(firings, key=lambda one: one[:6])
    fleet = _Fleet(crews)
    found: dict[int, Waiting] = {}
    under_way: Counter[str] = Counter()
    blocked: defaultdict[str, deque[int]] = defaultdict(deque)
    # At one time the ends come before the runs that are due.
    coming = [(one.due_at, _DUE, number) for number, one in enumerate(ordered)]
    while coming:
        at, kind, number = heapq.heappop(coming)
        one = ordered[number]
        if one.limit is not None and kind == _END:
            if not blocked[one.limit.key]:
                under_way[one.limit.key] -= 1
                continue
            number = blocked[one.limit.key].popleft()
            one = ordered[number]
        elif one.limit is not None and under_way[one.limit.key] >= one.limit.most:
            blocked[one.limit.key].append(number)
            continue
        elif one.limit is not None:
            under_way[one.limit.key] += 1
        begin = fleet.begin(one, at)
        seconds = None if begin is None else (begin - at).total_seconds()
        found[number] = Waiting(one, seconds, (at - one.due_at).total_seconds())
        if one.limit is not None:
            end = at if begin is None else begin + timedelta(seconds=one.seconds)
            heapq.heappush(coming, (end, _END, number))
    return [found[number] for number in range(len(ordered))]


def pool_load(pool: str, waiting: Iterable[Waiting], slots: int, begin: datetime, hours: int) -> PoolLoad:
    """Return the load of a pool in each of ``hours`` hours from ``begin`` on."""
    runs, busy, longest = [0] * hours, [0.0] * hours, [0.0] * hours
    for one, waited, _ in waiting:
        place = (one.due_at - begin) // HOUR
        if 0 <= place < hours:
            runs[place] += 1
            longest[place] = max(longest[place], waited or 0.0)
        for at, seconds in _shares(one, begin, hours) if waited is not None else ():
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


class Load(NamedTuple):
    """The load of the pools, the due times to move, and jobs by why their runs wait for something else than a slot.

    ``unserved``: no live worker has their pool, labels and number of slots. ``limited``: their limit makes them wait.
    """

    pools: list[PoolLoad]
    moves: list[MoveView]
    unserved: list[str]
    limited: list[str]


def load(firings: Sequence[Firing], crews: Sequence[Crew], begin: datetime, hours: int) -> Load:
    """Return the load of each pool, and which due times to move where the slots of a pool will not suffice."""
    by_pool: defaultdict[str, list[Waiting]] = defaultdict(list)
    waiting = waits(firings, crews)
    for one in waiting:
        by_pool[one.firing.pool].append(one)
    slots: Counter[str] = Counter()
    for crew in crews:
        slots.update(dict.fromkeys(crew.pools, crew.slots))
    pools = [pool_load(name, by_pool[name], slots[name], begin, hours) for name in sorted({*by_pool, *slots})]
    moves = [move for one in pools for move in _moves(one, [each.firing for each in by_pool[one.pool]])]
    unserved = {one.firing.job for one in waiting if one.seconds is None}
    limited = {one.firing.job for one in waiting if one.limited > TOO_LONG}
    return Load(pools, moves[:MOVES], sorted(unserved), sorted(limited))


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
