"""The executions that a worker holds: those under way, and those that have ended and are not stored yet."""

import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from jobfac.definitions import AnyJob, Job
from jobfac.programs import ExitWatcher, Guardian, StartError, kill_all
from jobfac.settings import Settings
from jobfac.states import Stop
from jobfac.store import output
from jobfac.store.runs import Outcome
from jobfac.store.runs.event import Event
from jobfac.store.workers import Claimed
from jobfac.telemetry.worker import WorkerTelemetry
from jobfac.worker.executions.execution import Execution
from jobfac.worker.executions.lifecycle import Stage
from jobfac.worker.executions.old_files import OldFiles
from jobfac.worker.failpoints import failpoint
from jobfac.worker.health import Health, machine_fault
from jobfac.worker.spool_folder import SpoolFolder
from jobfac.worker.turn import Deliveries

LAST_OUTPUT = 1024 * 1024
"""Bytes of an execution's output that are stored with its outcome; what is longer is shipped before, in pieces."""

MEMORY = 1000
"""How many stored executions to remember, to recognise a repeated claim."""

REPORT_READ = 128 * 1024
"""Bytes of reports that the loop reads before it looks after the other executions again: a few milliseconds."""


def is_suspected(claimed: Claimed, poison_attempts: int) -> bool:
    """Whether a run may be what killed its workers: one more death, and it is not tried again."""
    return (claimed.lost or 0) >= max(1, poison_attempts - 1)


