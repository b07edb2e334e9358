"""The steps of a sequence: which jobs start together, when, and where the sequence goes from there."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, PlainSerializer, PlainValidator, model_validator

from jobfac.definitions.moments import Zone
from jobfac.definitions.parameters.model import Given, ParameterName
from jobfac.definitions.schedule import Dates, Times
from jobfac.definitions.values import Id, Many, Model, Text, read_id, shown


class Go(Model):
    """Where a sequence goes: the "next" step in order (after the last one: the end), the "end" with the outcome it has,
    "end_failed", or, with kind "step", the step named ``step``."""

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


class StartIf(Model):
    """A condition on the instant at which a step would start: its local day is one of ``dates`` and its local time is
    in ``times``. Where it does not hold, the step's jobs do not start and the sequence goes to ``otherwise``."""

    dates: Dates | None = Field(default=None, description="The days on which the step may start.")
    times: Times | None = Field(default=None, description="The times of day at which the step may start.")
    timezone: Zone = Field(
        default="UTC", description="The time zone of these days and times.", examples=["Europe/Berlin"]
    )
    otherwise: Target = Field(
        default=Go(kind="next"), description="Where the sequence goes when the step may not start."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.dates is None and self.times is None:
            raise ValueError("must have dates or times")
        if self.times is not None and self.times.every is not None:
            raise ValueError("cannot use every in its times; use at, hours, minutes or between")
        return self


class Step(Model):
    """One step of a sequence: jobs that start together, and where the sequence goes afterwards."""

    name: Id = Field(description="The name of the step within its sequence.", examples=["extract"])
    jobs: Many[Id] = Field(description="The jobs to start together. A sequence is a job too.")
    start_if: StartIf | None = Field(default=None, description="When the step may start. Without it: always.")
    proceed: Literal["when_all", "when_any", "at_once"] = Field(
        default="when_all",
        description="Go on when all jobs have ended, when any job has ended (the others run on), or at once, without "
        "waiting. With at_once only on_success says where to go.",
    )
    on_success: Target = Field(default=Go(kind="next"), description="Where to go when all jobs succeeded.")
    on_failure: Target = Field(default=Go(kind="end_failed"), description="Where to go when no job succeeded.")
    on_mixed: Target = Field(
        default=Go(kind="end_failed"), description="Where to go when some succeeded and some did not."
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

    def targets(self) -> dict[str, Go]:
        """Every way out of the step, by the field that names it."""
        ways = {"on_success": self.on_success}
        if self.proceed != "at_once":
            ways |= {"on_failure": self.on_failure, "on_mixed": self.on_mixed}
        if self.start_if is not None:
            ways["start_if.otherwise"] = self.start_if.otherwise
        return ways

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
                    raise ValueError(f"goes on at_once, before any outcome, so {field} has no effect; remove it")
        return self
