"""What a definition says: a ``Job`` runs a program, a ``Sequence`` runs jobs in steps.

The models hold durations as seconds and sizes as bytes. ``canonical`` gives the JSON-able form that is stored.
"""

import codecs
import shlex
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    PlainValidator,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema

from jobfac.definitions.notify import Notify, TextOrSecret
from jobfac.definitions.output import Output
from jobfac.definitions.parameters import Declared, Parameter
from jobfac.definitions.parameters.checks import RESERVED
from jobfac.definitions.schedule import Schedule
from jobfac.definitions.steps import Step
from jobfac.definitions.values import (
    Duration,
    Flag,
    Id,
    Many,
    Model,
    Plain,
    PositiveDuration,
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


def _read_variable(value: Any) -> str:
    name = read_text(value)
    if not name or "=" in name:
        raise ValueError(f"must be the name of an environment variable, not {shown(name)}")
    if name.upper() in RESERVED or name.upper().startswith("JOBFAC_PARAM_"):
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
Short = Annotated[
    str,
    PlainValidator(_read_short, json_schema_input_type=Annotated[str, Field(max_length=128)] | int),
    Field(title="text"),
]
"""Text of at most 128 characters."""

Encoding = Annotated[str, PlainValidator(_read_encoding, json_schema_input_type=str), Field(title="encoding")]
ExitCode = Annotated[int, whole(0, 255)]
Priority = Annotated[int, whole(-1000, 1000)]


class Retry(Model):
    """When a failed attempt is tried again. The n-th retry waits ``delay * backoff ** (n - 1)`` seconds, at most
    ``maximum_delay``, varied by a random share of up to ``jitter``."""

    attempts: Annotated[int, whole(1, 1000)] = Field(default=1, description="Attempts in all; the first one counts.")
    delay: Duration = Field(default=10.0, description="The wait before the first retry.")
    backoff: Annotated[float, decimal(1, 100)] = Field(default=2.0, description="Each wait is so many times longer.")
    maximum_delay: Duration = Field(default=600.0, description="The longest wait.")
    jitter: Annotated[float, decimal(0, 1)] = Field(default=0.1, description="How much a wait varies at random.")
    on: Many[Literal["failed", "timed_out", "start_failed"]] = Field(
        default=("failed", "timed_out"), description="The outcomes that are tried again."
    )

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.delay > self.maximum_delay:
            longest = write_duration(self.maximum_delay)
            raise ValueError(f"has a delay longer than its maximum_delay ({longest}); raise maximum_delay")
        return self


class Concurrency(Model):
    """At most ``limit`` runs at a time of all jobs that share the ``key``."""

    limit: Annotated[int, whole(1, 100_000)] = Field(default=1, description="How many runs at a time.")
    key: Short = Field(description="The name of the limit; jobs that name the same key share it.", examples=["ledger"])


class Retention(Model):
    """How long finished runs are kept: until they are older than ``age`` or ``count`` newer ones exist."""

    age: PositiveDuration | None = Field(
        default=None, description="Keep a run for so long after its end.", examples=["30d"]
    )
    count: Annotated[int, whole(1, 1_000_000_000)] | None = Field(
        default=None, description="How many finished runs are kept at most.", examples=[1000]
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """A duration may stand for the mapping."""
        return {"anyOf": [{"type": ["string", "number"], "title": "duration"}, handler(core)]}

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


class Definition(Model):
    """What jobs and sequences have in common."""

    name: Short | None = Field(default=None, description="A name for people.", examples=["Export orders"])
    description: Text | None = Field(default=None, description="What it is for.")
    category: Short | None = Field(default=None, description="Groups jobs: for defaults, lists, reports and API keys.")
    enabled: Flag = Field(default=True, description="Whether it may start at all.")
    on_demand: Flag = Field(default=True, description="Whether it may be started by hand.")
    replace_arguments: Flag = Field(default=True, description="Whether a start may give other arguments.")
    priority: Priority = Field(default=0, description="Runs with a higher priority are claimed first.")
    already_running: Literal["start", "deny", "queue", "replace"] = Field(
        default="start",
        description="What a start does while a run of the job is under way: start beside it, deny the new run, queue "
        "it until the other has ended, or stop the other and replace it.",
    )
    concurrency: Concurrency | None = Field(
        default=None, description="A limit for all jobs that share its key.", examples=[{"limit": 1, "key": "ledger"}]
    )
    retention: Retention | None = Field(
        default=None, description="How long finished runs are kept; else the setting retention holds.", examples=["30d"]
    )
    parameters: Declared = Field(
        default={},
        description="Values that a start may give, by name: typed, checked, and shown with the run.",
        examples=[{"day": {"type": "date", "default": "${due.date}"}}],
    )
    schedules: tuple[Schedule, ...] = Field(default=(), description="When it is due.")
    notify: tuple[Notify, ...] = Field(default=(), description="Who is notified of what.")

    @field_validator("parameters")
    @classmethod
    def _parameters(cls, declared: dict[str, Parameter]) -> dict[str, Parameter]:
        known: dict[str, str] = {}
        for name in declared:
            twin = known.setdefault(name.upper(), name)
            if twin != name:
                raise ValueError(f"has '{name}' and '{twin}', which differ only in case; rename one of them")
        return declared

    def schedule_names(self) -> list[str]:
        """The names of ``schedules``, in order: their own or, without one, their position from 1."""
        return [schedule.name or str(position) for position, schedule in enumerate(self.schedules, start=1)]


class Job(Definition):
    """A console program. Its argument list is ``command`` followed by ``arguments``. With ``shell`` the command is one
    text for the shell, in the tuple alone."""

    kind: ClassVar[JobKind] = JobKind.PROGRAM

    shell: Flag = Field(default=False, description="Run the command, as one text, with the shell.")
    command: tuple[str, ...] = Field(
        description="The program and its fixed arguments: a list, or text that is split as a shell splits it.",
        examples=[["python3", "export.py", "--full"]],
    )
    arguments: tuple[Text, ...] = Field(
        default=(), description="Appended to the command. A start or a schedule may replace them.", examples=[["/etc"]]
    )
    directory: Word | None = Field(default=None, description="Where it runs. Without it: the worker's directory.")
    environment: dict[Variable, TextOrSecret] = Field(
        default={},
        description="Environment variables, as text or as a reference to a secret.",
        examples=[{"MODE": "nightly", "TOKEN": {"secret": "env:EXPORT_TOKEN"}}],
    )
    user: Word | None = Field(default=None, description="The user to run as, where the worker may change the user.")
    pool: Id = Field(default="default", description="The pool whose workers may take it.", examples=["etl"])
    labels: dict[Id, Text] = Field(
        default={}, description="Labels that a worker must have to take it.", examples=[{"os": "linux", "zone": "a"}]
    )
    timeout: PositiveDuration | None = Field(
        default=None, description="Stop an attempt that runs longer; it ends as timed_out.", examples=["30m"]
    )
    warn_after: PositiveDuration | None = Field(
        default=None, description="Send the event running_long after this time and let it run.", examples=["20m"]
    )
    grace: Duration = Field(default=10.0, description="The time between the polite stop (TERM) and the kill.")
    detach: Flag = Field(default=False, description="Let processes live that the program leaves behind when it exits.")
    retry: Retry = Field(
        default=Retry(), description="When a failed attempt is tried again.", examples=[{"attempts": 3, "delay": "10s"}]
    )
    restartable: Flag = Field(default=True, description="After the death of its worker: run again, or end as lost.")
    success_codes: Many[ExitCode] = Field(default=(0,), description="Exit codes that are a success.")
    warning_codes: tuple[ExitCode, ...] = Field(default=(), description="Exit codes that are a success with a warning.")
    output: Output = Field(default=Output(), description="Where standard output and standard error go.")
    encoding: Encoding = Field(default="utf-8", description="The encoding of its output.", examples=["cp1252"])
    aware: Flag = Field(default=False, description="The program reports its own result; the exit code does not count.")

    @field_validator("command", mode="plain", json_schema_input_type=Plain | list[Plain])
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
    """Jobs run in steps, the first step first."""

    kind: ClassVar[JobKind] = JobKind.SEQUENCE

    steps: Annotated[tuple[Step, ...], Field(min_length=1)] = Field(description="The steps, the first one first.")
    maximum_visits: Annotated[int, whole(1, 10_000)] = Field(
        default=100, description="How often a run may enter the same step; beyond it the sequence ends as failed."
    )


AnyJob = Job | Sequence


class Defaults(Model):
    """What holds for the jobs of a category that do not say it themselves."""

    notify: tuple[Notify, ...] = Field(default=(), description="Notifications of every job of the category.")


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
