"""Monitoring of a job: the expected success, and the usual duration."""

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from jobfac.definitions.patterns.moments import Clock, read_weekday, write_weekday
from jobfac.definitions.schedule import Dates, Schedule, ScheduleZone, Times
from jobfac.definitions.values import Duration, Model, PositiveDuration, decimal, form

WORDS = {"weekdays": (1, 2, 3, 4, 5), "weekends": (6, 7)}
"""Words for several days of the week, with the ISO numbers of these."""


def _read_days(value: Any) -> tuple[int, ...]:
    entries = value if isinstance(value, list | tuple) else [value]
    found: set[int] = set()
    for entry in entries:
        found.update(WORDS[entry] if isinstance(entry, str) and entry in WORDS else [read_weekday(entry)])
    if not found:
        raise ValueError("must name at least one day")
    return tuple(sorted(found))


def _write_days(days: tuple[int, ...]) -> str | list[str]:
    return next((word for word, meant in WORDS.items() if meant == days), [write_weekday(day) for day in days])


_Day = Literal["weekdays", "weekends", "mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DaysOfWeek = Annotated[
    tuple[int, ...], *form(_read_days, _write_days, "days of the week", _Day | list[_Day], str | list[str])
]
"""ISO days of the week, in order."""


class Expect(Model):
    """A success that is expected: by a time of day, or each within a period of the one before. A job without it is
    overdue."""

    success_by: Clock | None = Field(
        default=None,
        description="The time of day by which the job must have succeeded since the same time of the day before that "
        "counts.",
        examples=["06:00"],
    )
    timezone: ScheduleZone = Field(
        default="UTC", description="The time zone of success_by.", examples=["Europe/Berlin"]
    )
    days: DaysOfWeek = Field(
        default=(1, 2, 3, 4, 5, 6, 7),
        description="The days of success_by: weekdays, weekends, or days of the week from mon to sun.",
        examples=["weekdays"],
    )
    every: PositiveDuration | None = Field(
        default=None, description="A success must follow the one before within this time.", examples=["24h"]
    )

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.success_by is None) == (self.every is None):
            raise ValueError("must have either success_by (such as 06:00) or every (such as 24h)")
        if self.every is not None and (self.timezone != "UTC" or len(self.days) < 7):
            raise ValueError("has timezone or days, which only success_by takes")
        return self

    def schedule(self) -> Schedule:
        """The times of ``success_by``, as those of a schedule. A time that the clock skips is that of the jump."""
        assert self.success_by is not None
        dates = Dates(days_of_week=self.days) if len(self.days) < 7 else None
        return Schedule(dates=dates, times=Times(at=(self.success_by,)), timezone=self.timezone)


class Usual(Model):
    """A duration relative to the job's usual duration, which is the median of its last 30 successes."""

    usual: Annotated[float, decimal(1, 1000)] = Field(description="The multiple of the usual duration.", examples=[1.5])
    least: Duration = Field(default=0.0, description="The minimum, if the multiple is shorter.", examples=["10m"])


WarnAfter = Annotated[
    Annotated[PositiveDuration, Tag("duration")] | Annotated[Usual, Tag("usual")],
    Discriminator(lambda value: "usual" if isinstance(value, dict | Usual) else "duration"),
]
"""Seconds, or a multiple of the usual duration."""
