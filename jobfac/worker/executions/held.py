"""The executions that a worker holds: those under way, and those that have ended but are not stored yet."""

import random
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from jobfac.definitions import DefinitionError, Job
from jobfac.programs import ExitWatcher, Guardian, Places, Signals, StartError, kill_all
from jobfac.programs.children import children
from jobfac.programs.files.inquiry import no_answer
from jobfac.programs.guardian import clock
from jobfac.settings import Settings
from jobfac.states import Stop
from jobfac.store.runs import Outcome
from jobfac.store.runs.event import Event
from jobfac.store.workers import Claimed
from jobfac.store.workers.suspects import Waiting
from jobfac.telemetry.worker import WorkerTelemetry
from jobfac.views.waiting import SUSPECTED
from jobfac.worker.executions.deliveries import LAST_OUTPUT, MEMORY, Deliveries, events_of, events_of_stuck, gather
from jobfac.worker.executions.execution import Execution
from jobfac.worker.executions.filling import NONE, Definitions
from jobfac.worker.executions.lifecycle import KILL_ANSWERED, PATIENCE, Isolation, Stage
from jobfac.worker.executions.old_files import OldFiles
from jobfac.worker.failpoints import failpoint
from jobfac.worker.health import Health, machine_fault
from jobfac.worker.keeper import Keeper
from jobfac.worker.spool_folder import SpoolFolder

ANSWER = 10.0
"""Seconds within which the file systems of a job's directory, program and files, and the name services, answer."""

REPORT_READ = 128 * 1024
"""Bytes of reports that the loop reads in one tick. Reading them takes a few milliseconds."""


