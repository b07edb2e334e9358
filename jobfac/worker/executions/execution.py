"""One execution of a run: starts the program of its definition and turns the program's end into an outcome. No SQL."""

import secrets
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jobfac.definitions import Job
from jobfac.programs import BATCH, Chunk, Places, Process, Series, Signals, Spool, StartError, spool_path, why_alive
from jobfac.programs.files.inquiry import Place, Seen
from jobfac.secret_references import SecretError
from jobfac.states import RunState, Stop
from jobfac.store.output import STREAMS, Stored
from jobfac.store.runs import Outcome, retry_delay
from jobfac.store.workers import Claimed
from jobfac.worker.executions.launch import Launch
from jobfac.worker.executions.lifecycle import Action, Lifecycle, Stage, earliest
from jobfac.worker.executions.outcome import at_limit, judge, judge_report, out_of_memory, start_delay, with_remarks
from jobfac.worker.executions.report import LIMIT, Report
from jobfac.worker.executions.room import Room
from jobfac.worker.executions.silence import Silence, states_of
from jobfac.worker.executions.warning import warning_of
from jobfac.worker.health import machine_fault, passes


class Execution:
    """A claimed run on this worker. The worker's loop owns it; other threads share these fields with it:

    Attributes:
        key: run and attempt, the fence.
        process: written once, by the loop; None: nothing was started. Any thread may call its methods.
        shipping: the lock for storing output. The shipping thread holds it while it stores output of this execution.
            The loop takes it for good when it stores the outcome. Two concurrent transactions that insert the same
            chunk would conflict.
        lock: guards ``spools`` and ``pending``.
        spools, paths: by stream, the captured output and the file it is redirected to; written once, by the loop.
        pending: output read from the spool but not stored yet; written by the holder of ``shipping``.
        report, room: its report, read by the holder of ``shipping``, and what its files take.
        process_stored, is_shipped: the process, and all output of a fenced execution; written by the shipping thread.
        leaves_output: its output stays in the spool, for the next worker of this machine.
        is_reported: it is recorded that its program has survived KILL after the lease was lost.
        ended_in_time: the execution ended on its own before the lease was lost, but its outcome was not gathered.
            Written by the thread that detects the loss, before it reports the loss to the loop.
    """

    def __init__(
        self,
        claimed: Claimed,
        definition: Job,
        token: str,
        folder: Path,
        log: Any,
        environment: Mapping[str, str] = MappingProxyType({}),
        report_limit: int = LIMIT,
        usual: float | None = None,
        signals: Signals | None = None,
    ) -> None:
        """
        Args:
            token: marks the processes of this worker.
            folder: holds payload, report and captured output.
            environment: variables that the worker sets for the program. Those of the definition take precedence.
            report_limit: maximum bytes of the report to read.
            usual: what the job usually takes, in seconds; None: not known or not needed.
            signals: takes those for the program; None: they are sent at once.
        """
        self.claimed = claimed
        self.key = claimed.key
        self.definition = definition
        # The end is random: the program of another user must not give its own processes the marker of this one.
        self.marker = f"{token}/{claimed.id}/{claimed.attempt}/{secrets.token_hex(8)}"
        self.log = log.bind(run=claimed.id, attempt=claimed.attempt, job=claimed.job)
        self.process: Process | None = None
        self.lock = threading.Lock()
        self.shipping = threading.Lock()
        self.spools: dict[str, Spool] = {}
        self.paths: dict[str, str] = {}
        self.pending: list[Stored] = []
        own = Path(f"{folder}/{claimed.id}-{claimed.attempt}-{secrets.token_hex(4)}")
        self.report = Report(spool_path(own, *self.key, "report"), report_limit)
        self.process_stored = False
        self.ended_in_time = self.is_shipped = self.leaves_output = self.is_reported = False
        self._launch = Launch(claimed, definition, self.marker, own, self.report, environment)
        self._folder, self._signals = folder, signals or Signals(at_once=True)
        self._warning = warning_of(definition.warn_after, usual)
        self._life = Lifecycle(definition.timeout, definition.grace, self._warning.after, time.monotonic())
        self._silence = None if definition.silent_timeout is None else Silence(definition.silent_timeout)
        self.room = Room(self.lock, self._launch.spools, self.report, self._launch.given)
        self._files: Seen = ()
        self._error: str | None = None
        self._not_started: str | None = None
        self._is_put_off = False
        self._refusal_logged = False

    @property
    def stage(self) -> Stage:
        """The current stage, as of the loop's last update."""
        return self._life.stage

    def shown_paths(self) -> dict[str, str]:
        """Return ``paths`` as they are stored: without sensitive values."""
        return {stream: self.report.mask.hide(path) for stream, path in self.paths.items()}

    def series(self) -> list[Series]:
        """Return the series of `timestamped` files to which its streams belong."""
        return [one for stream in STREAMS if (one := self._launch.series(stream)) is not None]

    # Starting

    def fail_start(self, why: str) -> None:
        """End the execution as a failed start, because the run itself cannot be started."""
        self._error = self.report.mask.hide(why)
        self._life.over()

    def requeue(self, why: str) -> None:
        """End the execution without a start and requeue the run, because the run is not at fault."""
        self._not_started = f"not started: {self.report.mask.hide(why)}"
        self._life.over()

    def places(self) -> list[Place]:
        """Return what the start uses and what may not answer (see ``Launch.places``)."""
        return self._launch.places()

    def begin(self) -> str | None:
        """Start the program. If that fails, the execution is over; returns the fault if it is the machine's."""
        fault: str | None = None
        try:
            process = self._launch.start()
        except (StartError, SecretError, OSError, ValueError) as error:
            # ValueError: a text that a login has stored cannot be encoded. It must not end the worker.
            is_said = isinstance(error, StartError | SecretError)
            why = str(error) if is_said else f"the worker could not prepare the start: {error}"
            fault = machine_fault(error, self._folder)
            self._is_put_off = passes(error)
            if fault is None and not self._is_put_off:
                self.fail_start(why)
            else:
                self.requeue(why)
        else:
            self.process = process
            self.definition = self._launch.definition
            self._life.started(time.monotonic())
            self.log.debug("a program was started", action="run_started", pid=process.pid)
        self.spools, self.paths = self._launch.spools, self._launch.paths
        return fault

    # While it runs

    def tick(self, now: float, places: Places) -> float | None:
        """Do what is due now (monotonic seconds); returns when the next action is due, None: never.

        ``places`` looks at the files to which the program writes.
        """
        process = self.process
        if process is None:
            return None
        self._note_refusal(process)
        # The worker may have stood still: what ended meanwhile on its own is not ended by a timeout now.
        ended = process.poll() is not None
        is_left = ended and bool(process.leftovers())
        if ended and not is_left:
            self.room.program_ended(self.definition.detach)
        elif self.room.excess is not None:
            self._life.too_large(now, ended)
        self._act(self._life.tick(now, ended, is_left))
        next_time = self._life.next_time(now, ended)
        if self._silence is None or ended or self._life.cause is not None:
            return next_time
        if self._silence.is_too_long(now, self._written(places)):
            self._act(self._life.silent(now))
            return self._life.next_time(now, ended)
        return earliest(next_time, self._silence.next_time())

    def _written(self, places: Places) -> Seen:
        """Size and time of everything that the program writes to: captured output, the report and files.

        Captured output and the report are in the worker's own folder. The files may be on a network drive that hangs;
        until it answers, they count as unchanged.
        """
        own = states_of([*(spool.fd for spool in self.spools.values()), self.report.path])
        if self.paths and (files := places.seen(self._launch.outputs(self.process))) is not None:
            self._files = files
        return *own, *self._files

    def runs_long(self, now: float) -> str | None:
        """Return a sentence that the run takes long, once after its warning time; otherwise None."""
        return self._warning.sentence if self._life.runs_long(now) else None

    def outlives_kill(self, now: float) -> str | None:
        """Return a sentence that KILL does not end the program, once; otherwise None."""
        return why_alive(self.process) if self.process and self._life.outlives_kill(now) else None

    def request_stop(self, how: Stop, requeue: bool = False) -> None:
        """Stop the program, politely or at once. ``requeue``: requeue its run."""
        ended = self.process is not None and self.process.poll() is not None
        self._act(self._life.request_stop(how, requeue, time.monotonic(), ended))

    def _act(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            assert self.process is not None
            self._signals.add(self.process, action == Action.KILL)

    def _note_refusal(self, process: Process) -> None:
        if process.refuses and not self._refusal_logged:
            self._refusal_logged = True
            why = "a program cannot be ended: it has become another user, as sudo does; end it as that user"
            self.log.warning(why, action="signal_refused", pid=process.pid)

    def is_over(self) -> bool:
        """Whether the program and its tree have ended or were never started. Then the outcome can be stored."""
        process = self.process
        if process is None:
            return self.stage == Stage.OVER
        return process.poll() is not None and not process.leftovers()

    # Ending

    def outcome(self, chance: float) -> Outcome:
        """Return the outcome, with the retry delay of the definition. Call it after ``report`` was read to its end.

        Args:
            chance: a random number from 0 to 1 for the jitter of the retry.
        """
        self._life.over()
        if self.process is not None and not self.process.was_signalled:
            self._life.cause = None  # it ended on its own between the decision to end it and the signal
        state, reason = self._final_state()
        if self.process is not None:
            report = self.report
            in_vain = self._life.cause is not None and report.result == "succeeded"
            state, reason = with_remarks(state, reason, report, self.definition.reports, in_vain)
        over = self.process.exit if self.process else None
        used = self.process.usage() if self.process else None
        has_begun = self.process is not None and self.process.not_started is None
        code, number = (over.code, over.signal) if over and has_begun else (None, None)
        again = None if self._life.stopped else retry_delay(self.definition.retry, state, self.claimed.failures, chance)
        if state == RunState.QUEUED and (self._is_put_off or (self.process is not None and not has_begun)):
            again = start_delay(self.claimed, chance)
        return Outcome(
            run_id=self.claimed.id,
            attempt=self.claimed.attempt,
            state=state,
            exit_code=code,
            signal=number,
            reason=reason,
            exit_message=self.report.exit_message,
            outputs=self.report.outputs,
            pid=self.process.pid if self.process and has_begun else None,
            paths=self.shown_paths(),
            ended=over.at if over else self._life.began,
            rule=self.claimed.rule,
            created_at=self.claimed.created_at,
            cpu_seconds=used.cpu_seconds if used else None,
            peak_memory=used.peak_memory if used else None,
            retry_after=again,
        )

    def _final_state(self) -> tuple[RunState, str | None]:
        cause = self._life.cause
        if self._error is not None:
            return RunState.START_FAILED, self._error
        if self.process is not None and (error := self.process.not_started) is not None:
            why = self.report.mask.hide(str(error))
            if machine_fault(error, self._folder) is None and not passes(error):
                return RunState.START_FAILED, why
            return RunState.QUEUED, f"not started: {why}"
        if self.process is None or self.process.exit is None:
            return RunState.QUEUED, self._not_started or "not started: its worker was drained"
        if cause is not None and cause.requeues:
            return RunState.QUEUED, "its worker was drained"
        if cause is not None and cause.is_limit:
            return at_limit(cause, self.definition, self.room.excess)
        if cause is not None:
            return RunState.STOPPED, "stopped at once" if cause.is_now else "stopped"
        group, limits = self.process.group, self.definition.limits
        if group is not None and limits is not None and limits.memory is not None and group.hit_memory_limit():
            return RunState.FAILED, out_of_memory(limits.memory)
        if self.definition.sql is not None and self.report.result == "failed" and self.report.exit_message:
            return RunState.FAILED, self.report.exit_message
        if self.definition.reports and self.report.result is not None:
            return judge_report(self.report.result, self.report.exit_message)
        state, reason = judge(self.process.exit.code, self.process.exit.signal, self.definition)
        if state == RunState.SUCCEEDED and self.definition.aware:  # its report of a failure may have met a full disk
            return RunState.FAILED, "the program reported no result, as aware: true demands"
        if state == RunState.FAILED and group is not None and group.was_killed_for_memory():
            reason = f"{reason}; the machine, or a limit above its worker, was out of memory"
        if state == RunState.FAILED and group is not None and (refused := group.refused_processes()):
            reason = f"{reason}; its limit of processes was reached {refused} times"
        return state, reason

    def collect(self, final: bool, most: int | None = None) -> list[Stored]:
        """Return the output that is not stored yet. It stays pending until ``confirm``. The caller holds ``lock``.

        Args:
            most: maximum pending bytes, to bound the memory when the output limit is large; None: everything.
        """
        room = float("inf") if most is None else most - sum(len(one.data) for one in self.pending)
        for stream, spool in self.spools.items():
            while room > 0:
                if not (chunks := spool.read(final, int(min(room, BATCH)))):
                    break
                self.pending += [self._stored(stream, chunk) for chunk in chunks]
                room -= sum(len(chunk.data) for chunk in chunks)
        return list(self.pending)

    def unread(self) -> int:
        """Return the number of bytes of output that are not collected yet."""
        with self.lock:
            return sum(spool.unread for spool in self.spools.values())

    def confirm(self, chunks: list[Stored]) -> None:
        """Drop these chunks from the pending output, because they are stored. The caller holds ``lock``."""
        stored = {(chunk.stream, chunk.offset) for chunk in chunks}
        self.pending = [chunk for chunk in self.pending if (chunk.stream, chunk.offset) not in stored]

    def cuts(self) -> list[tuple[int, int, str, int, int, datetime]]:
        """Return for each stream that exceeded its limit what ``output.cut`` takes."""
        with self.lock:
            return [
                (*self.key, name, spool.head, spool.keep_from, self.claimed.created_at)
                for name, spool in self.spools.items()
                if spool.keep_from is not None
            ]

    @property
    def reported(self) -> tuple[int, int, float | None, str | None, datetime]:
        """What the program has reported, as ``report_progress`` takes it."""
        return (*self.key, self.report.progress, self.report.message, self.claimed.created_at)

    def _stored(self, stream: str, chunk: Chunk) -> Stored:
        return Stored(self.claimed.id, self.claimed.attempt, stream, chunk.offset, chunk.data, self.claimed.created_at)

    def close(self) -> None:
        """Remove the files of this execution, but not those of its output if it is left (``leaves_output``).

        This may wait for a process that writes to one of them.
        """
        with self.lock:
            spools = list(self.spools.values())
            self.spools.clear()
        for spool in spools:
            spool.close(not self.leaves_output, is_left=self.definition.detach and not self.leaves_output)
        self.report.close()
        if self.process is not None and self.process.group is not None:
            self.process.group.remove()
        self._launch.remove_files(self.leaves_output)
