"""The worker: claims, runs and finishes. One turn of its loop stores new outcomes and claims runs for free slots.

Threads: the loop, and one for its transactions (``loop.database``); the heartbeat and its watchdog (``lease``); the
poller; those for output (``shipping``, ``keeper``); where files start jobs, the one that watches for them (``files``).
They send messages to the loop through its ``Inbox``. The guardian is a separate process.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

import sqlalchemy as sa

from jobfac.database.dialects import Survey, WorkSignal
from jobfac.database.engine import Database
from jobfac.definitions import AnyJob, DefinitionError
from jobfac.errors import DatabaseDamaged, JobfacError, Unreachable
from jobfac.programs import ExitWatcher, Guardian, become_subreaper
from jobfac.settings import Settings
from jobfac.store.workers import Beat, LeaseLost, MachineLoad
from jobfac.telemetry.metrics import Metric
from jobfac.telemetry.worker import WorkerTelemetry
from jobfac.worker.executions.deliveries import events_of_fenced
from jobfac.worker.executions.filling import match_patterns, with_slow_patterns
from jobfac.worker.executions.held import Executions
from jobfac.worker.executions.old_files import OldFiles
from jobfac.worker.failpoints import failpoint
from jobfac.worker.files.watcher import FileWatcher
from jobfac.worker.health import Health
from jobfac.worker.identity import registration
from jobfac.worker.lease import Lease, register
from jobfac.worker.load import LoadLimits, measure
from jobfac.worker.loop.agenda import Agenda
from jobfac.worker.loop.database import LoopDatabase
from jobfac.worker.loop.expiring import expire_dead
from jobfac.worker.loop.inbox import Inbox
from jobfac.worker.loop.leaving import deregister, end_registration
from jobfac.worker.loop.phases import Phases
from jobfac.worker.loop.pulse import Pulse
from jobfac.worker.poller import WorkPoller
from jobfac.worker.queues import ServedQueues
from jobfac.worker.shipping import Shipper
from jobfac.worker.spool_folder import SpoolFolder
from jobfac.worker.turn import Turn, TurnRequest, move_on

IDLE_INTERVAL = 5.0
"""Longest time in seconds that the loop waits for an event."""

RETRY_INTERVAL = 0.25
"""Seconds until the worker retries a turn that failed."""


class Worker:
    """One worker process. ``run`` returns when it is drained. Any thread or signal handler may call ``drain``.

    Only the loop writes the fields. Other threads send messages through ``_inbox``. They may also call the methods of
    ``_held``, ``_lease`` and ``_telemetry`` that are documented as safe for other threads.
    """

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
        self._who = registration(name, slots, pools, labels)
        self._definitions: dict[tuple[str, int], AnyJob | DefinitionError] = {}
        self._agenda = Agenda(settings.heartbeat)
        self._phases = Phases()
        self._pulse = Pulse()
        self._health = Health(self._log)
        self._limits = LoadLimits(settings.max_cpu_pressure, settings.min_free_memory)
        self._guardian = Guardian()
        self._watcher = ExitWatcher()
        self._inbox = Inbox(self._watcher.wake)
        self._spool = SpoolFolder(settings.spool_folder(), self._who.token, name)
        self._held = Executions(
            self._spool, self._guardian, self._watcher, self._telemetry, OldFiles(settings, self._log),
            lambda: self._lease.is_trusted(), self._pulse.beat, self._health, settings,
        )  # fmt: skip
        # A worker that loses its lease kills its programs before another worker may start their runs again.
        self._database = LoopDatabase(db, self._pulse, self._obey, lambda: bool(self._held.live))
        self._queues = ServedQueues(self._database, self._who, self._log)
        self._lease = Lease(db, self._who, settings, self._guardian, self._on_beat, self._held.kill, self._pulse.age)
        self._poller = WorkPoller(db, settings, name, self._on_found, self._on_survey)
        self._files = FileWatcher(db, settings, name, pools)
        self._shipper = Shipper(db, settings.ship_interval, name, self._held.keeper, self._watcher.wake)

    # Called from other threads and from signal handlers
    def drain(self, limit: float | None = None, *, gives_up: bool = False) -> None:
        """Stop claiming; requeue what runs after ``limit`` seconds (None: as set). ``gives_up``: see ``Phases``."""
        self._inbox.put_drain(time.monotonic() + (self._settings.drain_limit if limit is None else limit), gives_up)

    def _on_beat(self, beat: Beat, load: MachineLoad) -> None:
        self._inbox.put_load(self._limits.exceeded(load))
        self._inbox.put_beat(beat)

    def _on_survey(self, survey: Survey) -> None:
        if survey.token != self._who.token:  # a restored database has given the id away
            return self._lease.lose(self._poller.worker_id, "another worker has this worker's id")
        self._files.noticed(survey.watches)
        return self._inbox.put_survey(survey, self._held.number())

    def _on_found(self, found: WorkSignal) -> None:
        if found & WorkSignal.WORK:
            self._inbox.put_work(reported=True)

    @property
    def running(self) -> int:
        """Number of programs that run on this worker. Safe for any thread, and without locks for signal handlers."""
        return sum(one.process is None or one.process.exit is None for one in self._held.living())

    @property
    def unstored(self) -> int:
        """Number of outcomes that wait for the database. Safe for any thread."""
        return self._held.number() - self.running

    def metrics(self) -> list[Metric]:
        """The current metrics of this worker. Safe for any thread."""
        return [
            Metric("gauge", "jobfac_worker_slots", "Maximum number of programs at once", self._who.slots),
            Metric("gauge", "jobfac_worker_running", "Running programs", self.running),
            Metric("gauge", "jobfac_worker_spool_bytes", "Disk space of the spool folder", self._held.keeper.size()),
            *self._lease.metrics(), *self._telemetry.metrics(),
        ]  # fmt: skip

    # The loop
    def run(self) -> None:
        """Claim and execute runs until the worker is drained.

        Raises:
            Unreachable: at the start, the database did not answer or has another schema version.
            DatabaseReplaced: the database file was deleted or replaced. The worker has killed its programs.
            DatabaseDamaged: the database file is damaged. The worker has drained.
            StartError: the spool's folder cannot be used.
        """
        self._db.check_schema()
        become_subreaper()
        self._spool.clear_dead(self._db)
        self._spool.begin()
        self._guardian.start()
        self._inbox.put_load(self._limits.exceeded(measure()))
        self._register(lambda conn: None)
        for one in (self._lease, self._shipper, self._held.keeper, self._poller, self._database):
            one.start()
        self._log.info("worker started", action="worker_started", id=self._lease.worker_id)
        try:
            while not self._is_done():
                self._db.dialect.check_file()
                limit = self._settings.drain_limit if self._held.live else 0.0
                self._database.drain_if_damaged(self._phases, limit, self._log)
                self._iterate()
            self._db.damage.check()
        finally:
            with self._pulse.waiting():
                self._shut_down()

    def _iterate(self) -> None:
        """Do what is due, then wait for the next timer, message or program exit."""
        self._pulse.beat()
        self._read_inbox()
        if self._health.recheck(self._spool.path, time.monotonic()):
            self._agenda.more = True
        due = self._tick()
        if not self._lease.is_trusted():
            self._register_again()
        elif time.monotonic() >= self._agenda.not_before and self._has_to_act():
            if self._agenda.overdue:
                self._expire_dead()
            self._turn()
            due = self._tick()
        for _ in self._watcher.wait(self._until_next_timer(due)):
            failpoint("exited")

    def _read_inbox(self) -> None:
        messages = self._inbox.take()
        for until in messages.drains:
            self._phases.signal(until, messages.gives_up)
        self._health.leaves(still_runs=self._phases.is_signalled and bool(self._held.live))
        self._agenda.more |= self._phases.follow(messages.state, time.monotonic() + self._settings.drain_limit)
        if messages.overload is not None:
            self._health.loaded(messages.overload)
        self._agenda.absorb(messages, time.monotonic())

    def _is_done(self) -> bool:
        stores = self._lease.is_trusted() and self._phases.stores_rest(time.monotonic())
        is_busy = self._held.live or self._held.over or (stores and self._held.keeper.is_storing())
        return self._phases.is_leaving and not is_busy

    def _free(self) -> int:
        """Return for how many slots the worker may claim runs."""
        if self._phases.is_leaving or self._held.claims_nothing() or not self._health.starts(1):
            return 0
        return max(0, self._who.slots - self._held.slots())

    def _has_to_act(self) -> bool:
        to_store = self._agenda.has_to_store(self._held.unstored, time.monotonic()) or self._held.has_to_look()
        return self._agenda.has_to_act(self._free(), to_store or self._health.to_show() is not None)

    def _until_next_timer(self, due: float | None) -> float:
        """Seconds until the next timer."""
        now, end = time.monotonic(), self._phases.drain_until
        acts = self._has_to_act() or not self._lease.is_trusted()
        times = (
            now + min(IDLE_INTERVAL, self._settings.lease / 4), due, self._health.retry_at, self._agenda.look_at,
            self._agenda.wakes_at(acts), now if self._is_done() else end if end is not None and end > now else None,
        )  # fmt: skip
        return max(0.0, min(at for at in times if at is not None) - now)

    def _tick(self) -> float | None:
        """Apply timeouts and stop requests to the executions; returns when to call this again (monotonic seconds)."""
        return self._held.tick(self._agenda.stops, requeue=self._phases.is_drain_over(time.monotonic()))

    def _obey(self) -> None:
        """Enforce timeouts and stop requests while the loop waits for the database."""
        self._read_inbox()
        self._held.enforce(self._agenda.stops, requeue=self._phases.is_drain_over(time.monotonic()))

    def _turn(self) -> None:
        agenda = self._agenda
        reported, doubtful = agenda.begin_turn()
        if (number := agenda.queues_to_read) is not None and self._queues.read():
            agenda.queues_read(number)
        free = self._free()
        most = self._health.starts(self._health.room(free, len(self._held.live), time.monotonic()))
        request = self._compose(free, most, doubtful)
        failpoint("outcome_in_hand" if request.deliveries.outcomes else "gathered")
        began, clock_began = time.time_ns(), time.monotonic()
        try:
            result = self._database.transact((turn := Turn(request, self._definitions)).take, retry_for=1.0)
        except LeaseLost as error:
            agenda.uncertain |= turn.was_tried
            self._lease.lose(request.worker_id, str(error))
            return
        except Unreachable as error:
            self._log.outage("turn failed", action="turn_failed", reason=str(error))
            agenda.turn_failed(doubtful, time.monotonic() + RETRY_INTERVAL)
            self._give_up(isinstance(error, DatabaseDamaged))
            return
        failpoint("committed")
        self._health.shown(request.message)
        self._telemetry.turned(len(result.claimed), time.monotonic() - clock_began, len(result.left))
        self._held.stored(result.left)
        agenda.turn_left(self._held.unstored, time.monotonic())
        self._give_up(in_vain=False)  # what the turn has left
        self._held.abandon(result.unowned)
        if slow := with_slow_patterns(result.claimed, self._definitions):
            self._database.do(partial(match_patterns, slow, self._definitions))
        with suppress(OSError):  # then nothing starts
            self._database.do(partial(self._spool.end_fenced, result.fenced))
        self._held.begin(result.claimed, self._definitions, began, result.usual)
        agenda.more |= self._held.found_waiting(result.waiting, is_single=agenda.fair.fleet <= 1)
        moves = result.moves or self._db.sequences.is_unfinished
        moved = self._database.do(partial(move_on, self._db, self.name, result, self._log)) if moves else 0
        taken = sum(one.weight for one in result.claimed)
        is_empty = agenda.turn_done(len(result.claimed), taken >= free or len(result.claimed) >= most)
        agenda.look_at = agenda.fair.claimed(result.share, free, taken, time.monotonic())
        if is_empty and moved:
            agenda.more = True
        elif is_empty and agenda.look_at is None:
            self._poller.arm(self._queues.names, in_vain=reported and not result.claimed)
        else:
            self._poller.disarm()

    def _compose(self, free: int, most: int, doubtful: bool = False) -> TurnRequest:
        return TurnRequest(
            worker_id=self._lease.worker_id, name=self.name, queues=self._queues.slots, closed=self._queues.closed,
            free=free, most=most, doubtful=doubtful, deliveries=self._held.deliveries(), message=self._health.to_show(),
            uncertain=self._agenda.uncertain, fair=self._agenda.fair.must_look(time.monotonic()),
            alone=self._agenda.fair.fleet <= 1, token=self._who.token, patient=self._agenda.patient,
            suspicion=self._held.isolation.suspicion,
        )  # fmt: skip

    def _give_up(self, in_vain: bool) -> None:
        """Leave with outcomes that are not stored, if this was requested or they never can be (``in_vain``)."""
        if all(one.is_over() for one in self._held.living()) and self._phases.is_giving_up(time.monotonic(), in_vain):
            self._held.forget_all()  # the lease may last

    def _expire_dead(self) -> None:
        self._agenda.overdue = False  # the next heartbeat sets this if there are more
        self._agenda.orphans = expire_dead(self._database, self._db, self._spool, self._telemetry, self._settings)
        self._agenda.more = True

    def _register_again(self) -> None:
        """After the lease is lost: kill all programs, store the outcomes that came in time, and register again."""
        self._lease.check()  # it may find that nobody can have ended the lease
        if time.monotonic() < self._agenda.not_before or self._lease.is_trusted():
            return
        if self._phases.fence():
            self._db.close()  # its connections may be dead without a word: each would cost a minute
        self._held.kill()
        if not self._held.gather_in_time(self._phases.fenced_at):
            self._agenda.not_before = time.monotonic() + 0.02
            return
        why = "its worker could not renew its lease in time"
        fenced = events_of_fenced(self._held.living(), self.name, why)
        request = self._compose(free=0, most=0)
        request = replace(request, deliveries=replace(request.deliveries, events=[*self._held.events, *fenced]))
        try:
            self._register(partial(end_registration, request=request, token=self._who.token))
        except Unreachable as error:
            self._log.outage("cannot register", action="register_failed", reason=str(error))
            self._agenda.not_before = time.monotonic() + RETRY_INTERVAL
            if self._phases.is_giving_up(time.monotonic(), isinstance(error, DatabaseDamaged) or not self._held.over):
                self._held.forget_all()
            return
        self._log.info("registered again after a lost lease", action="worker_registered", id=self._lease.worker_id)
        self._held.stored()
        self._held.fence(why)
        self._health.shown("")
        self._agenda.registered()
        self._phases.registered()

    def _register(self, first: Callable[[sa.Connection], None]) -> None:
        """Call ``first`` and register, in one transaction. The lease is trusted from the request that registers."""
        with self._pulse.waiting(), self._database.unknown_is_outage():
            worker_id, sent = register(self._db, self._who, self._settings, first)
        self._lease.adopt(worker_id, sent)
        self._poller.worker_id = worker_id

    def _shut_down(self) -> None:
        self._held.kill()
        for thread in (self._poller, self._files, self._shipper):
            thread.close()
        self._held.forget_all()  # after an error in the loop there are some
        self._held.keeper.close()
        self._lease.leave()
        unknown = sys.exc_info()[1]  # after one, its runs count as lost when its lease expires: one may have caused it
        try:
            if not isinstance(unknown, Exception) or isinstance(unknown, JobfacError):
                self._db.transact(deregister, self._compose(free=0, most=0), self._who.token, retry_for=3.0)
        except Exception as error:  # its runs are requeued when its lease expires
            is_unknown = not isinstance(error, Unreachable)
            self._log.warning("cannot deregister", action="deregister_failed", reason=str(error), exc_info=is_unknown)
        for one in (self._database, self._lease, self._guardian, self._watcher, self._spool, self._telemetry):
            one.close()
        self._phases.leave()
        self._log.info("worker stopped", action="worker_stopped")
