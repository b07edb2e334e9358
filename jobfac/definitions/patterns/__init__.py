"""The days and the times of day that schedules and conditions of steps name."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from jobfac.definitions.patterns.counted import DayInterval, OrdinalDay
from jobfac.definitions.patterns.moments import Clock, Days, FullDate, Hours, MonthDate, Weekday, YearlyDay
from jobfac.definitions.values import Many, Model, PositiveDuration, whole

Minute = Annotated[int, whole(0, 59)]
Hour = Annotated[int, whole(0, 23)]


class Dates(Model):
    """A set of days. The entries of one key are alternatives. A day must match every given key. Without a key, every
    day matches."""

    days_of_week: Many[Weekday] = Field(default=(), description="Days of the week: mon to sun, or 1 (Monday) to 7.")
    days_of_month: Many[MonthDate] = Field(default=(), description="Days of the month: 1 to 31, first or last.")
    on: Many[YearlyDay] = Field(default=(), description="Days of every year, as MM/DD.", examples=[["12/24"]])
    between: Many[Days] = Field(
        default=(), description="Periods of every year, including both days.", examples=[["12/10-01/05"]]
    )
    weekdays: Many[Literal["first", "last", "weekday", "weekend"]] = Field(
        default=(),
        description="The first or last weekday (Monday to Friday) of the month, any weekday, or any day of the "
        "weekend.",
    )
    nth: Many[OrdinalDay] = Field(
        default=(),
        description="The first to fifth, or the last, of a kind of day in the month: a day of the week, weekday "
        "(Monday to Friday), weekend (Saturday or Sunday) or day.",
        examples=[["second tue", "last weekend"]],
    )
    every: DayInterval | None = Field(
        default=None,
        description="An interval of days, weeks or months, counted from since. A week is the seven days from since; "
        "other keys say which of its days, or which days of the month.",
        examples=["2 weeks"],
    )
    since: FullDate | None = Field(
        default=None, description="The day from which every is counted, in both directions.", examples=["2027-01-04"]
    )

    @model_validator(mode="after")
    def _counted(self) -> Self:
        if (self.every is None) != (self.since is None):
            missing = "since, the day from which every is counted" if self.every else "every, such as 2 weeks"
            raise ValueError(f"must have {missing}")
        if self.every is None or self.every.unit == "days":
            return self
        weekly = bool(self.days_of_week or self.weekdays)
        if self.every.unit == "weeks" and not weekly:
            raise ValueError("has an every of weeks, so it must have days_of_week or weekdays too")
        if self.every.unit == "months" and not (weekly or self.days_of_month or self.nth):
            raise ValueError("has an every of months, so it must have days_of_month, nth, days_of_week or weekdays too")
        return self


class Times(Model):
    """A set of times of day: at, minutes and hours, or every. ``between`` restricts it. In ``start_if`` of a step,
    ``hours`` alone means these whole hours, and ``between`` may be the only key."""

    at: Many[Clock] = Field(default=(), description="These times of day.", examples=[["06:30", "18:00"]])
    minutes: Many[Minute] = Field(default=(), description="These minutes of every hour, or of the given hours.")
    hours: Many[Hour] = Field(default=(), description="These hours; without minutes, on the full hour.")
    every: PositiveDuration | None = Field(
        default=None, description="The interval, in whole seconds, counted from each midnight.", examples=["45m"]
    )
    between: Many[Hours] = Field(
        default=(), description="Only times in one of these periods, including its start but not its end.",
        examples=[["22:00-04:00"]],
    )  # fmt: skip
    count_from: Literal["midnight", "span"] = Field(
        default="midnight",
        description="Where every is counted from: each midnight, or the start of each span of between. A span across "
        "midnight then belongs to the day on which it starts.",
    )

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        forms = [("at", self.at), ("minutes and hours", self.minutes or self.hours), ("every", self.every)]
        given = [name for name, value in forms if value]
        if len(given) > 1:
            raise ValueError(f"has both {given[0]} and {given[1]}; give one of them, or write two schedules")
        if not given and not self.between:
            raise ValueError("must have at, minutes, hours or every")
        if self.every is not None and (self.every % 1 or self.every > 86400):
            raise ValueError("must have an every of whole seconds, at most a day")
        if self.count_from == "span" and not (self.every and self.between):
            raise ValueError("counts from the span, so it must have every and between")
        return self