class Executions:
    """Owned by the worker's loop, which alone writes its fields. Other threads call only ``living``, ``number`` and
    ``kill``.

    Attributes:
        live: by run and attempt, the fence that names an execution.
        over: ended, with the outcome that is not stored yet.
        events: what else the next turn is to record.
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
            is_trusted: whether the lease certainly holds now.
            on_progress: called after each start: many take their time.
        """
        self.live: dict[tuple[int, int], Execution] = {}
        self.over: list[tuple[Execution, Outcome]] = []
        self.events: list[Event] = []
        self._spool = spool
        self._guardian = guardian
        self._watcher = watcher
        self._telemetry = telemetry
        self._old_files = old_files
        self._is_trusted = is_trusted
        self._on_progress = on_progress
        self._health = health
        self._settings = settings
        self._suspected: set[tuple[int, int]] = set()
        self._stored: deque[tuple[int, int]] = deque(maxlen=MEMORY)

    def number(self) -> int:
        """How many runs the database should count for this worker; from any thread."""
        return len(self.live) + len(self.over)

    def living(self) -> list[Execution]:
        """The executions under way."""
        return list(self.live.values())

    def kill(self, in_time: bool = False) -> None:
        """End every program at once; from any thread. ``in_time``: note first which have ended by themselves."""
        living = self.living()
        for execution in living if in_time else ():
            execution.ended_in_time = execution.is_over()
        kill_all([e.process for e in living if e.process is not None])
        self._watcher.wake()

    # Beginning

    def begin(self, claims: Sequence[Claimed], definitions: Mapping[tuple[str, int], AnyJob], since: int) -> None:
        """Start the programs of new claims; a run whose workers died waits until it is alone.

        Args:
            definitions: by job and version.
            since: when the transaction that claimed them began, nanoseconds since the epoch.
        """
        if not claims:
            return
        prepared = []
        for claimed in claims:
            definition = definitions[claimed.job, claimed.job_version]
            assert isinstance(definition, Job)
            given = self._telemetry.begins(claimed, since)
            path, log, limit = self._spool.path, self._telemetry.log, self._settings.report_limit
            prepared.append(Execution(claimed, definition, self._spool.token, path, log, given, limit))
        suspected = [one for one in prepared if is_suspected(one.claimed, self._settings.poison_attempts)]
        self._suspected.update(one.key for one in suspected)
        for execution in prepared:
            self.live[execution.key] = execution
        self._start([one for one in prepared if one not in suspected])
        if self._start_suspected() is None:
            for execution in suspected:
                self._note_waiting(execution)

    def wants_to_be_alone(self) -> bool:
        """Whether a run is here beside which nothing may be executed."""
        return any(key in self.live for key in self._suspected)

    def _start_suspected(self) -> Execution | None:
        """If only suspected runs are here and none of them runs: start the first, and return it."""
        if not self._suspected or any(one.stage != Stage.PREPARED for one in self.live.values()):
            return None
        first = next(iter(self.live.values()), None)
        if first is not None:
            self._start([first])
        return first

    def _note_waiting(self, execution: Execution) -> None:
        why = "its workers died while it ran; it waits until nothing else runs on this worker"
        execution.log.warning("a run waits to be alone", action="run_isolated", reason=why)
        self.events.append(Event(*execution.key, "isolated", self._telemetry.worker, why))

    def _start(self, fresh: Sequence[Execution]) -> None:
        """Start programs. The guardian learns of each before it exists, and again when it does."""
        if not fresh:
            return
        try:
            self._spool.ensure()
            self._guardian.about_to_start([e.marker for e in fresh])
        except (StartError, OSError) as error:
            self._note_fault(machine_fault(error, self._spool.path) or str(error), str(error), fresh)
            fresh = []
        failpoint("guardian_told")
        for number, execution in enumerate(fresh):
            # The worker may have been frozen since the claim: without a lease the run may be another worker's by now.
            if not self._is_trusted():
                execution.give_back("its worker lost its lease")
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

    def _note_fault(self, what: str, why: str, others: Iterable[Execution]) -> None:
        """The machine lets nothing start: give back what was to start next, too."""
        self._health.fault(what, time.monotonic())
        for execution in others:
            execution.give_back(why)

    # While they run

    def tick(self, stops: Iterable[tuple[int, int, str]], requeue: bool) -> float | None:
        """Obey the clock and the requests to stop, gather what has ended; returns when to look again (monotonic).

        Args:
            stops: runs to stop, as (run, attempt, how).
            requeue: every run is to go back into the queue.
        """
        now = time.monotonic()
        for run_id, attempt, how in stops:
            if execution := self.live.get((run_id, attempt)):
                execution.ask_to_stop(Stop(how))
        if requeue:
            for execution in self.live.values():
                execution.ask_to_stop(Stop.POLITE, requeue=True)
        due = None
        room = REPORT_READ
        for key, execution in list(self.live.items()):
            next_time = execution.tick(now)
            if why := execution.runs_long(now):
                execution.log.warning("a run takes long", action="run_long", reason=why)
                self.events.append(Event(*key, "running_long", self._telemetry.worker, why, execution.claimed.notify))
            if execution.is_over() and self._is_trusted():
                before = execution.report.taken
                if self._gather(execution, room):
                    due = now
                room -= execution.report.taken - before
            elif next_time is not None:
                due = next_time if due is None else min(due, next_time)
        self._start_suspected()
        return due

    def _gather(self, execution: Execution, room: int) -> bool:
        """It is over: take its outcome, to be stored. ``room``: bytes of its report to read at most.

        True: its report is longer, so that this is to be called again, after other executions had their turn. While
        the shipping thread stores something of it, or has more to store than fits into a turn, nothing happens: that
        thread wakes the loop when it is done.
        """
        if execution.unread() > LAST_OUTPUT:
            return False
        if not execution.shipping.acquire(blocking=False):
            return False
        if not execution.report.read(final=True, most=max(0, room)):
            execution.shipping.release()
            return True
        self.over.append((execution, execution.outcome(random.random())))
        del self.live[execution.key]
        return False

    def abandon(self, unowned: Iterable[tuple[int, int]]) -> None:
        """End executions that the database does not count for this worker. Their results will be discarded; a run that
        has become this worker's again meanwhile goes back into the queue."""
        for key in unowned:
            if execution := self.live.get(key):
                self._telemetry.fenced(execution.log, execution.key, "the database does not know that it runs here")
                execution.ask_to_stop(Stop.NOW, requeue=True)

    # Their end

    def deliveries(self) -> Deliveries:
        """What the next turn is to store."""
        over = [execution for execution, _ in self.over]
        chunks: list[output.Stored] = []
        cuts = []
        for execution in over:
            with execution.lock:
                chunks += execution.collect(final=True)
            cuts += [(*execution.key, *cut) for cut in execution.cuts()]
        return Deliveries(
            chunks=chunks,
            cuts=cuts,
            progress=[(*e.key, e.report.progress, e.report.message) for e in over if e.report.changed],
            outcomes=[outcome for _, outcome in self.over],
            sequences={e.claimed.sequence_run_id for e in over if e.claimed.sequence_run_id is not None},
            events=self.events,
            live=self.live.keys(),
            stored=self._stored,
        )

    def stored(self, number: int) -> None:
        """The first ``number`` outcomes and all events are stored: forget their executions."""
        gone = self.over[:number]
        for execution, outcome in gone:
            self._stored.append(execution.key)
            self._telemetry.ended(execution.log, outcome)
        self.over = self.over[number:]
        self.events = []
        self._forget([execution for execution, _ in gone])

    def gather_in_time(self) -> bool:
        """After the lease was lost: gather what ended before that. True when nothing else is alive any more."""
        for execution in self.living():
            if execution.ended_in_time:
                self._gather(execution, REPORT_READ)
        return all((e.is_over() and not e.ended_in_time) or e.process is None for e in self.living())

    def cut_off(self, why: str) -> None:
        """Forget what a lost lease leaves: it has ended, and its runs may be other workers' by now."""
        for execution in self.living():
            self._telemetry.fenced(execution.log, execution.key, why)
        self._forget(self.living())
        self.live.clear()

    def forget_all(self) -> None:
        """Forget everything, stored or not."""
        self._forget([*self.living(), *(execution for execution, _ in self.over)])
        self.live.clear()
        self.over.clear()

    def _forget(self, executions: Sequence[Execution]) -> None:
        if executions:
            self._guardian.ended([e.marker for e in executions])
        self._suspected.difference_update(e.key for e in executions)
        for execution in executions:
            if execution.process is not None:
                self._watcher.remove(execution.process)
            execution.close()
            self._old_files.after(execution.definition)
