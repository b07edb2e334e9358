"""The worker: claim, run, finish. One turn of its loop stores the outcomes that came in and claims for the freed slots.

Threads: this loop; the heartbeat and its watchdog (``lease``); one that waits for work (``notice``); one that ships
output (``shipping``). They meet in ``ExitWatcher.wake``. Beside them runs the guardian process.
"""

import os
import platform
import random
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version

import sqlalchemy as sa
import structlog

from jobfac import leases, output, sequences
from jobfac.database import Database, Unreachable
from jobfac.definitions import AnyJob, Job, store, write_duration
from jobfac.dialects import Found
from jobfac.leases import Beat, Claimed, LeaseLost, Registration
from jobfac.process import NO_ROOM, ExitWatcher, Guardian, StartError, become_subreaper, kill_all, room_for_programs
from jobfac.process.guardian import clock
from jobfac.runs import Outcome
from jobfac.runs.events import Event
from jobfac.settings import Settings
from jobfac.states import Stop, WorkerState
from jobfac.worker.crash import checkpoint
from jobfac.worker.execution import Execution
from jobfac.worker.lease import Lease
from jobfac.worker.notice import Notice
from jobfac.worker.shipping import Shipper
from jobfac.worker.spooling import SpoolFolder
from jobfac.worker.turn import Turn

log = structlog.get_logger("jobfac.worker")

IDLE_LOOK = 5.0
"""Seconds after which the loop looks around although nobody told it to."""

TRY_AGAIN = 0.25
"""Seconds until a turn that the database refused is tried again."""


