"""The fleet: workers with the real decisions about shares, delays and polls, on one database.

What is simulated is the time that statements take, and what a transaction sees: rows that another one has claimed are
skipped at once, and the load of a worker is seen when its turn has committed. Idle workers wait inside SQL Server,
which polls for work every ``PAUSE``.
"""

import heapq
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from itertools import count

from jobfac.database.dialects.waiting import PAUSE
from jobfac.store.workers.fleet_load import Load
from jobfac.worker.loop.agenda import Agenda
from jobfac.worker.loop.fair_share import Share, share_of
from jobfac.worker.loop.inbox import Messages
from jobfac.worker.poller import FIRST_PAUSE, LAST_PAUSE
from scripts.simulate.workload import Result, Run, Spread

STATEMENT = 0.001
"""Seconds that one statement takes, with its way through the network."""

LOOK = float(PAUSE.rpartition(":")[2])
"""Seconds between two polls of a wait inside the server."""

QUEUE = "default"
QUEUES = frozenset({QUEUE})


class Worker:
    """A worker: its agenda is the real one, its programs are numbers.

    Attributes:
        busy: slots in use, as the worker knows it.
        seen: the same as the database has it, since the last commit.
        ended: runs whose outcome is not stored yet.
        armed: its wait reports new work.
    """

    def __init__(self, number: int, slots: int, fleet: int) -> None:
        self.number = number
        self.slots = slots
        self.busy = self.seen = self.ended = 0
        self.armed = self.in_turn = False
        self.pause = 0.0
        self.armed_at = 0.0
        self.agenda = Agenda(heartbeat=3.0)
        self.agenda.fair.fleet = fleet


class Fleet:
    """The simulation. ``statements`` counts what the workers send, by kind; ``armed_seconds`` adds up idle waits.

    ``executed``: how many runs each worker took. ``rows_read``: loads of workers that were read for shares.
    """

    def __init__(self, slots: Sequence[int], chance: random.Random) -> None:
        self.statements: Counter[str] = Counter()
        self.executed: Counter[int] = Counter()
        self.armed_seconds = 0.0
        self.rows_read = 0
        self.now = 0.0
        self._chance = chance
        self._workers = [Worker(number, its, len(slots)) for number, its in enumerate(slots)]
        self._all_slots = sum(slots)
        self._queue: deque[Run] = deque()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._spread = Spread(slots)
        self._waits: dict[int, float] = {}

    def run(self, bursts: Sequence[Sequence[Run]]) -> Result:
        """Let the fleet execute all runs; returns what became of them."""
        for worker in self._workers:
            self._soon(0.0, lambda worker=worker: self._arm(worker, in_vain=False))  # type: ignore[misc]
        for burst in bursts:
            self._soon(burst[0].queued_at, lambda burst=burst: self._arrive(burst))  # type: ignore[misc]
        number = sum(map(len, bursts))
        while len(self._waits) < number or any(worker.busy for worker in self._workers):
            self.now, _, act = heapq.heappop(self._events)
            act()
        for worker in self._workers:
            self._disarm(worker)
        return Result([self._waits[one] for one in sorted(self._waits)], self._spread.mean())

    def _soon(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), act))

    def _arrive(self, burst: Sequence[Run]) -> None:
        self._queue.extend(burst)
        for worker in self._workers:
            if worker.armed:
                self._notice(worker, self._chance.random() * LOOK)

    # Waiting for work

    def _arm(self, worker: Worker, in_vain: bool) -> None:
        """As ``WorkPoller.arm``: report the next work, after a pause if the last report was in vain."""
        worker.pause = min(max(FIRST_PAUSE, worker.pause * 2), LAST_PAUSE) if in_vain else 0.0
        worker.armed, worker.armed_at = True, self.now
        self.statements["wait"] += 1
        if self._queue:
            self._notice(worker, worker.pause)

    def _disarm(self, worker: Worker) -> None:
        if worker.armed:
            worker.armed = False
            self.armed_seconds += self.now - worker.armed_at

    def _notice(self, worker: Worker, seconds: float) -> None:
        def act() -> None:
            if worker.armed and self._queue:
                self._disarm(worker)
                worker.agenda.absorb(Messages(work=True, reported=True), self.now)
                self._act(worker)

        self._soon(seconds + STATEMENT, act)

    # Turns

    def _act(self, worker: Worker) -> None:
        """Begin a turn if one is due, as the worker's loop does."""
        if worker.in_turn:
            return
        worker.agenda.absorb(Messages(), self.now)
        if not worker.agenda.has_to_act(worker.slots - worker.busy, worker.ended > 0):
            return
        worker.in_turn = True
        reported, _ = worker.agenda.begin_turn()
        outcomes, worker.ended = worker.ended, 0
        free = worker.slots - worker.busy
        steps = 1 + (4 if outcomes else 0)
        self.statements["turn"] += 2
        self.statements["outcome"] += 4 if outcomes else 0
        if free and worker.agenda.fair.must_look(self.now):
            self.statements["share"] += 3
            self._soon((steps + 3) * STATEMENT, lambda: self._claim(worker, free, self._share(worker), reported))
        else:
            self._soon(steps * STATEMENT, lambda: self._claim(worker, free, None, reported))

    def _share(self, worker: Worker) -> Share:
        self.rows_read += len(self._workers)
        mine = worker.slots - worker.busy
        loads = [
            Load(one.number, one.slots, one.slots - mine if one is worker else one.seen, QUEUES)
            for one in self._workers
        ]
        return share_of(worker.number, loads, {QUEUE: min(len(self._queue), self._all_slots + 1)})

    def _claim(self, worker: Worker, free: int, share: Share | None, reported: bool) -> None:
        most = free if share is None else min(free, share.most[QUEUE])
        taken = [self._queue.popleft() for _ in range(min(most, len(self._queue)))]
        self.statements["claim"] += (1 if most else 0) + (2 if taken else 0)
        self._soon(3 * STATEMENT, lambda: self._commit(worker, free, share, taken, reported))

    def _commit(self, worker: Worker, free: int, share: Share | None, taken: Sequence[Run], reported: bool) -> None:
        for run in taken:
            self._waits[run.number] = self.now - run.queued_at
            self._soon(run.duration, lambda: self._end(worker))
        worker.busy += len(taken)
        self.executed[worker.number] += len(taken)
        worker.seen = worker.busy
        self._spread.change(worker.number, worker.busy, self.now)
        worker.in_turn = False
        agenda = worker.agenda
        is_empty = agenda.turn_done(len(taken), is_full=len(taken) >= free)
        agenda.look_at = agenda.fair.claimed(share, free, len(taken), self.now)
        if agenda.look_at is not None:
            self._soon(agenda.look_at - self.now, lambda: self._act(worker))
        elif is_empty:
            self._arm(worker, in_vain=reported and not taken)
        self._act(worker)

    def _end(self, worker: Worker) -> None:
        worker.busy -= 1
        worker.ended += 1
        self._spread.change(worker.number, worker.busy, self.now)
        self._act(worker)
