"""Start the program of a definition: prepare its command, environment, payload and output files."""

import contextlib
import functools
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from jobfac.definitions import Job, Secret
from jobfac.definitions.execution.sql import Sql
from jobfac.definitions.parameters import Values
from jobfac.programs import (
    Limits,
    OutputFile,
    Process,
    Program,
    Series,
    Spool,
    StartError,
    check_installation,
    destination_path,
    spool_path,
    start,
    write_private,
)
from jobfac.programs.files.inquiry import Kept, Opened, Place, Search, User
from jobfac.programs.masking import Mask, in_encoding
from jobfac.secret_references import resolve
from jobfac.store.output import STREAMS
from jobfac.store.workers import Claimed
from jobfac.views.serialization import read_json
from jobfac.worker.executions.environment import PAYLOAD_IN_ENVIRONMENT, base_environment, environment_of
from jobfac.worker.executions.filling import Filled, fill_job, origin_variables, parameter_variables
from jobfac.worker.executions.fingerprints import fingerprints_path, keep, secrets_of
from jobfac.worker.executions.report import Report

SQL_PROGRAM = (sys.executable, "-P", "-m", "jobfac.sqljob")
"""Runs the script of a ``sql`` job. Without -P, modules in the job's directory would come before those of Python."""


class Launch:
    """The start of one program. Used once, by one thread.

    Attributes:
        spools: by stream, the captured output.
        paths: by stream, the file that the definition redirects it to.
        definition: the job; after ``start`` without placeholders.
        given: by path, the bytes of each file that was written for the program, and belongs to its user.
    """

    def __init__(
        self,
        claimed: Claimed,
        definition: Job,
        marker: str,
        folder: Path,
        report: Report,
        environment: Mapping[str, str],
    ) -> None:
        """``environment``: variables that the worker sets for the program. Those of the definition take precedence."""
        self.spools: dict[str, Spool] = {}
        self.paths: dict[str, str] = {}
        self.given: dict[str, int] = {}
        self.definition = definition
        self._template = definition
        self._claimed = claimed
        self._values: Values = {}
        self._filled: Filled | None = None
        self._resolved: dict[str, str] = {}  # secrets by their references
        self._files: dict[str, OutputFile] = {}  # by stream, the file that the program's own process opens
        self._marker = marker
        self._folder = folder
        self._report = report
        self._worker_variables = environment

    @property
    def payload(self) -> Path:
        """The payload file, which exists only if the run has a payload."""
        return Path(spool_path(self._folder, *self._claimed.key, "payload"))

    @property
    def script(self) -> Path:
        """The file with the script of a ``sql`` job, which exists only for one."""
        return Path(spool_path(self._folder, *self._claimed.key, "script"))

    @property
    def fingerprints(self) -> Path:
        """The file that recognises a change of the secrets, which exists only if there are some."""
        return fingerprints_path(self._report.path)

    @property
    def parameters(self) -> Path:
        """The file of parameters, which exists only if the job declares some."""
        return Path(spool_path(self._folder, *self._claimed.key, "parameters"))

    def places(self) -> list[Place]:
        """Return what the start uses and what may not answer: its user, paths outside of the spool, and keyrings.

        The user comes first, because the others depend on it.
        """
        try:
            job = self._fill().job
        except StartError:  # the start reports it
            return []
        base = job.directory or "."
        found: list[Place] = [] if job.user is None else [User(job.user)]
        found += [] if job.directory is None else [job.directory if job.user else Opened(job.directory)]
        if job.sql is None and not job.shell:
            path = job.environment.get("PATH", base_environment()["PATH"])
            search = "" if "/" in job.command[0] else path
            if isinstance(search, str):
                found.append(_program_place(job.command[0], base, search, job.user))
        for stream in STREAMS:
            path = getattr(job.output, stream).path
            whole = None if path is None else os.path.join(base, path)  # noqa: PTH118
            found += [] if whole is None else [os.path.dirname(whole), whole]  # noqa: PTH120
        secrets = [value for value in job.environment.values() if not isinstance(value, str)]
        secrets += [] if job.sql is None or isinstance(job.sql.connection, str) else [job.sql.connection]
        references = [one.secret for one in secrets]
        found += [one.removeprefix("file:") for one in references if one.startswith("file:")]
        return found + [Kept(one) for one in references if one.startswith("keyring:")]

    def outputs(self, process: Process | None) -> list[str]:
        """Return the paths of the files that the program writes to, and of what it has open as its output.

        A file may be renamed while it is open, as by the rotation of another run.
        """
        open_ones = [] if process is None else [f"/proc/{process.pid}/fd/{number}" for number in (1, 2)]
        return [*self.paths.values(), *open_ones]

    def series(self, stream: str) -> Series | None:
        """Return the series to which the file of a stream belongs; None: the stream is not `timestamped`."""
        destination, template = (getattr(one.output, stream) for one in (self.definition, self._template))
        if destination.kind != "timestamped":
            return None
        return Series(destination.path, self.definition.directory, template.path, self._claimed.job)

    def _fill(self) -> Filled:
        """Fill in the run's values. From then on, what is said about the run shows none that is sensitive."""
        self._filled = fill_job(self.definition, self._claimed)
        self._report.mask = self._mask([text.encode() for text in self._filled.secrets])
        return self._filled

    def _mask(self, secrets: Sequence[bytes]) -> Mask:
        return Mask(in_encoding(secrets, self.definition.encoding))

    def start(self) -> Process:
        """Start the program. After a failure only ``spools`` and the payload file are left; the caller removes them.

        Raises:
            StartError: the program cannot start. Its cause is an OSError only if the machine may be at fault.
            SecretError: a secret cannot be resolved.
            OSError: a file in the worker's spool cannot be created.
        """
        self.definition, self._values, hidden = self._filled or self._fill()
        os.mkdir(self._folder, 0o700)  # noqa: PTH102 (in a hot path)
        program, secrets = self._program()
        if secrets:
            self._report.mask = self._mask([*secrets, *(text.encode() for text in hidden)])
        if self._resolved:
            keep(self.fingerprints, self._resolved)
        with contextlib.ExitStack() as opened:
            handles = []
            for stream in STREAMS:
                handles.append(self._open(stream))
                opened.callback(os.close, handles[-1])
            stdout, stderr = (self._files.get(stream) for stream in STREAMS)
            return start(replace(program, files=(stdout, stderr)), *handles)

    def remove_files(self, leaves_output: bool) -> None:
        """Remove what was written for the program, and the folder if nothing is left in it.

        Args:
            leaves_output: the next worker of this machine stores the output, and needs the fingerprints for that.
        """
        files = [] if self._claimed.payload is None else [self.payload]
        files += [self.parameters] if self.definition.parameters else []
        files += [] if self.definition.sql is None else [self.script]
        files += [self.fingerprints] if self._resolved and not leaves_output else []
        for file in files:
            with contextlib.suppress(OSError):  # missing, or replaced by the program with something else
                file.unlink()
        with contextlib.suppress(OSError):  # it was never made, or something is left in it
            self._folder.rmdir()

    def _program(self) -> tuple[Program, list[bytes]]:
        job, claimed = self.definition, self._claimed
        arguments = job.arguments if claimed.arguments is None else tuple(read_json(claimed.arguments))
        environment, secrets = self._environment()
        if job.sql is not None:
            if arguments:
                raise StartError("a sql job takes no arguments; start it without them, or use parameters")
            check_installation()  # without it the run would end as failed by its own program
            argv: tuple[str, ...] = SQL_PROGRAM
            environment |= self._write_script(job.sql, secrets)
        elif job.shell:
            argv = ("/bin/sh", "-c", job.command[0], "sh", *arguments)
        else:
            argv = (*job.command, *arguments)
        if job.user:
            self._report.create_for(job.user)
        given_limits = job.limits
        limits = None if given_limits is None else Limits(given_limits.memory, given_limits.cpu, given_limits.processes)
        return Program(argv, self._marker, environment, job.directory, job.user, job.detach, limits), secrets

    def _environment(self) -> tuple[dict[str, str], list[bytes]]:
        """Return the complete environment of the program, and its secret values."""
        job, claimed = self.definition, self._claimed
        base = environment_of(job.user) if job.user else base_environment()
        environment = {**base, **self._worker_variables}
        secrets: list[bytes] = []
        for name, value in job.environment.items():
            text = value if isinstance(value, str) else self._resolve(value)
            environment[name] = text
            if not isinstance(value, str) and text:
                secrets.append(text.encode())
        environment |= {
            "JOBFAC_RUN_ID": str(claimed.id),
            "JOBFAC_ATTEMPT": str(claimed.attempt),
            "JOBFAC_JOB": claimed.job,
            "JOBFAC_REPORT": str(self._report.path),
            **dict(origin_variables(claimed)),
        }
        if claimed.sequence_run_id is not None:
            environment["JOBFAC_SEQUENCE_RUN_ID"] = str(claimed.sequence_run_id)
        if claimed.payload is not None:
            environment |= self._write_payload(claimed.payload)
        if job.parameters:
            environment |= dict(parameter_variables(self._values))
            environment["JOBFAC_PARAMETERS_FILE"] = str(self.parameters)
            text = json.dumps(self._values, ensure_ascii=False, indent=2)
            self._give(self.parameters, text)
        return environment, secrets

    def _resolve(self, secret: Secret | str) -> str:
        value = resolve(secret)
        self._resolved[secret if isinstance(secret, str) else secret.secret] = value
        return value

    def _write_payload(self, payload: str) -> Mapping[str, str]:
        """Write the payload file; returns the variables that pass the payload to the program."""
        self._give(self.payload, payload)
        variables = {"JOBFAC_PAYLOAD_FILE": str(self.payload)}
        if len(payload) <= PAYLOAD_IN_ENVIRONMENT and "\0" not in payload:
            variables["JOBFAC_PAYLOAD"] = payload
        return variables

    def _give(self, path: Path, text: str) -> None:
        data = text.encode()
        write_private(path, data, self.definition.user)
        self.given[str(path)] = len(data)

    def _started_at(self) -> datetime:
        """Return when this attempt started. The run's own time is that of its first start."""
        first: datetime = self._claimed.started_at
        return first if self._claimed.attempt == 1 else datetime.now(UTC)

    def _write_script(self, sql: Sql, secrets: list[bytes]) -> Mapping[str, str]:
        """Write the file of a ``sql`` job; returns the variables for its program. Its URL and password are secrets."""
        url = self._resolve(sql.connection)
        secrets += secrets_of(url)
        body = sql.model_dump(exclude_none=True, exclude={"connection", "timeout"})
        if sql.timeout is not None:
            body["timeout"] = sql.timeout  # in seconds; a dump writes 30s
        run = self._claimed
        body["session"] = f"jobfac run {run.id} of {run.created_at.isoformat()}: {run.job}"  # factories share numbers
        self._give(self.script, json.dumps(body))
        return {"JOBFAC_SQL_FILE": str(self.script), "JOBFAC_SQL_URL": url}

    def _open(self, stream: str) -> int:
        output = self.definition.output
        destination = getattr(output, stream)
        if destination.kind == "none":
            return os.open(os.devnull, os.O_WRONLY)
        if destination.kind == "database":
            name = spool_path(self._folder, *self._claimed.key, stream)
            try:
                self.spools[stream] = spool = Spool(name, max(1, output.limit), self._report.mask)
            except StartError as error:
                raise error.__cause__ or error from None  # an OSError, as of the other files in the worker's spool
            return spool.open_for_program()
        rotate = output.rotate
        series = self.series(stream)
        mark = "" if series is None else series.mark
        path = destination_path(
            destination.kind, destination.path, self.definition.directory, self._claimed.id, self._started_at()
        )
        self.paths[stream] = str(path)
        self._files[stream] = OutputFile(destination.kind, str(path.absolute()), rotate.size, rotate.keep, mark)
        return os.open(os.devnull, os.O_WRONLY)


@functools.lru_cache(1000)
def _program_place(name: str, base: str, search: str, user: str | None) -> Search:
    """Return where a program is looked for. ``search``: a PATH. ``user``: as whom it runs."""
    folders = search.split(os.pathsep)
    return Search(tuple(os.path.join(base, one, name) for one in folders), user)  # noqa: PTH118 (it may be missing)
