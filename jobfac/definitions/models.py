"""What a definition says: a ``Job`` runs a program, a ``Sequence`` runs jobs in steps.

The models hold durations as seconds and sizes as bytes. ``canonical`` gives the JSON-able form that is stored.
"""

import codecs
import shlex
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    Field,
    PlainSerializer,
    PlainValidator,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)

from jobfac.definitions.notices import Notify, TextOrSecret
from jobfac.definitions.schedule import Schedule
from jobfac.definitions.steps import Step
from jobfac.definitions.values import (
    Duration,
    Flag,
    Id,
    Many,
    Model,
    PositiveDuration,
    Size,
    Text,
    Word,
    decimal,
    read_text,
    read_word,
    shown,
    whole,
    write_duration,
)
from jobfac.states import JobKind

RESERVED = frozenset(
    f"JOBFAC_{name}" for name in ("RUN_ID", "ATTEMPT", "JOB", "SEQUENCE_RUN_ID", "PAYLOAD", "PAYLOAD_FILE", "REPORT")
)
"""Environment variables that a job program receives from its worker."""


def _read_variable(value: Any) -> str:
    name = read_text(value)
    if not name or "=" in name:
        raise ValueError(f"must be the name of an environment variable, not {shown(name)}")
    if name in RESERVED:
        raise ValueError(f"must not be {name}, which is set for each run; choose another name")
    return name


def _read_short(value: Any) -> str:
    text = read_word(value)
    length = len(text.encode("utf-16-le")) // 2  # as SQL Server counts
    if length > 128:
        raise ValueError(f"must be at most 128 characters, not {length}")
    return text


def _read_encoding(value: Any) -> str:
    name = read_word(value)
    try:
        "".encode(codecs.lookup(name).name)
    except LookupError as error:
        raise ValueError(f"must be a text encoding such as utf-8 or cp1252, not {shown(name)}") from error
    return name


def _split(command: Any) -> list[Any] | tuple[Any, ...]:
    if isinstance(command, list | tuple):
        return command
    if isinstance(command, str):
        try:
            return shlex.split(command)
        except ValueError as error:
            raise ValueError(f"cannot be split into arguments: {str(error).lower()}") from error
    raise ValueError(f"must be a list of arguments, or text to be split into them, not {shown(command)}")


Variable = Annotated[str, PlainValidator(_read_variable, json_schema_input_type=str)]
Short = Annotated[str, PlainValidator(_read_short, json_schema_input_type=str)]
Encoding = Annotated[str, PlainValidator(_read_encoding, json_schema_input_type=str)]
ExitCode = Annotated[int, PlainValidator(whole(0, 255), json_schema_input_type=int)]
Priority = Annotated[int, PlainValidator(whole(-1000, 1000), json_schema_input_type=int)]


class Retry(Model):
    """``attempts`` in all, the first included. The n-th retry waits ``delay * backoff ** (n - 1)`` seconds, at most
    ``maximum_delay``, more or less by a random share of up to ``jitter``. Only the outcomes ``on`` are tried again."""

    attempts: Annotated[int, PlainValidator(whole(1, 1000), json_schema_input_type=int)] = 1
    delay: Duration = 10.0
    backoff: Annotated[float, PlainValidator(decimal(1, 100), json_schema_input_type=float)] = 2.0
    maximum_delay: Duration = 600.0
    jitter: Annotated[float, PlainValidator(decimal(0, 1), json_schema_input_type=float)] = 0.1
    on: Many[Literal["failed", "timed_out", "start_failed"]] = ("failed", "timed_out")

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.delay > self.maximum_delay:
            longest = write_duration(self.maximum_delay)
            raise ValueError(f"has a delay longer than its maximum_delay ({longest}); raise maximum_delay")
        return self


class Concurrency(Model):
    """At most ``limit`` runs at a time of all jobs that share the ``key``."""

    limit: Annotated[int, PlainValidator(whole(1, 100_000), json_schema_input_type=int)] = 1
    key: Short


