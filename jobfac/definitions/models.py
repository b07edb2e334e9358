"""The models of definitions: a ``Job`` runs a program, a ``Sequence`` runs jobs in steps.

Durations are in seconds and sizes in bytes. ``canonical`` returns the JSON form that is stored.
"""

import codecs
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    Field,
    PlainValidator,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from jobfac.definitions.execution.limits import Limits
from jobfac.definitions.execution.output import Output
from jobfac.definitions.execution.policies import Concurrency, Retention, Retry, Short
from jobfac.definitions.execution.sql import ONLY_FOR_COMMANDS, Sql
from jobfac.definitions.execution.watching import Expect, Usual, WarnAfter
from jobfac.definitions.notify import Notify, TextOrSecret
from jobfac.definitions.parameters import Declared
from jobfac.definitions.parameters.checks import RESERVED
from jobfac.definitions.schedule import Schedule
from jobfac.definitions.shell_words import split
from jobfac.definitions.steps import Step
from jobfac.definitions.triggers.call import Call
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
    read_text,
    read_word,
    shown,
    whole,
)
from jobfac.states import JobKind


def _read_variable(value: Any) -> str:
    name = read_text(value)
    if not name or "=" in name:
        raise ValueError(f"must be the name of an environment variable, not {shown(name)}")
    if name.upper() in RESERVED or name.upper().startswith("JOBFAC_PARAM_"):
        raise ValueError(f"must not be {name}, which is set for each run; choose another name")
    return name


NOT_FOR_OUTPUT = frozenset({"idna", "punycode", "unicode_escape", "raw_unicode_escape"})
"""Encodings of names and literals. Their decoders fail on other bytes, or take a time that is quadratic in them."""


def _read_encoding(value: Any) -> str:
    name = read_word(value)
    try:
        known = codecs.lookup(name).name.replace("-", "_")
        is_fit = known not in NOT_FOR_OUTPUT and "".encode(name) is not None
    except LookupError:
        is_fit = False
    if not is_fit:
        raise ValueError(f"must be a text encoding such as utf-8 or cp1252, not {shown(name)}")
    return name


LONGEST_COMMAND = 100_000
"""Characters of a command that is split as by a shell. The time grows with their square: four million take minutes."""


def _split(command: Any) -> list[Any] | tuple[Any, ...]:
    if isinstance(command, list | tuple):
        return command
    if isinstance(command, str):
        if len(command) > LONGEST_COMMAND:
            raise ValueError(f"is text of {len(command):,} characters; write more than {LONGEST_COMMAND:,} as a list")
        try:
            return split(command)
        except ValueError as error:
            raise ValueError(f"cannot be split into arguments: {str(error).lower()}") from error
    raise ValueError(f"must be a list of arguments, or text to be split into them, not {shown(command)}")


Variable = Annotated[str, PlainValidator(_read_variable, json_schema_input_type=str)]
Encoding = Annotated[str, PlainValidator(_read_encoding, json_schema_input_type=str), Field(title="encoding")]
ExitCode = Annotated[int, whole(0, 255)]
Priority = Annotated[int, whole(-1000, 1000)]


