"""A dry run (`jobfac try`): one execution of a program, as a worker does it, without a database."""

import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from jobfac.definitions import Job, write_duration
from jobfac.programs import BATCH, ExitWatcher, Guardian, Places, Signals, become_subreaper, kill_all
from jobfac.states import JobKind, Stop
from jobfac.store.output import Stored, cut_mark
from jobfac.store.runs import Outcome
from jobfac.store.workers import Claimed
from jobfac.telemetry.logs import SILENCE
from jobfac.worker.executions.execution import Execution

RUN = 0
"""The run id that the program sees. No stored run has this id."""

POLL_INTERVAL = 0.1
"""Seconds between two polls of the program's output and report."""


class Observer(Protocol):
    """Receives the events of a dry run while it runs."""

    def output(self, stream: str, data: bytes) -> None:
        """Receive bytes of ``stdout`` or ``stderr`` that a worker would store."""

    def report(self, progress: float | None, message: str | None) -> None:
        """Receive the program's latest progress and message. Earlier ones since the last poll are skipped."""

    def remark(self, sentence: str) -> None:
        """Receive a sentence about what the worker does or detects."""


class Stream(NamedTuple):
    """A stream: the bytes written, how many of them a worker would not store, and the file it was redirected to."""

    size: int
    cut: int
    path: str | None


class DryRunResult(NamedTuple):
    """The result of a dry run: the outcome that a worker would store, seconds, last progress and message, streams."""

    outcome: Outcome
    seconds: float
    progress: float | None
    message: str | None
    streams: dict[str, Stream]


class DryRun:
    """One dry run. Call ``run`` once. Any thread or signal handler may call ``stop`` meanwhile."""

    def __init__(
        self,
        job: str,
        definition: Job,
        folder: Path,
        observer: Observer,
        arguments: Sequence[str] | None = None,
        payload: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        trigger: Mapping[str, Any] | None = None,
    ) -> None:
        """Prepare a dry run.

        Args:
            folder: for payload, report and output.
            arguments: replace the arguments of the definition.
            trigger: what placeholders such as ``${trigger.path}`` stand for: ``path``, ``name`` and ``size`` of a file,
                or a ``run`` with ``id``, ``job``, ``state`` and ``outputs``.
        """
        now = datetime.now(UTC)
        claimed = Claimed(
            id=RUN, job=job, job_version=0, kind=JobKind.PROGRAM, attempt=1, failures=0, priority=0,
            arguments=None if arguments is None else json.dumps(list(arguments)), payload=payload,
            sequence_run_id=None, queue="", created_at=now, started_at=now, notify=None,
            parameters=json.dumps(dict(parameters)) if parameters else None,
            origin=json.dumps(dict(trigger)) if trigger else None,
        )  # fmt: skip
        self._signals = Signals(at_once=True)
        self._execution = Execution(claimed, definition, folder.name, folder, SILENCE, signals=self._signals)
        self._observer = observer
        self._watcher = ExitWatcher()
        self._places = Places(self._watcher.wake)
        self._guardian = Guardian()
        self._requested: Stop | None = None
        self._applied: Stop | None = None  # the stop request that was passed on to the execution
        self._shown: dict[str, int] = {}  # by stream, the end offset of the output shown so far

    def stop(self, how: Stop) -> None:
        """Stop the program."""
        self._requested = how
        self._watcher.wake()

    def run(self) -> DryRunResult:
        """Start the program and wait for its end. No process of it is left afterwards, even after an error.

        Raises:
            StartError: the guardian cannot be started.
        """
        execution = self._execution
        become_subreaper()
        try:
            self._begin()
            while not execution.is_over():
                self._watcher.wait(self._poll())
            self._show_new(final=True)
            outcome = execution.outcome(0.5)
            process = execution.process
            seconds = outcome.ended - process.started if process else 0.0
            return DryRunResult(outcome, seconds, execution.report.progress, execution.report.message, self._streams())
        finally:
            if execution.process is not None:
                kill_all([execution.process])
            execution.close()
            self._guardian.close()
            self._watcher.close()

    def _begin(self) -> None:
        execution = self._execution
        self._guardian.start()
        self._guardian.about_to_start([execution.marker])
        execution.begin()
        if execution.process is not None:
            self._guardian.started([(execution.marker, execution.process.pid)])
            self._watcher.add(execution.process)

    def _poll(self) -> float:
        """Apply a stop request and the timeouts, show new output; returns the seconds until the next poll."""
        execution, now = self._execution, time.monotonic()
        if (request := self._requested) is not None and request != self._applied:
            self._applied = request
            grace = write_duration(execution.definition.grace)
            polite = f"the program was asked to stop and has {grace}; interrupt again to end it at once"
            self._observer.remark(polite if request == Stop.POLITE else "the program is ended at once")
            execution.request_stop(request)
        self._signals.send()  # what could not be sent before
        execution.room.look()
        execution.room.free()
        due = execution.tick(now, self._places)
        if long := execution.runs_long(now):
            self._observer.remark(long)
        self._show_new(final=False)
        return POLL_INTERVAL if due is None else max(0.0, min(POLL_INTERVAL, due - time.monotonic()))

    def _show_new(self, final: bool) -> None:
        execution = self._execution
        while chunks := self._collect(final):
            for chunk in chunks:
                skipped = chunk.offset - self._shown.get(chunk.stream, 0)
                self._shown[chunk.stream] = chunk.offset + len(chunk.data)
                self._observer.output(chunk.stream, cut_mark(skipped) + chunk.data)
        while not execution.report.read(final) and final:
            time.sleep(POLL_INTERVAL if execution.report.is_blocked else 0)
        if execution.report.changed:
            execution.report.changed = False
            self._observer.report(execution.report.progress, execution.report.message)

    def _collect(self, final: bool) -> list[Stored]:
        with self._execution.lock:
            chunks = self._execution.collect(final, most=BATCH)
            self._execution.confirm(chunks)
        return chunks

    def _streams(self) -> dict[str, Stream]:
        execution = self._execution
        cuts = {stream: tail - head for _, _, stream, head, tail, _ in execution.cuts()}
        spooled = {name: Stream(spool.size, cuts.get(name, 0), None) for name, spool in execution.spools.items()}
        return spooled | {name: Stream(0, 0, path) for name, path in execution.paths.items()}