class Retention(Model):
    """Finished runs are kept until they are older than ``age`` seconds or more than ``count`` newer ones exist."""

    age: PositiveDuration | None = None
    count: Annotated[int, PlainValidator(whole(1, 1_000_000_000), json_schema_input_type=int)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_age(cls, value: Any) -> Any:
        return {"age": value} if isinstance(value, str | int | float) else value

    @model_serializer(mode="wrap")
    def _to_age(self, write: SerializerFunctionWrapHandler) -> Any:
        written = write(self)
        return written["age"] if set(written) == {"age"} else written

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.age is None and self.count is None:
            raise ValueError("must have age (such as 30d) or count")
        return self


class Destination(Model):
    """Where a stream goes: "database", "none", or, with a ``path`` on the worker, a file that each run overwrites,
    appends to, or creates anew with its start time in place of the ``*``."""

    kind: Literal["none", "database", "overwrite", "append", "timestamped"]
    path: str | None = None


def _read_destination(value: Any) -> Destination:
    if isinstance(value, Destination):
        return value
    if value in ("none", "database"):
        return Destination(kind=value)
    if isinstance(value, dict) and len(value) == 1:
        kind, path = next(iter(value.items()))
        if kind in ("overwrite", "append", "timestamped"):
            path = read_word(path)
            if kind == "timestamped" and path.rpartition("/")[2].count("*") != 1:
                raise ValueError(f"must have one * in the file's name, where the time goes, not {shown(path)}")
            return Destination(kind=kind, path=path)
    raise ValueError(
        f"must be none, database, {{overwrite: PATH}}, {{append: PATH}} or {{timestamped: PATH}}, not {shown(value)}"
    )


def _write_destination(destination: Destination) -> str | dict[str, str]:
    return destination.kind if destination.path is None else {destination.kind: destination.path}


Stream = Annotated[
    Destination,
    PlainValidator(_read_destination, json_schema_input_type=str | dict[str, str]),
    PlainSerializer(_write_destination, return_type=str | dict[str, str]),
]


class Rotate(Model):
    """An appended file that reaches ``size`` bytes is set aside; ``keep`` such files are kept."""

    size: Size = 10 * 2**20
    keep: Annotated[int, PlainValidator(whole(0, 1000), json_schema_input_type=int)] = 5


class Output(Model):
    """Where standard output and standard error go. ``limit``: bytes of each stream that the database keeps per attempt,
    the head and the tail of what was written."""

    stdout: Stream = Destination(kind="database")
    stderr: Stream = Destination(kind="database")
    limit: Size = 2**20
    rotate: Rotate = Rotate()


class Definition(Model):
    """What jobs and sequences have in common."""

    name: Short | None = None
    description: Text | None = None
    category: Short | None = None
    enabled: Flag = True
    on_demand: Flag = True
    replace_arguments: Flag = True
    priority: Priority = 0
    already_running: Literal["start", "deny", "queue", "replace"] = "start"
    concurrency: Concurrency | None = None
    retention: Retention | None = None
    schedules: tuple[Schedule, ...] = ()
    notify: tuple[Notify, ...] = ()

    def schedule_names(self) -> list[str]:
        """The names of ``schedules``, in order: their own or, without one, their position from 1."""
        return [schedule.name or str(position) for position, schedule in enumerate(self.schedules, start=1)]


class Job(Definition):
    """A console program. Its argument list is ``command`` and then ``arguments``, which a start or a schedule may
    replace. With ``shell`` the command is one text for the shell, in the tuple alone."""

    kind: ClassVar[JobKind] = JobKind.PROGRAM

    shell: Flag = False
    command: tuple[str, ...]
    arguments: tuple[Text, ...] = ()
    directory: Word | None = None
    environment: dict[Variable, TextOrSecret] = Field(default={})
    user: Word | None = None
    pool: Id = "default"
    labels: dict[Id, Text] = Field(default={})
    timeout: PositiveDuration | None = None
    warn_after: PositiveDuration | None = None
    grace: Duration = 10.0
    detach: Flag = False
    retry: Retry = Retry()
    restartable: Flag = True
    success_codes: Many[ExitCode] = (0,)
    warning_codes: tuple[ExitCode, ...] = ()
    output: Output = Output()
    encoding: Encoding = "utf-8"
    aware: Flag = False

    @field_validator("command", mode="plain", json_schema_input_type=str | list[str])
    @classmethod
    def _command(cls, value: Any, info: ValidationInfo) -> tuple[str, ...]:
        if info.data.get("shell"):
            if isinstance(value, list | tuple) and len(value) == 1:
                value = value[0]
            if not isinstance(value, str) or not value.strip():
                raise ValueError("must be text for the shell, since shell is true")
            return (read_text(value),)
        words = tuple(map(read_text, _split(value)))
        if not words or not words[0].strip():
            raise ValueError("must begin with the program to run")
        return words

    @field_serializer("command")
    def _command_written(self, command: tuple[str, ...]) -> str | list[str]:
        return command[0] if self.shell else list(command)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        both = sorted(set(self.success_codes) & set(self.warning_codes))
        if both:
            raise ValueError(f"has {both[0]} in success_codes and in warning_codes; keep it in one of them")
        if self.timeout is not None and self.warn_after is not None and self.warn_after >= self.timeout:
            raise ValueError("has a warn_after that is not before its timeout, so it would never warn")
        return self


class Sequence(Definition):
    """Jobs run in steps, the first step first. ``maximum_visits``: how often one step may be entered in a run of the
    sequence; past it the sequence ends as failed."""

    kind: ClassVar[JobKind] = JobKind.SEQUENCE

    steps: Annotated[tuple[Step, ...], Field(min_length=1)]
    maximum_visits: Annotated[int, PlainValidator(whole(1, 10_000), json_schema_input_type=int)] = 100


AnyJob = Job | Sequence


class Defaults(Model):
    """What holds for the jobs of a category that do not say it themselves."""

    notify: tuple[Notify, ...] = ()


def canonical(definition: AnyJob | Defaults) -> dict[str, Any]:
    """The JSON-able form: defaults left out, durations and sizes in their short form, keys in the models' order with
    schedules and notify last.

    ``enabled`` is left out: switching a job off makes no new version of it.
    """
    body = definition.model_dump(mode="json", exclude_defaults=True, exclude={"enabled"})
    for last in ("schedules", "notify"):
        if last in body:
            body[last] = body.pop(last)
    return body