class Definition(Model):
    """The keys that jobs and sequences share."""

    name: Short | None = Field(default=None, description="A display name.", examples=["Export orders"])
    description: Text | None = Field(default=None, description="The purpose of the job.")
    category: Short | None = Field(default=None, description="Groups jobs for defaults, lists, reports and API keys.")
    enabled: Flag = Field(default=True, description="Whether the job may start.")
    on_demand: Flag = Field(default=True, description="Whether the job may be started on demand.")
    replace_arguments: Flag = Field(default=True, description="Whether a start may replace the arguments.")
    priority: Priority = Field(default=0, description="Runs with a higher priority are claimed first.")
    already_running: Literal["start", "deny", "queue", "replace"] = Field(
        default="start",
        description="What a start does while another run of the job is active: start another run, deny it, queue it "
        "until the other run has ended, or replace the other run by stopping it first.",
    )
    concurrency: Concurrency | None = Field(
        default=None, description="A limit for all jobs that share its key.", examples=[{"limit": 1, "key": "ledger"}]
    )
    retention: Retention | None = Field(
        default=None, description="How long finished runs are kept; default: the setting retention.", examples=["30d"]
    )
    expect: Expect | None = Field(
        default=None,
        description="The expected success; without it the job is overdue.",
        examples=[{"success_by": "06:00", "timezone": "Europe/Berlin", "days": "weekdays"}],
    )
    pause_after: Annotated[int, whole(1, 1000)] | None = Field(
        default=None,
        description="Pause the schedules after this many failures in a row, and send the event paused.",
        examples=[5],
    )
    parameters: Declared = Field(
        default={},
        description="Values that a start may give, by name: typed, checked, and shown with the run.",
        examples=[{"day": {"type": "date", "default": "${due.date}"}}],
    )
    call: Call | None = Field(
        default=None,
        description="What a start URL of the job takes from a request (`jobfac jobs url`).",
        examples=[{"signature": {"github": {"secret": "env:GITHUB_HOOK_KEY"}}, "parameters": {"ref": "${body.ref}"}}],
    )
    schedules: tuple[Schedule, ...] = Field(default=(), description="When the job is due.")
    notify: tuple[Notify, ...] = Field(default=(), description="Which events are sent to whom.")

    @model_validator(mode="after")
    def _may_be_called(self) -> Self:
        if self.call is not None and not self.on_demand:
            raise ValueError("has call and on_demand: false, which refuses every start by a URL; remove one of them")
        return self

    def schedule_names(self) -> list[str]:
        """Return the names of ``schedules``, in order. The name of an unnamed schedule is its position, from 1."""
        return [schedule.name or str(position) for position, schedule in enumerate(self.schedules, start=1)]