class Worker:
    """One worker process. ``run`` returns when it is drained; ``drain`` may be called from any thread or handler."""

    def __init__(
        self,
        db: Database,
        settings: Settings,
        *,
        name: str,
        slots: int,
        pools: Sequence[str] = ("default",),
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._db = db
        self._settings = settings
        self._who = Registration(
            name=name,
            host=socket.gethostname(),
            pid=os.getpid(),
            token=secrets.token_hex(8),
            version=version("jobfac"),
            slots=slots,
            pools=tuple(pools),
            labels={"os": platform.system().lower(), "host": socket.gethostname(), **(labels or {})},
        )
        self._live: dict[tuple[int, int], Execution] = {}  # by run and attempt: the fence names the execution
        self._over: list[tuple[Execution, Outcome]] = []  # ended, and not stored yet
        self._events: list[Event] = []
        self._definitions: dict[tuple[str, int], AnyJob] = {}
        self._queues: list[str] = []
        self._queues_known = 0  # how many there are; when that changes, read them
        self._queues_read = -1
        self._uncertain = False  # an answer was lost: the database may hold claims for us that we do not know of
        self._more = True  # there may be work to claim
        self._not_before = 0.0  # when the database may be bothered again
        self._drain_until: float | None = None
        self._stops: list[tuple[int, int, str]] = []
        self._overdue = False  # somebody's lease has ended and nobody has settled it yet
        self._guardian = Guardian()
        self._watcher = ExitWatcher()
        self._spool = SpoolFolder(settings.spool_folder(), self._who.token)
        self._lease = Lease(db, self._who, settings, self._guardian, self._on_beat, self._on_lost)
        self._notice = Notice(db, settings, self._on_found)
        self._shipper = Shipper(db, settings.ship_interval, lambda: list(self._live.values()), self._watcher.wake)

    # Called from other threads and from signal handlers

    def drain(self, limit: float | None = None) -> None:
        """Claim nothing more, let runs finish for ``limit`` seconds (default: the setting), then give them back."""
        until = time.monotonic() + (self._settings.drain_limit if limit is None else limit)
        self._drain_until = until if self._drain_until is None else min(until, self._drain_until)
        self._watcher.wake()

    def _on_beat(self, beat: Beat) -> None:
        if beat.state == WorkerState.DRAINING and self._drain_until is None:
            self.drain()
        self._notice.known_stops = len(beat.stops)
        if beat.queues != self._queues_known:
            self._queues_known = beat.queues
            self._more = True
            self._watcher.wake()
        self._stops = beat.stops
        self._overdue = beat.expiry <= 0
        if beat.stops or self._overdue:
            self._watcher.wake()

    def _on_found(self, found: Found) -> None:
        if found & Found.STOP:
            self._lease.poke()
        self._more = True
        self._watcher.wake()

    def _on_lost(self, in_time: bool = False) -> None:
        """End every program before anyone else may start its run again. ``in_time``: see first what ended by itself."""
        live = list(self._live.values())
        for execution in live if in_time else ():
            execution.ended_in_time = execution.is_over()
        kill_all([e.process for e in live if e.process is not None])
        self._watcher.wake()

    # The loop

    def run(self) -> None:
        """Work until drained.

        Raises:
            Unreachable: at the start, the database could not be reached or has another schema.
        """
        self._db.check_schema()
        become_subreaper()
        self._spool.settle_dead(self._db)
        self._spool.ensure()
        self._guardian.start()
        self._register(lambda conn: None)
        for thread in (self._lease, self._shipper, self._notice):
            thread.start()
        log.info("worker started", action="worker_started", worker=self.name, id=self._lease.worker_id)
        try:
            while not self._is_done():
                due = self._tick()
                if not self._lease.is_trusted():
                    self._start_anew()
                elif time.monotonic() >= self._not_before and (self._over or self._overdue or self._wants_work()):
                    if self._overdue:
                        self._settle_dead()
                    self._turn()
                    due = self._tick()
                for process in self._watcher.wait(self._patience(due)):
                    process.poll()
                    checkpoint("exited")
        finally:
            self._leave()

    def _is_done(self) -> bool:
        return self._drain_until is not None and not self._live and not self._over

    def _free(self) -> int:
        return 0 if self._drain_until is not None else self._who.slots - len(self._live)

    def _wants_work(self) -> bool:
        return (self._more or self._uncertain) and self._free() > 0

    def _patience(self, due: float | None) -> float:
        """Seconds until the loop has something to do of itself."""
        now = time.monotonic()
        times = [now + IDLE_LOOK]
        if due is not None:
            times.append(due)
        if self._is_done():
            times.append(now)
        if self._over or self._wants_work() or not self._lease.is_trusted():
            times.append(self._not_before)
        if self._drain_until is not None and self._drain_until > now:
            times.append(self._drain_until)
        return max(0.0, min(times) - now)

    def _tick(self) -> float | None:
        """Obey the clock and the requests to stop, gather what has ended; returns when to look again (monotonic)."""
        now = time.monotonic()
        for run_id, attempt, how in self._stops:
            if execution := self._live.get((run_id, attempt)):
                execution.ask_to_stop(Stop(how))
        if self._drain_until is not None and now >= self._drain_until:
            for execution in self._live.values():
                execution.ask_to_stop(Stop.POLITE, give_back=True)
        due = None
        for key, execution in list(self._live.items()):
            next_time = execution.tick(now)
            if execution.warn_at is not None and now >= execution.warn_at:
                execution.warned = True
                after = write_duration(execution.definition.warn_after or 0)
                why = f"still running after {after}"
                self._events.append(Event(*key, "running_long", self.name, why, execution.claimed.notify))
            if execution.is_over() and self._lease.is_trusted() and execution.shipping.acquire(blocking=False):
                self._gather(execution)
            elif next_time is not None:
                due = next_time if due is None else min(due, next_time)
        return due

    def _gather(self, execution: Execution) -> None:
        """It is over, and the shipping thread keeps away from it: its outcome is to be stored."""
        self._over.append((execution, execution.outcome(random.random())))
        del self._live[execution.key]

    def _turn(self) -> None:
        self._more = False  # before the claim: what comes after it sets this again
        if self._queues_read != self._queues_known:
            self._read_queues()
        turn = self._compose(free=self._free())
        checkpoint("gathered")
        try:
            self._db.transact(turn.take, patience=1.0)
        except LeaseLost:
            self._lease.lost = True
            return
        except Unreachable as error:
            log.warning("turn failed", action="turn_failed", reason=str(error))
            self._uncertain = self._more = True
            self._not_before = time.monotonic() + TRY_AGAIN
            return
        checkpoint("committed")
        self._uncertain = False
        self._stored(turn)
        self._begin(turn.claimed)
        if turn.free > len(turn.claimed):
            self._notice.arm(self._queues)
        else:
            self._more = turn.free > 0
            self._notice.disarm()

    def _compose(self, free: int) -> Turn:
        over = [execution for execution, _ in self._over]
        chunks: list[output.Stored] = []
        cuts = []
        for execution in over:
            with execution.lock:
                chunks += execution.collect(final=True)
            cuts += [(*execution.key, *cut) for cut in execution.cuts()]
        return Turn(
            worker_id=self._lease.worker_id,
            name=self.name,
            queues=self._queues,
            free=free,
            chunks=chunks,
            cuts=cuts,
            progress=[(*e.key, e.report.progress, e.report.message) for e in over if e.report.changed],
            outcomes=[outcome for _, outcome in self._over],
            sequences={e.claimed.sequence_run_id for e in over if e.claimed.sequence_run_id is not None},
            events=self._events,
            known={*self._live, *(e.key for e in over)},
            definitions=self._definitions,
            uncertain=self._uncertain,
        )

    def _stored(self, turn: Turn) -> None:
        """The turn's outcomes are durable: forget their executions."""
        gone = self._over[: len(turn.outcomes)]
        self._over = self._over[len(turn.outcomes) :]
        self._events = []
        self._forget([execution for execution, _ in gone])

    def _forget(self, executions: Sequence[Execution]) -> None:
        if executions:
            self._guardian.ended([e.marker for e in executions])
        for execution in executions:
            if execution.process is not None:
                self._watcher.remove(execution.process)
            execution.close()

    def _begin(self, claims: Sequence[Claimed]) -> None:
        """Start the programs of fresh claims. The guardian hears of each before it exists and when it does."""
        if not claims:
            return
        fresh = []
        for claimed in claims:
            definition = self._definitions[claimed.job, claimed.job_version]
            assert isinstance(definition, Job)
            fresh.append(Execution(claimed, definition, self._who.token, self._spool.path))
        try:
            self._spool.ensure()
            self._guardian.about_to_start([e.marker for e in fresh])
        except (StartError, OSError) as error:
            for execution in fresh:
                execution.refuse(str(error))
        for execution in fresh[room_for_programs() :]:
            execution.refuse(NO_ROOM)
        checkpoint("guardian_told")
        for execution in fresh:
            # Whoever slept through the end of the lease since the claim starts nothing: the run is another's by now.
            if self._lease.is_trusted():
                execution.begin()
            checkpoint("spawned")
            if execution.process is not None:
                self._watcher.add(execution.process)
            self._live[execution.key] = execution
        self._guardian.started([(e.marker, e.process.pid) for e in fresh if e.process is not None])
        checkpoint("started")

    def _read_queues(self) -> None:
        known = self._queues_known
        try:
            pools = (*self._who.pools, store.SEQUENCE_QUEUE)
            self._queues = self._db.query(leases.fitting_queues, pools, self._who.labels, patience=1.0)
            self._queues_read = known
        except Unreachable as error:
            log.warning("queues not read", action="turn_failed", reason=str(error))

    # Other workers' deaths, losing the lease, and leaving

    def _settle_dead(self) -> None:
        """Give back what dead workers held. Their programs on this machine end before that, whatever has survived."""
        self._overdue = False  # the next heartbeat says whether there is more
        try:
            self._spool.settle_dead(self._db)
            self._db.transact(self._expire, patience=1.0)
        except (Unreachable, OSError) as error:
            log.warning("the dead are not settled", action="expire_failed", reason=str(error))
        self._more = True

    def _expire(self, conn: sa.Connection) -> None:
        sequences.settle(conn, leases.expire(conn, self.name), self.name)

    def _start_anew(self) -> None:
        """The lease is lost: nothing that runs here counts any more. Store what ended in time, register afresh."""
        if time.monotonic() < self._not_before:
            return
        self._lease.check()
        self._on_lost()
        in_time = [execution for execution in self._live.values() if execution.ended_in_time]
        for execution in in_time:
            if execution.shipping.acquire(blocking=False):
                self._gather(execution)
        if any(not e.is_over() or e.ended_in_time for e in self._live.values()):
            self._not_before = time.monotonic() + 0.02
            return
        former = self._lease.worker_id
        turn = self._compose(free=0)
        why = "its worker could not renew its lease in time and ended it"
        turn.events += [Event(*key, "fenced", self.name, why) for key in self._live]

        def settle(conn: sa.Connection) -> None:
            finished = turn.save(conn)
            sequences.settle(conn, finished + leases.expire(conn, self.name, only=former), self.name)

        try:
            self._register(settle)
        except Unreachable as error:
            log.warning("cannot register", action="register_failed", reason=str(error))
            self._not_before = time.monotonic() + TRY_AGAIN
            if self._drain_until is None or time.monotonic() < self._drain_until:
                return
            # Told to leave, and nobody to tell of what ended: the expiry of the lease will give those runs back.
            self._forget([*self._live.values(), *(execution for execution, _ in self._over)])
            self._live.clear()
            self._over.clear()
            return
        log.info("registered anew", action="worker_registered", worker=self.name, id=self._lease.worker_id)
        self._stored(turn)
        self._forget(list(self._live.values()))
        self._live.clear()
        self._stops = []
        self._uncertain = False
        self._more = True

    def _register(self, first: Callable[[sa.Connection], None]) -> None:
        """Register after ``first``, in one transaction, and trust the lease from the moment that it was asked for."""
        sent = 0.0

        def work(conn: sa.Connection) -> int:
            nonlocal sent
            sent = clock()
            first(conn)
            return leases.register(conn, self._who, self._settings.lease)

        worker_id = self._db.transact(work, patience=5.0)
        self._lease.adopt(worker_id, sent)
        self._notice.worker_id = worker_id

    def _leave(self) -> None:
        for execution in self._live.values():  # only when an error ended the loop
            execution.ask_to_stop(Stop.NOW)
        self._on_lost()
        self._notice.close()
        self._shipper.close()
        try:
            self._db.transact(self._say_goodbye, patience=3.0)
        except Unreachable as error:
            log.warning("left without goodbye", action="leave_failed", reason=str(error))
        self._lease.close()
        self._guardian.close()
        self._watcher.close()
        self._spool.close()
        log.info("worker left", action="worker_left", worker=self.name)

    def _say_goodbye(self, conn: sa.Connection) -> None:
        sequences.settle(conn, leases.leave(conn, self._lease.worker_id), self.name)
