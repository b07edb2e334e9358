"""Steps of a sequence that wait: for a person, a time, a file or an address."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator

from jobfac.definitions.notify import Url
from jobfac.definitions.parameters.model import Declared
from jobfac.definitions.parameters.placeholders import has_placeholder
from jobfac.definitions.patterns.moments import Clock, Zone, shown_at
from jobfac.definitions.triggers.arrival import STABLE, Pattern, StableFor
from jobfac.definitions.values import Flag, Id, Model, PositiveDuration, Text, shown, write_duration

Otherwise = Literal["fail", "succeed"]


class Approve(Model):
    """A step that waits for a person."""

    by: Literal["operator", "admin"] = Field(default="operator", description="The role that may approve.")
    timeout: PositiveDuration | None = Field(
        default=None, description="How long it waits. Without it: until somebody decides.", examples=["4h"]
    )
    otherwise: Otherwise = Field(default="fail", description="What the step does when nobody has decided in time.")
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


def _at_least_a_second(seconds: float) -> float:
    if seconds < 1:
        raise ValueError(f"must be at least 1s, not {write_duration(seconds)}")
    return seconds


def _with_fixed_host(url: Any) -> Any:
    if isinstance(url, str) and (len(url) > 1000 or has_placeholder("/".join(url.split("/")[:3]))):
        raise ValueError(
            f"must name its host without a placeholder, in at most 1000 characters, not {shown(url)}; a value may "
            "stand in the path and after it"
        )
    return url


class Wait(Model):
    """A step that waits for a time, a file or an address, without holding a slot."""

    duration: PositiveDuration | None = Field(
        default=None, description="So long, from the moment at which the step begins.", examples=["10m"]
    )
    until: Clock | None = Field(default=None, description="Until this time of day, the next one.", examples=["06:00"])
    timezone: Zone = Field(default="UTC", description="The time zone of until.", examples=["Europe/Berlin"])
    file: Pattern | None = Field(
        default=None,
        description="Until a file is there and complete: an absolute path with *, ?, [...] and ** as in a shell.",
        examples=["/in/prices-${parameters.day}.csv"],
    )
    stable: StableFor = Field(
        default=STABLE,
        description="With file: how long the file must not have changed, so that it is complete.",
        examples=["30s"],
    )
    pool: Id = Field(default="default", description="With file: the pool whose workers look for it.", examples=["etl"])
    http: Annotated[Url, AfterValidator(_with_fixed_host)] | None = Field(
        default=None,
        description="Until a GET of this address is answered with a status from 200 to 299. A scheduler asks.",
        examples=["https://rates.example.org/ready"],
    )
    every: Annotated[PositiveDuration, AfterValidator(_at_least_a_second)] = Field(
        default=30.0, description="With http: the time between two requests.", examples=["1m"]
    )
    timeout: PositiveDuration | None = Field(
        default=None,
        description="With file or http: how long it waits. Without it: until it is there.",
        examples=["4h"],
    )
    otherwise: Otherwise = Field(
        default="fail", description="With timeout: what the step does when it is not there in time."
    )

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        forms = {name: getattr(self, name) for name in ("duration", "until", "file", "http")}
        given = [name for name, value in forms.items() if value is not None]
        if len(given) != 1:
            raise ValueError("must have one of duration, until, file and http")
        for key, whose in _WHOSE.items():
            if getattr(self, key) != type(self).model_fields[key].default and given[0] not in whose:
                raise ValueError(f"has {key}, which only {' or '.join(whose)} takes; remove it")
        if self.otherwise != "fail" and self.timeout is None:
            raise ValueError("has otherwise, which has no effect without timeout; add a timeout")
        return self

    @property
    def is_for_time(self) -> bool:
        """Whether it waits for a time only."""
        return self.file is None and self.http is None

    def texts(self) -> Iterator[tuple[str, str]]:
        """Yield the texts with placeholders, with their keys."""
        if self.file is not None:
            yield "file", self.file
        if isinstance(self.http, str):
            yield "http", self.http

    def end(self, now: datetime) -> datetime | None:
        """Return the latest end of a wait that begins at ``now`` (aware); None: it has no time limit."""
        if not self.is_for_time:
            return None if self.timeout is None else now + timedelta(seconds=self.timeout)
        if self.until is None:
            return now + timedelta(seconds=self.duration or 0.0)
        zone = ZoneInfo(self.timezone)
        today = now.astimezone(zone).date()
        days = (today + timedelta(days=day) for day in range(3))
        return next(moment for day in days for moment in shown_at(day, self.until, zone) if moment > now)


_WHOSE = {
    "timezone": ("until",),
    "stable": ("file",),
    "pool": ("file",),
    "every": ("http",),
    "timeout": ("file", "http"),
    "otherwise": ("file", "http"),
}
"""By key, the forms that take it."""
