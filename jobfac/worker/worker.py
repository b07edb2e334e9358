"""The worker: claim, run, finish. One turn of its loop stores the outcomes that came in and claims for the freed slots.

Threads: this loop; the heartbeat and its watchdog (``lease``); one that waits for work (``notice``); one that ships
output (``shipping``). They meet in ``ExitWatcher.wake``. Beside them runs the guardian process.
"""

import os
import platform
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version

import sqlalchemy as sa

from jobfac.database.dialects import Found, Survey
from jobfac.database.engine import Database
from jobfac.definitions import AnyJob
from jobfac.errors import Unreachable
from jobfac.programs import ExitWatcher, Guardian, become_subreaper
from jobfac.programs.guardian import clock
from jobfac.settings import Settings
from jobfac.states import Stop, WorkerState
from jobfac.store import jobs, runs, sequences, workers
from jobfac.store.runs.event import Event
from jobfac.store.workers import Beat, LeaseLost, Registration
from jobfac.telemetry.metrics import Metric
from jobfac.telemetry.worker import WorkerTelemetry
from jobfac.worker.executions import Executions
from jobfac.worker.failpoints import failpoint
from jobfac.worker.lease import Lease
from jobfac.worker.old_files import OldFiles
from jobfac.worker.poller import WorkPoller
from jobfac.worker.shipping import Shipper
from jobfac.worker.spool_folder import SpoolFolder
from jobfac.worker.turn import Turn

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
        self._telemetry = WorkerTelemetry(name)
        self._log = self._telemetry.log
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
        self._definitions: dict[tuple[str, int], AnyJob] = {}
        self._queues: list[str] = []
        self._queues_known = 0  # how many there are; when that changes, read them
        self._queues_read = -1
        self._uncertain = False  # an answer was lost: the database may hold claims for us that we do not know of
        self._doubtful = False  # the database says that we hold another number of runs than we know of
        self._doubt_again = 0.0  # when a difference is looked into again
        self._more = True  # there may be work to claim
        self._was_told = False  # the poller found work, and no turn has come of it yet
        self._not_before = 0.0  # when the database may be bothered again
        self._drain_until: float | None = None
        self._stops: list[tuple[int, int, str]] = []
        self._overdue = False  # somebody's lease has ended and nobody has settled it yet
        self._guardian = Guardian()
        self._watcher = ExitWatcher()
        self._spool = SpoolFolder(settings.spool_folder(), self._who.token, name)
        self._held = Executions(
            self._spool, self._guardian, self._watcher, self._telemetry, OldFiles(settings, self._log),
            lambda: self._lease.is_trusted(),
        )  # fmt: skip
        # Before anyone else may start its runs again, a worker without a lease ends their programs.
        self._lease = Lease(db, self._who, settings, self._guardian, self._on_beat, self._held.kill)
        self._poller = WorkPoller(db, settings, name, self._on_found, self._on_survey)
        self._shipper = Shipper(db, settings.ship_interval, name, self._held.living, self._watcher.wake)

    # Called from other threads and from signal handlers

    def drain(self, limit: float | None = None) -> None:
        """Claim nothing more, let runs finish for ``limit`` seconds (default: the setting), then give them back."""
        until = time.monotonic() + (self._settings.drain_limit if limit is None else limit)
        self._drain_until = until if self._drain_until is None else min(until, self._drain_until)
        self._watcher.wake()

    def _on_beat(self, beat: Beat) -> None:
        self._overdue = beat.expiry <= 0
        if self._overdue:
            self._watcher.wake()

    def _on_survey(self, survey: Survey) -> None:
        if survey.state == WorkerState.DRAINING and self._drain_until is None:
            self.drain()
        wake = bool(survey.stops)
        self._stops = survey.stops
        if survey.queues != self._queues_known:
            self._queues_known = survey.queues
            self._more = wake = True
        # Between a turn's commit and what follows from it here they differ, too; then the next turn looks in vain.
        if survey.held != self._held.number() and time.monotonic() >= self._doubt_again:
            self._doubt_again = time.monotonic() + self._settings.heartbeat
            self._doubtful = wake = True
        if wake:
            self._watcher.wake()

    def _on_found(self, found: Found) -> None:
        if found & Found.WORK:
            self._more = self._was_told = True
            self._watcher.wake()

    def metrics(self) -> list[Metric]:
        """What is known of this worker now; from any thread."""
        return [
            Metric("gauge", "jobfac_worker_slots", "Programs it runs at once", self._who.slots),
            Metric("gauge", "jobfac_worker_running", "Programs that it runs", len(self._held.live)),
            Metric("gauge", "jobfac_worker_spool_bytes", "Output on its disk", self._spool.size()),
            *self._lease.metrics(),
            *self._telemetry.metrics(),
        ]

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
        for thread in (self._lease, self._shipper, self._poller):
            thread.start()
        self._log.info("worker started", action="worker_started", id=self._lease.worker_id)
        try:
            while not self._is_done():
                due = self._tick()
                if not self._lease.is_trusted():
                    self._start_anew()
                elif time.monotonic() >= self._not_before and self._has_to_act():
                    if self._overdue:
                        self._settle_dead()
                    self._turn()
                    due = self._tick()
                for process in self._watcher.wait(self._until_next_timer(due)):
                    process.poll()
                    failpoint("exited")
        finally:
            self._leave()

    def _is_done(self) -> bool:
        return self._drain_until is not None and not self._held.live and not self._held.over

    def _free(self) -> int:
        return 0 if self._drain_until is not None else self._who.slots - len(self._held.live)

    def _has_to_act(self) -> bool:
        return bool(self._held.over) or self._overdue or self._doubtful or self._wants_work()

    def _wants_work(self) -> bool:
        return (self._more or self._uncertain) and self._free() > 0

    def _until_next_timer(self, due: float | None) -> float:
        """Seconds until the loop has something to do of itself."""
        now = time.monotonic()
        times = [now + IDLE_LOOK]
        if due is not None:
            times.append(due)
        if self._is_done():
            times.append(now)
        if self._has_to_act() or not self._lease.is_trusted():
            times.append(self._not_before)
        if self._drain_until is not None and self._drain_until > now:
            times.append(self._drain_until)
        return max(0.0, min(times) - now)

    def _tick(self) -> float | None:
        """Let the executions obey the clock and the requests; returns when to look again (monotonic)."""
        requeue = self._drain_until is not None and time.monotonic() >= self._drain_until
        return self._held.tick(self._stops, requeue)

    def _turn(self) -> None:
        self._more = False  # before the claim: what comes after it sets this again
        was_told, self._was_told = self._was_told, False
        doubtful, self._doubtful = self._doubtful, False
        if self._queues_read != self._queues_known:
            self._read_queues()
        turn = self._compose(free=self._free(), doubtful=doubtful)
        failpoint("gathered")
        began, clock_began = time.time_ns(), time.monotonic()
        try:
            self._db.transact(turn.take, retry_for=1.0)
        except LeaseLost:
            self._lease.lost = True
            return
        except Unreachable as error:
            self._log.warning("turn failed", action="turn_failed", reason=str(error))
            self._uncertain = self._more = True
            self._doubtful = self._doubtful or doubtful
            self._not_before = time.monotonic() + TRY_AGAIN
            return
        failpoint("committed")
        self._uncertain = False
        self._telemetry.turned(len(turn.claimed), time.monotonic() - clock_began)
        self._held.stored(len(turn.outcomes))
        self._held.abandon(turn.unowned)
        self._held.begin(turn.claimed, self._definitions, began)
        moved = self._move_on(turn)
        if turn.free > len(turn.claimed) and moved:
            self._more = True
        elif turn.free > len(turn.claimed):
            self._poller.arm(self._queues, in_vain=was_told and not turn.claimed)
        else:
            self._more = turn.free > 0
            self._poller.disarm()

    def _move_on(self, turn: Turn) -> int:
        """Promote scheduled runs that are due and begin queued sequences, each in a transaction of its own; returns how
        many runs have moved."""
        moved = 0
        try:
            if turn.due:
                moved += self._db.transact(runs.promote_due, self.name, retry_for=0)
            if turn.begin and turn.state == WorkerState.ACTIVE:
                moved += self._db.transact(sequences.begin, self.name, retry_for=0).number
        except Unreachable as error:  # the next turn, or a scheduler, does it
            self._log.warning("runs not moved", action="move_failed", reason=str(error))
        return moved

    def _compose(self, free: int, doubtful: bool = False) -> Turn:
        return Turn(
            worker_id=self._lease.worker_id,
            name=self.name,
            queues=self._queues,
            free=free,
            definitions=self._definitions,
            uncertain=self._uncertain,
            doubtful=doubtful,
            **self._held.deliveries(),
        )

    def _read_queues(self) -> None:
        known = self._queues_known
        try:
            pools = (*self._who.pools, jobs.SEQUENCE_QUEUE)
            self._queues = self._db.query(workers.matching_queues, pools, self._who.labels, retry_for=1.0)
            self._queues_read = known
        except Unreachable as error:
            self._log.warning("queues not read", action="turn_failed", reason=str(error))

    # Other workers' deaths, losing the lease, and leaving

    def _settle_dead(self) -> None:
        """Give back what dead workers held. Their programs on this machine end before that, whatever has survived."""
        self._overdue = False  # the next heartbeat says whether there is more
        try:
            self._spool.settle_dead(self._db)
            self._telemetry.expired(self._db.transact(sequences.expire, self.name, retry_for=1.0))
        except (Unreachable, OSError) as error:
            self._log.warning("the dead are not settled", action="expire_failed", reason=str(error))
        self._more = True

    def _start_anew(self) -> None:
        """The lease is lost: nothing that runs here counts any more. Store what ended in time, register afresh."""
        if time.monotonic() < self._not_before:
            return
        self._lease.check()
        self._held.kill()
        if not self._held.gather_in_time():
            self._not_before = time.monotonic() + 0.02
            return
        former = self._lease.worker_id
        turn = self._compose(free=0)
        why = "its worker could not renew its lease in time and ended it"
        turn.events += [Event(*key, "fenced", self.name, why) for key in self._held.live]

        def settle(conn: sa.Connection) -> None:
            turn.lock_rules(conn)
            sequences.expire(conn, self.name, only=former, finished=turn.save(conn))

        try:
            self._register(settle)
        except Unreachable as error:
            self._log.warning("cannot register", action="register_failed", reason=str(error))
            self._not_before = time.monotonic() + TRY_AGAIN
            if self._drain_until is None or time.monotonic() < self._drain_until:
                return
            # Told to leave, and nobody to tell of what ended: the expiry of the lease will give those runs back.
            self._held.forget_all()
            return
        self._log.info("registered anew", action="worker_registered", id=self._lease.worker_id)
        self._held.stored(len(turn.outcomes))
        self._held.cut_off(why)
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
            return workers.register(conn, self._who, self._settings.lease)

        worker_id = self._db.transact(work, retry_for=5.0)
        self._lease.adopt(worker_id, sent)
        self._poller.worker_id = worker_id

    def _leave(self) -> None:
        for execution in self._held.living():  # only when an error ended the loop
            execution.ask_to_stop(Stop.NOW)
        self._held.kill()
        self._poller.close()
        self._shipper.close()
        try:
            self._db.transact(self._deregister, retry_for=3.0)
        except Unreachable as error:
            self._log.warning("left without goodbye", action="leave_failed", reason=str(error))
        self._lease.close()
        self._guardian.close()
        self._watcher.close()
        self._spool.close()
        self._telemetry.close()
        self._log.info("worker left", action="worker_left")

    def _deregister(self, conn: sa.Connection) -> None:
        sequences.settle(conn, workers.leave(conn, self._lease.worker_id), self.name)
