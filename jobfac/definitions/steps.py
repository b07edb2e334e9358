"""The steps of a sequence: which jobs start together, under which condition, and which step follows."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, PlainSerializer, PlainValidator, model_validator

from jobfac.definitions.parameters.model import Declared, Given, ParameterName, read_given
from jobfac.definitions.patterns.moments import Clock, Zone
from jobfac.definitions.schedule import Dates, Times
from jobfac.definitions.values import Flag, Id, Many, Model, PositiveDuration, Text, read_id, shown, whole


class Go(Model):
    """Where a sequence continues: the "next" step in order (after the last step: the end), the "end" with its current
    outcome, "end_failed", or, with kind "step", the step named ``step``."""

    kind: Literal["next", "end", "end_failed", "step"]
    step: str | None = None


def _read_go(value: Any) -> Go:
    if isinstance(value, Go):
        return value
    if value in ("next", "end", "end_failed"):
        return Go(kind=value)
    if isinstance(value, dict) and set(value) == {"step"}:
        return Go(kind="step", step=read_id(value["step"]))
    raise ValueError(f"must be next, end, end_failed or {{step: NAME}}, not {shown(value)}")


def _write_go(go: Go) -> str | dict[str, str]:
    return {"step": go.step} if go.step is not None else go.kind


_ToStep = Annotated[dict[Literal["step"], Id], Field(min_length=1, max_length=1)]

Target = Annotated[
    Go,
    PlainValidator(_read_go, json_schema_input_type=Literal["next", "end", "end_failed"] | _ToStep),
    PlainSerializer(_write_go, return_type=str | dict[str, str]),
]


def _read_for_each(value: Any) -> Any:
    found = read_given(value)
    if isinstance(found, tuple) and found:
        return found
    if isinstance(found, str) and "${" in found:
        return found
    raise ValueError(f"must be a list, or a reference to one such as ${{parameters.days}}, not {shown(value)}")


_Scalar = str | int | float | bool
ForEach = Annotated[
    Any,
    PlainValidator(_read_for_each, json_schema_input_type=str | list[_Scalar]),
    PlainSerializer(lambda value: list(value) if isinstance(value, tuple) else value),
    Field(title="list or reference"),
]
"""The values for which a step starts its jobs."""


class StartIf(Model):
    """A condition for the start of a step: the local day is in ``dates`` and the local time in ``times``. If it is not
    met, the step's jobs do not start and the sequence continues at ``otherwise``."""

    dates: Dates | None = Field(default=None, description="The days on which the step may start.")
    times: Times | None = Field(default=None, description="The times of day at which the step may start.")
    timezone: Zone = Field(
        default="UTC", description="The time zone of these days and times.", examples=["Europe/Berlin"]
    )
    otherwise: Target = Field(
        default=Go(kind="next"), description="Where the sequence continues if the step may not start."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.dates is None and self.times is None:
            raise ValueError("must have dates or times")
        if self.times is not None and self.times.every is not None:
            raise ValueError("cannot use every in its times; use at, hours, minutes or between")
        return self


class Approve(Model):
    """A step that waits for a person."""

    by: Literal["operator", "admin"] = Field(default="operator", description="The role that may approve.")
    timeout: PositiveDuration | None = Field(
        default=None, description="How long it waits. Without it: until somebody decides.", examples=["4h"]
    )
    otherwise: Literal["fail", "succeed"] = Field(
        default="fail", description="What the step does when nobody has decided in time."
    )
    not_by_starter: Flag = Field(default=False, description="Nobody approves a run that they started.")
    message: Text | None = Field(default=None, description="The question to decide.", examples=["Publish the prices?"])
    parameters: Declared = Field(
        default={},
        description="Values that the approver gives. Later steps refer to them as ${steps.STEP.outputs.NAME}.",
        examples=[{"percent": {"type": "integer", "minimum": 1, "maximum": 100, "required": True}}],
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name, parameter in self.parameters.items():
            if parameter.sensitive:
                raise ValueError(
                    f"asks for the sensitive parameter '{name}', but later steps and their logs would show it; "
                    "let their jobs refer to a secret"
                )
            if parameter.required and self.timeout is not None and self.otherwise == "succeed":
                raise ValueError(
                    f"succeeds when nobody decides in time, but then nobody gives '{name}', which is required; "
                    "give it a default"
                )
        return self


class Wait(Model):
    """A step that waits for a time, without holding a slot."""

    duration: PositiveDuration | None = Field(
        default=None, description="So long, from the moment at which the step begins.", examples=["10m"]
    )
    until: Clock | None = Field(default=None, description="Until this time of day, the next one.", examples=["06:00"])
    timezone: Zone = Field(default="UTC", description="The time zone of until.", examples=["Europe/Berlin"])

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.duration is None) == (self.until is None):
            raise ValueError("must have either duration or until")
        return self

    def end(self, now: datetime) -> datetime:
        """Return when the wait is over that begins at ``now`` (aware)."""
        if self.until is None:
            return now + timedelta(seconds=self.duration or 0.0)
        zone = ZoneInfo(self.timezone)
        today = now.astimezone(zone).date()
        moments = (datetime.combine(today + timedelta(days=day), self.until, zone) for day in range(3))
        return next(moment for moment in moments if moment.astimezone(UTC) > now)


class Step(Model):
    """One step of a sequence: jobs that start together, and where the sequence goes afterwards. Instead of jobs it may
    have ``approve`` or ``wait``."""

    name: Id = Field(description="The name of the step within its sequence.", examples=["extract"])
    jobs: Many[Id] = Field(default=(), description="The jobs to start together. A sequence is a job too.")
    approve: Approve | None = Field(
        default=None, description="Wait for a person who approves.", examples=[{"by": "operator", "timeout": "4h"}]
    )
    wait: Wait | None = Field(default=None, description="Wait for a time.", examples=[{"duration": "10m"}])
    for_each: dict[ParameterName, ForEach] = Field(
        default={},
        description="Start the jobs once for each value of a parameter, or for each combination of several. Values: a "
        "list, or a reference to a list.",
        examples=[{"region": ["eu", "us"]}],
    )
    at_most: Annotated[int, whole(1, 10_000)] | None = Field(
        default=None, description="With for_each: the maximum number of these runs at a time.", examples=[4]
    )
    stop_on_failure: Flag = Field(
        default=False, description="With for_each: after a failure stop the other runs and start no more."
    )
    start_if: StartIf | None = Field(default=None, description="When the step may start. Without it: always.")
    proceed: Literal["when_all", "when_any", "at_once"] = Field(
        default="when_all",
        description="Continue when all jobs have ended, when any job has ended (the others keep running), or at once, "
        "without waiting. With at_once only on_success has an effect.",
    )
    on_success: Target = Field(default=Go(kind="next"), description="Where to continue if all jobs succeeded.")
    on_failure: Target = Field(default=Go(kind="end_failed"), description="Where to continue if no job succeeded.")
    on_mixed: Target = Field(
        default=Go(kind="end_failed"), description="Where to continue if some jobs succeeded and some did not."
    )
    arguments: dict[Id, tuple[Text, ...]] = Field(
        default={}, description="Arguments for jobs of the step, by job id.", examples=[{"load": ["--full"]}]
    )
    payloads: dict[Id, Text] = Field(default={}, description="Payloads for jobs of the step, by job id.")
    parameters: dict[Id, dict[ParameterName, Given]] = Field(
        default={},
        description="Values for the parameters of jobs of the step, by job id.",
        examples=[{"load": {"day": "${parameters.day}"}}],
    )

    @property
    def waits(self) -> bool:
        """Whether it waits for a person or a time, and starts nothing."""
        return self.approve is not None or self.wait is not None

    def targets(self) -> dict[str, Go]:
        """Return all targets of the step, by their field."""
        targets = {"on_success": self.on_success}
        if self.proceed != "at_once":
            targets |= {"on_failure": self.on_failure, "on_mixed": self.on_mixed}
        if self.start_if is not None:
            targets["start_if.otherwise"] = self.start_if.otherwise
        return targets

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = {"jobs": bool(self.jobs), "approve": self.approve is not None, "wait": self.wait is not None}
        given = [name for name, is_given in kinds.items() if is_given]
        if len(given) != 1:
            raise ValueError(f"must have exactly one of jobs, approve and wait{'' if not given else ', not several'}")
        if self.waits:
            for field in ("for_each", "arguments", "payloads", "parameters"):
                if getattr(self, field):
                    raise ValueError(f"has {field}, but no jobs that take them; remove it")
            if self.proceed != "when_all":
                raise ValueError("has proceed, which only a step with jobs takes; remove it")
        if self.for_each and self.proceed != "when_all":
            raise ValueError("has for_each, which waits for all of its runs; remove proceed")
        for field in ("at_most", "stop_on_failure"):
            if getattr(self, field) and not self.for_each:
                raise ValueError(f"has {field}, which only for_each takes; remove it")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.jobs)) < len(self.jobs):
            twice = next(job for job in self.jobs if self.jobs.count(job) > 1)
            raise ValueError(f"names the job '{twice}' twice; a step starts a job once")
        for field in ("arguments", "payloads", "parameters"):
            for job in getattr(self, field):
                if job not in self.jobs:
                    raise ValueError(f"has {field} for '{job}', which is not one of its jobs")
        if self.proceed == "at_once":
            for field in ("on_failure", "on_mixed"):
                if getattr(self, field) != type(self).model_fields[field].default:
                    raise ValueError(f"continues at_once, before any outcome, so {field} has no effect; remove it")
        return self
