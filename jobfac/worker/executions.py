"""The executions that a worker holds: those under way, and those that have ended and are not stored yet."""

import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from jobfac.definitions import AnyJob, Job
from jobfac.programs import NO_ROOM, ExitWatcher, Guardian, StartError, kill_all, room_for_programs
from jobfac.states import Stop
from jobfac.store import output
from jobfac.store.runs import Outcome
from jobfac.store.runs.event import Event
from jobfac.store.workers import Claimed
from jobfac.telemetry.worker import WorkerTelemetry
from jobfac.worker.execution import Execution
from jobfac.worker.failpoints import failpoint
from jobfac.worker.old_files import OldFiles
from jobfac.worker.spool_folder import SpoolFolder
from jobfac.worker.turn import Deliveries

LAST_OUTPUT = 1024 * 1024
"""Bytes of an execution's output that are stored with its outcome; what is longer is shipped before, in pieces."""

MEMORY = 1000
"""How many stored executions to remember, to recognise a repeated claim."""

REPORT_READ = 128 * 1024
"""Bytes of reports that the loop reads before it looks after the other executions again: a few milliseconds."""


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
        report_limit: int,
    ) -> None:
        """
        Args:
            is_trusted: whether the lease certainly holds now.
            report_limit: bytes of a program's report that are read.
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
        self._report_limit = report_limit
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
        """Start the programs of new claims. The guardian learns of each before it exists, and again when it does.

        Args:
            definitions: by job and version.
            since: when the transaction that claimed them began, nanoseconds since the epoch.
        """
        if not claims:
            return
        fresh = []
        for claimed in claims:
            definition = definitions[claimed.job, claimed.job_version]
            assert isinstance(definition, Job)
            given = self._telemetry.begins(claimed, since)
            token = self._spool.token
            path, log = self._spool.path, self._telemetry.log
            fresh.append(Execution(claimed, definition, token, path, log, given, self._report_limit))
        try:
            self._spool.ensure()
            self._guardian.about_to_start([e.marker for e in fresh])
        except (StartError, OSError) as error:
            for execution in fresh:
                execution.refuse(str(error))
        for execution in fresh[room_for_programs() :]:
            execution.refuse(NO_ROOM)
        failpoint("guardian_told")
        for execution in fresh:
            # The worker may have been frozen since the claim: without a lease the run may be another worker's by now.
            if self._is_trusted():
                execution.begin()
            else:
                execution.skip()
            failpoint("spawned")
            if execution.process is not None:
                self._watcher.add(execution.process)
            self.live[execution.key] = execution
        self._guardian.started([(e.marker, e.process.pid) for e in fresh if e.process is not None])
        failpoint("started")

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
        for execution in executions:
            if execution.process is not None:
                self._watcher.remove(execution.process)
            execution.close()
            self._old_files.after(execution.definition)