class Executions:
    """The executions of a worker. Only the worker's loop writes the fields.

    Other threads may call only ``living``, ``number`` and ``kill``.

    Attributes:
        live: executions under way, by run and attempt (the fence).
        over: ended executions, each with its outcome, which is not stored yet.
        events: other events for the next turn to record.
    """

    def __init__(
        self,
        spool: SpoolFolder,
        guardian: Guardian,
        watcher: ExitWatcher,
        telemetry: WorkerTelemetry,
        old_files: OldFiles,
        is_trusted: Callable[[], bool],
        on_progress: Callable[[], None],
        health: Health,
        settings: Settings,
    ) -> None:
        """
        Args:
            is_trusted: whether the lease is certainly valid now.
            on_progress: called after each start, because many starts take a long time.
        """
        self.live: dict[tuple[int, int], Execution] = {}
        self.over: list[tuple[Execution, Outcome]] = []
        self.events: list[Event] = []
        self._spool = spool
        self._guardian = guardian
        self._watcher = watcher
        self._telemetry = telemetry
        self._is_trusted = is_trusted
        self._on_progress = on_progress
        self._health = health
        self._settings = settings
        self.isolation = Isolation(settings.poison_attempts, random.uniform(*PATIENCE))
        self._places = Places(watcher.wake)
        self.keeper = Keeper(spool, old_files, self.living, lambda: self.over, watcher.wake, telemetry.log)
        self._signals = Signals()
        self._unanswered: dict[tuple[int, int], float] = {}  # until when they wait for an answer (monotonic)
        self._stored: deque[tuple[int, int]] = deque(maxlen=MEMORY)

    def number(self) -> int:
        """Return how many runs the database should count for this worker. Safe for any thread."""
        return len(self.live) + len(self.over)

    @property
    def unstored(self) -> int:
        """How many outcomes and events are not stored yet."""
        return len(self.over) + len(self.events)

    def slots(self) -> int:
        """How many slots the executions under way take."""
        return sum(one.claimed.weight for one in self.live.values())

    def living(self) -> list[Execution]:
        """Return the executions under way."""
        return list(self.live.values())

    def kill(self, until: float = 0.0) -> None:
        """Kill every program. Safe for any thread. ``until``: before it, on ``clock``, the guardian has killed none."""
        living = self.living()
        for execution in living if clock() < until else ():  # first record which have ended by themselves
            execution.ended_in_time = execution.is_over() and clock() < until
        kill_all([e.process for e in living if e.process is not None])
        self._watcher.wake()

    def begin(
        self, claims: Sequence[Claimed], definitions: Definitions, since: int, usual: Mapping[str, float]
    ) -> None:
        """Start the programs of new claims. A run suspected of killing its workers comes alone.

        Args:
            definitions: by job and version.
            since: when the claiming transaction began, in nanoseconds since the epoch.
            usual: by job, what it usually takes, in seconds.
        """
        if not claims:
            return
        prepared = []
        for claimed in claims:
            found = definitions[claimed.job, claimed.job_version]
            definition = found if isinstance(found, Job) else NONE
            variables = self._telemetry.begins(claimed, since)
            given = self._spool.token, self._spool.path, self._telemetry.log, variables, self._settings.report_limit
            prepared.append(Execution(claimed, definition, *given, usual.get(claimed.job), self._signals))
            if isinstance(found, DefinitionError):
                prepared[-1].fail_start(f"its definition cannot be read by this version of jobfac: {found}")
        self.live |= {execution.key: execution for execution in prepared}
        for one in claims:
            if (one.lost or 0) >= self.isolation.losses:
                self.isolation.begins(one.key, time.monotonic())
        self._start(prepared)
        self._show_isolation()

    def claims_nothing(self) -> bool:
        """Whether nothing may be claimed because of a suspected run, which has to run alone."""
        now = time.monotonic()
        return self.isolation.is_alone(now) or (bool(self.live) and self.isolation.makes_room(now))

    def found_waiting(self, waiting: Waiting, is_single: bool) -> bool:
        """Record which suspected runs wait; returns whether none did before. ``is_single``: no other worker lives."""
        are_new = bool(waiting.runs) and not self.isolation.waiting
        if self.isolation.found(waiting, is_single, time.monotonic()):
            runs = ", ".join(map(str, sorted(waiting.runs)))
            self._telemetry.log.warning("nothing is claimed", action="isolated", reason=f"run {runs}: {SUSPECTED}")
        self._show_isolation()
        return are_new

    def has_to_look(self) -> bool:
        """Whether to look now whether suspected runs still wait."""
        return self.isolation.look_at is not None and time.monotonic() >= self.isolation.look_at

    def _show_isolation(self) -> None:
        now = time.monotonic()
        self._health.isolates(self.isolation.is_alone(now) or self.isolation.makes_room(now))

    def _start(self, fresh: Sequence[Execution]) -> None:
        """Start programs. The guardian is notified of each before the start, and again after it."""
        fresh = [one for one in fresh if one.stage == Stage.PREPARED and self._answers(one)]
        if not fresh:
            return
        try:
            self._spool.end_fenced()
            self._spool.ensure()
            self._guardian.about_to_start([e.marker for e in fresh])
        except (StartError, OSError) as error:
            self._note_fault(machine_fault(error, self._spool.path) or str(error), str(error), fresh)
            fresh = []
        failpoint("guardian_notified")
        for number, execution in enumerate(fresh):
            # The worker may have been frozen since the claim. Without a lease, another worker may own the run by now.
            if not self._is_trusted():
                execution.requeue("its worker lost its lease")
            elif fault := execution.begin():
                self._note_fault(fault, fault, fresh[number + 1 :])
                break
            failpoint("spawned")
            if execution.process is not None:
                self._health.started()
                self._watcher.add(execution.process)
            self._on_progress()
        self._guardian.started([(e.marker, e.process.pid) for e in fresh if e.process is not None])
        failpoint("started")

    def _answers(self, execution: Execution) -> bool:
        """Whether all that a start waits for answers. If not, the start waits, and ``tick`` starts it later."""
        silent = self._places.silent(execution.places())
        if silent is None:
            self._unanswered.pop(execution.key, None)
            return True
        if (now := time.monotonic()) >= self._unanswered.setdefault(execution.key, now + ANSWER):
            execution.fail_start(no_answer(silent, ANSWER))
        return False

    def _start_answered(self) -> float | None:
        """Start the programs whose file systems answer now; returns when the next one has waited long enough."""
        for key in list(self._unanswered):
            execution = self.live.get(key)
            if execution is not None and execution.stage == Stage.PREPARED:
                self._start([execution])
            if execution is None or execution.stage != Stage.PREPARED:
                self._unanswered.pop(key, None)
        return min(self._unanswered.values(), default=None)

    def _note_fault(self, what: str, why: str, others: Iterable[Execution]) -> None:
        """Record a fault of the machine, and requeue the runs that were to start next."""
        self._health.fault(what, time.monotonic())
        for execution in others:
            execution.requeue(why)

    # While they run
    def tick(self, stops: Iterable[tuple[int, int, str]], requeue: bool) -> float | None:
        """Apply timeouts and stop requests, gather ended executions; returns when to call it again (monotonic).

        Args:
            stops: runs to stop, as (run, attempt, how).
            requeue: stop and requeue every run.
        """
        now = time.monotonic()
        self.keeper.remove_shipped()
        self._request_stops(stops, requeue)
        due = self._start_answered()
        room = REPORT_READ
        for execution in self.living():
            next_time = execution.tick(now, self._places)
            self.events += events_of(execution, now, self._telemetry.worker)
            if execution.is_over() and self._is_trusted():
                before = execution.report.taken
                if self._gather(execution, room):
                    due = now
                room -= execution.report.taken - before
            elif next_time is not None:
                due = next_time if due is None else min(due, next_time)
        if self._send_signals():
            due = now + Signals.PAUSE if due is None else min(due, now + Signals.PAUSE)
        self._show_isolation()
        return self.isolation.wakes_at(due, now)

    def _send_signals(self) -> bool:
        """Send the signals of this turn; returns whether to repeat it, as the machine cannot show its processes."""
        self._signals.send()
        if error := children.take_fault():
            self._health.fault(machine_fault(error, self._spool.path) or str(error), time.monotonic())
        return self._signals.is_incomplete

    def _request_stops(self, stops: Iterable[tuple[int, int, str]], requeue: bool) -> None:
        for process in [one.process for one in self.live.values() if one.process is not None]:
            process.poll()  # all of them, before the first look at what programs have left
        for run_id, attempt, how in stops:
            if execution := self.live.get((run_id, attempt)):
                execution.request_stop(Stop(how))
        if requeue:
            for execution in self.live.values():
                execution.request_stop(Stop.POLITE, requeue=True)

    def enforce(self, stops: Iterable[tuple[int, int, str]], requeue: bool) -> None:
        """Apply timeouts and stop requests, as ``tick`` does, but gather nothing.

        The loop calls it while a transaction of its own uses the lists of executions and events.
        """
        self._request_stops(stops, requeue)
        for execution in self.live.values():
            execution.tick(time.monotonic(), self._places)
        self._send_signals()

    def _gather(self, execution: Execution, room: int) -> bool:
        """Take the outcome of an ended execution. ``room``: maximum bytes of its report to read.

        Returns True if its report has more to read; then call this again after the others. Does nothing while the
        machine cannot read it, or another thread reads it or stores its output. That thread wakes the loop.
        """
        if execution.unread() > LAST_OUTPUT:
            return False
        if not (is_read := self.keeper.read_report(execution, max(0, room))):
            return is_read is False
        self.over.append((execution, execution.outcome(random.random())))
        del self.live[execution.key]
        return False

    def abandon(self, unowned: Iterable[tuple[int, int]]) -> None:
        """Kill executions that the database does not count for this worker.

        Their results will be discarded. A run that belongs to this worker again by then is requeued.
        """
        for key in unowned:
            if execution := self.live.get(key):
                self._telemetry.fenced(execution.log, execution.key, "the database does not know that it runs here")
                execution.request_stop(Stop.NOW, requeue=True)

    # Storing and ending

    def deliveries(self) -> Deliveries:
        """Return the data that the next turn has to store."""
        live = {key: one.claimed.identity for key, one in self.live.items()}
        return gather(self.over, self.events, live, self._stored)

    def stored(self, left: Collection[int] = ()) -> None:
        """Forget the outcomes and events, because they are stored, but those of the runs ``left``."""
        gone = [one for one in self.over if one[1].run_id not in left]
        self.over = [one for one in self.over if one[1].run_id in left]
        self.events = [one for one in self.events if one.run_id in left]
        for execution, outcome in gone:
            self._stored.append(execution.key)
            self._telemetry.ended(execution.log, outcome)
        self._forget([execution for execution, _ in gone], self.keeper.remove)

    def gather_in_time(self, fenced_at: float) -> bool:
        """After a lost lease: gather those that ended before the loss, and those that never began, whose runs go back.
        True when no other is alive, unless it is stuck in the kernel: one that may not be signalled works on."""
        for execution in self.living():
            if execution.process is None and not execution.is_over():
                execution.requeue("its worker lost its lease")
            if execution.process is None or execution.ended_in_time:
                self._gather(execution, REPORT_READ)
        if in_vain := time.monotonic() - fenced_at > KILL_ANSWERED:
            self.events += events_of_stuck(self.living(), self._telemetry.worker)
        gone = (e.process and (e.is_over() or (in_vain and not e.process.refuses)) for e in self.living())
        return all(gone) and not any(e.ended_in_time for e in self.living())

    def fence(self, why: str) -> None:
        """Give up the executions left after a lost lease, but not their output. Others may own their runs by now."""
        for execution in self.living():
            self._telemetry.fenced(execution.log, execution.key, why)
        self._forget(self.living(), self.keeper.fence)
        self.live.clear()

    def forget_all(self) -> None:
        """Forget everything, stored or not. The runs are requeued or end as lost when the worker's lease ends."""
        for execution, outcome in self.over:
            execution.log.error("outcome not stored", action="outcome_not_stored", state=outcome.state)
        for execution in filter(Execution.is_over, self.living()):  # while its output waits for the database
            execution.log.error("outcome not stored", action="outcome_not_stored")
        given_up = [*self.living(), *(execution for execution, _ in self.over)]
        self._stored.extend(execution.key for execution in given_up)  # so these are no claims whose answers were lost
        self._forget(given_up, self.keeper.leave)
        self.live.clear()
        self.over.clear()

    def _forget(self, executions: Sequence[Execution], leave_to: Callable[[Sequence[Execution]], None]) -> None:
        if executions:
            self._guardian.ended([e.marker for e in executions])
        self.isolation.forget(e.key for e in executions)
        for execution in executions:
            if execution.process is not None:
                self._watcher.remove(execution.process)
        leave_to(executions)