class Job(Definition):
    """A console program, or a SQL script. A program's argument list is ``command`` followed by ``arguments``. With
    ``shell`` the command is one text for the shell, the only entry of the tuple. With ``sql`` the command is empty."""

    kind: ClassVar[JobKind] = JobKind.PROGRAM

    shell: Flag = Field(default=False, description="Run the command, as one text, with the shell.")
    command: tuple[str, ...] = Field(
        default=(),
        exclude_if=lambda command: not command,
        description="The program and its fixed arguments: a list, or text that is split as by a shell.",
        examples=[["python3", "export.py", "--full"]],
    )
    sql: Sql | None = Field(
        default=None,
        description="A SQL script in place of command.",
        examples=[{"connection": {"secret": "env:DW_URL"}, "text": "EXEC dbo.refresh"}],
    )
    arguments: tuple[Text, ...] = Field(
        default=(), description="Appended to the command. A start or a schedule may replace them.", examples=[["/etc"]]
    )
    directory: Word | None = Field(
        default=None,
        description="The working directory; default: that of the worker, or / where the job's user cannot get there.",
    )
    environment: dict[Variable, TextOrSecret] = Field(
        default={},
        description="Environment variables, as text or as a reference to a secret.",
        examples=[{"MODE": "nightly", "TOKEN": {"secret": "env:EXPORT_TOKEN"}}],
    )
    user: Word | None = Field(default=None, description="The user to run as, if the worker may change the user.")
    pool: Id = Field(default="default", description="The pool whose workers may run the job.", examples=["etl"])
    labels: dict[Id, Text] = Field(
        default={}, description="Labels that a worker must have.", examples=[{"os": "linux", "zone": "a"}]
    )
    slots: Annotated[int, whole(1, 1000)] = Field(
        default=1, description="How many of its worker's slots a run takes. A worker with fewer never takes it."
    )
    each_worker: Flag = Field(
        default=False, description="A start makes one run for each live worker that may take it, pinned to that worker."
    )
    limits: Limits | None = Field(
        default=None,
        description="Limits of memory, CPU and processes.",
        examples=[{"memory": "2GiB", "cpu": 1.5, "processes": 200}],
    )
    timeout: PositiveDuration | None = Field(
        default=None, description="Stop an attempt that runs longer; it ends as timed_out.", examples=["30m"]
    )
    silent_timeout: PositiveDuration | None = Field(
        default=None,
        description="Stop an attempt that writes nothing for this long, neither output nor reports; it ends as "
        "timed_out.",
        examples=["15m"],
    )
    warn_after: WarnAfter | None = Field(
        default=None,
        description="Send the event running_long after this time, or after a multiple of the usual time; the run "
        "continues.",
        examples=["20m"],
    )
    grace: Duration = Field(default=10.0, description="The time between the stop request (TERM) and the kill.")
    detach: Flag = Field(
        default=False, description="Do not stop processes that are still running when the program exits."
    )
    retry: Retry = Field(
        default=Retry(), description="When a failed attempt is retried.", examples=[{"attempts": 3, "delay": "10s"}]
    )
    restartable: Flag = Field(default=True, description="After the death of its worker: run again, or end as lost.")
    success_codes: Many[ExitCode] = Field(default=(0,), description="Exit codes that mean success.")
    warning_codes: tuple[ExitCode, ...] = Field(default=(), description="Exit codes that mean success with a warning.")
    output: Output = Field(default=Output(), description="Where standard output and standard error go.")
    encoding: Encoding = Field(default="utf-8", description="The encoding of the output.", examples=["cp1252"])
    aware: Flag = Field(default=False, description="Only the result that the program reports is a success.")

    @property
    def reports(self) -> bool:
        """Whether the result that the program reports counts, not its exit code."""
        return self.aware or self.sql is not None

    @field_validator("command", mode="plain", json_schema_input_type=Plain | list[Plain])
    @classmethod
    def _command(cls, value: Any, info: ValidationInfo) -> tuple[str, ...]:
        if info.data.get("shell"):
            if isinstance(value, list | tuple) and len(value) == 1:
                value = value[0]
            if not isinstance(value, str) or not value.strip():
                raise ValueError("must be text for the shell, because shell is true")
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
        if self.sql is None and not self.command:
            raise ValueError("command must be given, or sql")
        if self.sql is not None:
            if self.command:
                raise ValueError("has both command and sql; a job runs a program or a script")
            for key in ONLY_FOR_COMMANDS:
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise ValueError(f"has {key}, which is only for a command")
        both = sorted(set(self.success_codes) & set(self.warning_codes))
        if both:
            raise ValueError(f"has {both[0]} in success_codes and in warning_codes; keep it in one of them")
        warn_at = self.warn_after.least if isinstance(self.warn_after, Usual) else self.warn_after
        if self.timeout is not None and warn_at is not None and warn_at >= self.timeout:
            raise ValueError("has a warn_after that is not before its timeout, so it would never warn")
        if self.each_worker and self.already_running != "start":
            raise ValueError(
                f"has each_worker and already_running: {self.already_running}, which would let one of its runs keep "
                "out the others; use concurrency with a key to run them one after another"
            )
        return self


class Sequence(Definition):
    """Runs jobs in steps, beginning with the first step."""

    kind: ClassVar[JobKind] = JobKind.SEQUENCE

    steps: Annotated[tuple[Step, ...], Field(min_length=1)] = Field(description="The steps. The first one runs first.")
    maximum_visits: Annotated[int, whole(1, 10_000)] = Field(
        default=100, description="How often a run may enter the same step. One more visit ends the sequence as failed."
    )

    @cached_property
    def places(self) -> Mapping[str, int]:
        """The place of each step in ``steps``, by name."""
        return {step.name: place for place, step in enumerate(self.steps)}


AnyJob = Job | Sequence


class Defaults(Model):
    """Defaults for the jobs of a category."""

    notify: tuple[Notify, ...] = Field(default=(), description="Notifications of all jobs of the category.")


def canonical(definition: AnyJob | Defaults) -> dict[str, Any]:
    """Return the JSON form: without default values, durations and sizes as short texts, keys in the order of the
    models with schedules and notify last.

    ``enabled`` is left out, because disabling a job creates no new version.
    """
    body = definition.model_dump(mode="json", exclude_defaults=True, exclude={"enabled"})
    for last in ("schedules", "notify"):
        if last in body:
            body[last] = body.pop(last)
    return body
