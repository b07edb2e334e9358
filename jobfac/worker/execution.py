"""One execution of a run: from its definition to a program, and from the program's end to an outcome. Knows no SQL."""

import contextlib
import json
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jobfac.definitions import Job, write_duration
from jobfac.programs import Chunk, Process, Program, Spool, StartError, open_destination, spool_path, start
from jobfac.secret_references import SecretError, resolve
from jobfac.states import RunState, Stop
from jobfac.store.output import STREAMS, Stored
from jobfac.store.runs import Outcome, retry_delay
from jobfac.store.workers import Claimed
from jobfac.worker.environment import PAYLOAD_IN_ENVIRONMENT, base_environment, home_of
from jobfac.worker.outcome import judge, judge_report
from jobfac.worker.report import Report


class Execution:
    """A claimed run on this worker. The worker's loop owns it; the shipping thread shares what ``lock`` guards."""

    def __init__(
        self,
        claimed: Claimed,
        definition: Job,
        token: str,
        folder: Path,
        log: Any,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """``log``: its worker's. ``environment``: what its worker hands to the program besides, unless the definition
        has it otherwise."""
        self.claimed = claimed
        self.definition = definition
        self.marker = f"{token}/{claimed.id}/{claimed.attempt}"
        self.log = log.bind(run=claimed.id, attempt=claimed.attempt, job=claimed.job)
        self.process: Process | None = None
        self.paths: dict[str, str] = {}  # by stream, where the definition sent it
        self.lock = threading.Lock()
        # Held by the shipping thread while it stores something of this, and for good by whoever stores the end: two
        # transactions at once that insert the same chunk would make one of them fail.
        self.shipping = threading.Lock()
        self.spools: dict[str, Spool] = {}
        self.pending: list[Stored] = []  # read from the spool, not yet in the database
        self.report = Report(folder / f"{claimed.id}-{claimed.attempt}.report")
        self.stop: Stop | None = None
        self.requeue = False
        self.ended_in_time = False  # by itself, although its worker could not gather it before its lease was lost
        self.noted = False  # the database knows the process
        self._given = environment
        self._folder = folder
        self._payload = folder / f"{claimed.id}-{claimed.attempt}.payload"
        self._error: str | None = None
        self._timed_out = False
        self._warned = False
        self._began = time.monotonic()
        self._kill_at: float | None = None
        self._lingering = False

    @property
    def key(self) -> tuple[int, int]:
        """Run and attempt: the fence."""
        return self.claimed.key

    # Starting

    def refuse(self, why: str) -> None:
        """It cannot start, for a reason that its worker knows beforehand."""
        self._error = why

    def begin(self) -> None:
        """Start the program. What cannot start has ended already when this returns."""
        if self._error is not None:
            return
        try:
            program, secrets = self._program()
            handles = [self._open(stream, secrets) for stream in STREAMS]
            try:
                self.process = start(program, handles[0], handles[1])
            finally:
                for stream, handle in zip(STREAMS, handles, strict=True):
                    if stream not in self.spools:
                        os.close(handle)
        except (StartError, SecretError) as error:
            self._error = str(error)
        except OSError as error:
            self._error = f"the worker could not prepare the start: {error}"
        self._began = time.monotonic()
        if self.process is not None:
            self.log.debug("a program was started", action="run_started", pid=self.process.pid)

    def _program(self) -> tuple[Program, list[bytes]]:
        job, claimed = self.definition, self.claimed
        given = job.arguments if claimed.arguments is None else tuple(json.loads(claimed.arguments))
        argv = ("/bin/sh", "-c", job.command[0], "sh", *given) if job.shell else (*job.command, *given)
        environment = {**base_environment(), **self._given}
        if job.user:
            environment |= home_of(job.user)
        secrets: list[bytes] = []
        for name, value in job.environment.items():
            text = value if isinstance(value, str) else resolve(value)
            environment[name] = text
            if not isinstance(value, str) and text:
                secrets.append(text.encode())
        environment |= {
            "JOBFAC_RUN_ID": str(claimed.id),
            "JOBFAC_ATTEMPT": str(claimed.attempt),
            "JOBFAC_JOB": claimed.job,
            "JOBFAC_REPORT": str(self.report.path),
        }
        if claimed.sequence_run_id is not None:
            environment["JOBFAC_SEQUENCE_RUN_ID"] = str(claimed.sequence_run_id)
        if claimed.payload is not None:
            environment |= self._hand_over(claimed.payload)
        if job.user:
            self.report.create_for(job.user)
        program = Program(argv, self.marker, environment, job.directory, job.user, job.detach)
        return program, secrets

    def _hand_over(self, payload: str) -> Mapping[str, str]:
        self._payload.write_text(payload, encoding="utf-8")
        if self.definition.user:
            os.chmod(self._payload, 0o644)  # noqa: PTH101
        named = {"JOBFAC_PAYLOAD_FILE": str(self._payload)}
        if len(payload) <= PAYLOAD_IN_ENVIRONMENT and "\0" not in payload:
            named["JOBFAC_PAYLOAD"] = payload
        return named

    def _open(self, stream: str, secrets: list[bytes]) -> int:
        output = self.definition.output
        wanted = getattr(output, stream)
        if wanted.kind == "none":
            return os.open(os.devnull, os.O_WRONLY)
        if wanted.kind == "database":
            path = spool_path(self._folder, *self.key, stream)
            self.spools[stream] = spool = Spool(path, max(1, output.limit), secrets)
            return spool.fd
        handle, path = open_destination(
            wanted.kind, wanted.path, self.definition.directory, self.claimed.id, self.claimed.started_at,
            rotate_at=output.rotate.size, keep=output.rotate.keep,
        )  # fmt: skip
        self.paths[stream] = str(path)
        return handle

    # While it runs

    def tick(self, now: float) -> float | None:
        """Do what is due by the clock (monotonic) and return when something is next, None: nothing is."""
        process, job = self.process, self.definition
        if process is None:
            return None
        if process.exit is None:
            if job.timeout and not self._timed_out and not self.stop and now >= self._began + job.timeout:
                self._timed_out = True
                self._end(now)
        elif not self._lingering and process.leftovers():
            self._lingering = True
            if self._kill_at is None:
                self._end(now)
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = now + 1.0
            process.kill()
        times = [self._kill_at]
        if process.exit is None:
            times += [self._began + job.timeout if job.timeout and not self._timed_out else None, self.warn_at]
        else:
            times.append(now + 0.05)  # leftovers: nobody tells us when they are gone
        return min((t for t in times if t is not None), default=None)

    @property
    def warn_at(self) -> float | None:
        """When the run is to be reported as running long, None: never, or done already."""
        after = self.definition.warn_after
        return None if after is None or self._warned else self._began + after

    def runs_long(self, now: float) -> str | None:
        """The sentence that says so, once, when the time has come."""
        if self.warn_at is None or now < self.warn_at:
            return None
        self._warned = True
        return f"still running after {write_duration(self.definition.warn_after or 0)}"

    def _end(self, now: float) -> None:
        assert self.process is not None
        self._kill_at = now + self.definition.grace
        self.process.terminate()

    def ask_to_stop(self, how: Stop, requeue: bool = False) -> None:
        """Stop the program, politely or at once. ``requeue``: its run is to go back into the queue."""
        if self.stop == Stop.NOW or (self.stop == how and requeue == self.requeue):
            return
        now = time.monotonic()
        if self.process is not None and how == Stop.NOW:
            self._kill_at = now
        if self.process is not None and self.process.poll() is not None:
            return  # its own end came first, and that is what counts
        first = self.stop is None
        self.stop, self.requeue = how, requeue and (first or self.requeue)
        if self.process is not None and how == Stop.POLITE and first and not self._timed_out:
            self._end(now)

    def is_over(self) -> bool:
        """Whether program and tree are gone (or never came to be), so that the outcome can be stored."""
        process = self.process
        return process is None or (process.poll() is not None and not process.leftovers())

    # Its end

    def outcome(self, chance: float) -> Outcome:
        """How it ended, with the retry that its definition asks for; ``chance`` is random, 0 to 1."""
        with self.lock:
            self.report.read(final=True)
        state, reason = self._final_state()
        over = self.process.exit if self.process else None
        stopped = self.stop is not None
        return Outcome(
            run_id=self.claimed.id,
            attempt=self.claimed.attempt,
            state=state,
            exit_code=over.code if over else None,
            signal=over.signal if over else None,
            reason=reason,
            exit_message=self.report.exit_message,
            outputs=self.report.outputs,
            pid=self.process.pid if self.process else None,
            paths=self.paths,
            ended=over.at if over else self._began,
            rule=self.claimed.rule,
            retry_after=None if stopped else retry_delay(self.definition.retry, state, self.claimed.failures, chance),
        )

    def _final_state(self) -> tuple[RunState, str | None]:
        if self._error is not None:
            return RunState.START_FAILED, self._error
        if self.process is None or self.process.exit is None:
            return RunState.QUEUED, "not started: its worker was asked to leave"
        if self.requeue:
            return RunState.QUEUED, "its worker was drained"
        if self.stop is not None:
            return RunState.STOPPED, "stopped" if self.stop == Stop.POLITE else "stopped at once"
        if self._timed_out:
            return RunState.TIMED_OUT, f"ran longer than its timeout of {write_duration(self.definition.timeout or 0)}"
        if self.definition.aware and self.report.result is not None:
            return judge_report(self.report.result, self.report.exit_message)
        return judge(self.process.exit.code, self.process.exit.signal, self.definition)

    def collect(self, final: bool) -> list[Stored]:
        """Output that is not in the database yet, kept until ``confirm``. The caller holds ``lock``."""
        for stream, spool in self.spools.items():
            while chunks := spool.read(final):
                self.pending += [self._stored(stream, chunk) for chunk in chunks]
        return list(self.pending)

    def confirm(self, chunks: list[Stored]) -> None:
        """These chunks are in the database. The caller holds ``lock``."""
        stored = {(chunk.stream, chunk.offset) for chunk in chunks}
        self.pending = [chunk for chunk in self.pending if (chunk.stream, chunk.offset) not in stored]

    def cuts(self) -> list[tuple[str, int, int]]:
        """Per stream that outgrew its limit: where its head ends and where its tail begins now."""
        with self.lock:
            return [(name, s.head, s.keep_from) for name, s in self.spools.items() if s.keep_from is not None]

    def _stored(self, stream: str, chunk: Chunk) -> Stored:
        return Stored(self.claimed.id, self.claimed.attempt, stream, chunk.offset, chunk.data)

    def close(self) -> None:
        """Remove the spool files; everything in them is in the database."""
        with self.lock:
            for spool in self.spools.values():
                spool.close(delete=True)
            self.spools.clear()
        self.report.close()
        if self.claimed.payload is not None:
            with contextlib.suppress(OSError):  # not there, or what the program has put there instead
                self._payload.unlink()
