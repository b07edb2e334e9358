"""The models of schedules. ``jobfac.recurrence`` computes their due times."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import (
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    PlainValidator,
    SerializerFunctionWrapHandler,
    Tag,
    ValidationInfo,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema

from jobfac.definitions.parameters.model import Given, ParameterName
from jobfac.definitions.patterns import Dates as Dates
from jobfac.definitions.patterns import Times as Times
from jobfac.definitions.patterns.moments import ANY_ZONE, DateOrInstant, Holiday, Instant, Window
from jobfac.definitions.patterns.moments import ScheduleZone as ScheduleZone
from jobfac.definitions.triggers.after import After
from jobfac.definitions.triggers.arrival import STABLE, FixedPattern, StableFor
from jobfac.definitions.values import (
    Duration,
    Flag,
    Id,
    Many,
    Model,
    PositiveDuration,
    Text,
    read_text,
    shown,
    whole,
)

CRON_NAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
"""Names of cron expressions. ``Schedule.cron`` keeps the name; ``Schedule.cron_fields`` returns the five fields."""


def read_cron(value: Any) -> str:
    """Return a cron expression of five fields, or one of ``CRON_NAMES``."""
    from cronsim import CronSim, CronSimError

    text = " ".join(value.split()) if isinstance(value, str) else ""
    if text.startswith("@"):
        if text.lower() not in CRON_NAMES:
            raise ValueError(f"must be five fields or one of {', '.join(CRON_NAMES)}, not {shown(value)}")
        return text.lower()
    if len(text.split()) != 5:
        raise ValueError(
            f"must have five fields, minute hour day-of-month month day-of-week, such as '0 6 * * MON-FRI', "
            f"not {shown(value)}"
        )
    try:
        CronSim(text, datetime(2024, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        field = str(error).removeprefix("Bad ")
        raise ValueError(f"has a wrong {field} field: {shown(text)}") from error
    return text


def read_holidays(value: Any) -> str:
    """Return a country or subdivision with known public holidays, such as "US" or "US-NY"."""
    import holidays

    text = read_text(value)
    country, _, part = text.partition("-")
    known = holidays.list_supported_countries()
    if country not in known:
        raise ValueError(f"names the unknown country {shown(country)}; use a code such as US or US-NY")
    if part and part not in known[country]:
        parts = ", ".join(known[country]) or "none"
        raise ValueError(f"names the unknown part {shown(part)} of {country}; known are: {parts}")
    return text


Cron = Annotated[str, PlainValidator(read_cron, json_schema_input_type=str), Field(title="cron expression")]
HolidayRegion = Annotated[str, PlainValidator(read_holidays, json_schema_input_type=str), Field(title="country")]
Arguments = Annotated[
    Annotated[tuple[Text, ...], Tag("list")] | Annotated[dict[Id, tuple[Text, ...]], Tag("by job")],
    Discriminator(lambda value: "by job" if isinstance(value, dict) else "list"),
]
"""The arguments of a program, or, for a sequence, of its jobs by their ids."""


class Calendar(Model):
    """Days on which a schedule does not fire, and what happens to due times on these days."""

    holidays: Many[HolidayRegion] = Field(
        default=(), description="The public holidays of these countries or subdivisions.", examples=["US-NY"]
    )
    dates: Many[Holiday] = Field(
        default=(), description="Other days, of one year or of every year.", examples=[["2027-05-28", "12/24"]]
    )
    on_holiday: Literal["skip", "previous", "next"] = Field(
        default="skip",
        description="What happens to a due time on such a day: skip drops it; previous and next move it to the nearest "
        "working day at the same local time. The weekend is that of the countries in holidays; default: Saturday and "
        "Sunday.",
    )

    @model_validator(mode="after")
    def _has_days(self) -> Self:
        if not self.holidays and not self.dates:
            raise ValueError("must have holidays (such as US-NY) or dates")
        return self


class Missed(Model):
    """What happens to due times that passed while no scheduler ran or the schedule was paused."""

    policy: Literal["skip", "once", "all"] = Field(
        default="skip", description="Start no run, one run for the latest due time, or one for each due time."
    )
    maximum: Annotated[int, whole(1, 10000)] = Field(
        default=100, description="With all: the maximum number of runs, for the latest due times."
    )
    window: PositiveDuration | None = Field(
        default=None, description="Drop due times that are older than this, with any policy.", examples=["2h"]
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Allow the name of a policy in place of the mapping."""
        return {"anyOf": [{"enum": ["skip", "once", "all"]}, handler(core)]}

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, value: Any) -> Any:
        return {"policy": value} if isinstance(value, str) else value

    @model_serializer(mode="wrap")
    def _to_word(self, write: SerializerFunctionWrapHandler) -> Any:
        written = write(self)
        return written["policy"] if set(written) == {"policy"} else written


_OF_CALENDARS = ("starts", "ends", "gap", "overlap", "calendar", "blackout", "jitter")
"""Keys of a schedule whose runs the clock causes."""


class Schedule(Model):
    """A rule for the due times of a job; a job may have several. It has exactly one form: ``cron``, ``every``, ``at``,
    ``times`` with or without ``dates``, ``after``, or ``file``."""

    name: Id | None = Field(
        default=None,
        description="Identifies the schedule within its job; default: its position.",
        examples=["nightly"],
    )
    cron: Cron | None = Field(
        default=None,
        description="Five fields, minute hour day-of-month month day-of-week, or a name such as @daily. Means the same "
        "as in Debian's cron.",
        examples=["*/15 8-18 * * MON-FRI"],
    )
    every: PositiveDuration | None = Field(
        default=None, description="The interval of real time, in whole seconds, counted from starts.", examples=["90m"]
    )
    at: Instant | None = Field(
        default=None,
        description="One due time. Without an offset it is in timezone.",
        examples=["2027-01-01T00:00:00+01:00"],
    )
    dates: Dates | None = Field(default=None, description="The days; requires times.")
    times: Times | None = Field(default=None, description="The times on these days; without dates, on every day.")
    after: After | None = Field(
        default=None,
        description="After other jobs: one, or all or any of several.",
        examples=[{"job": "extract", "on": ["succeeded"]}],
    )
    within: PositiveDuration | None = Field(
        default=None,
        description="With after: ignore ends that are older; with all, those that ended this long before the last one.",
        examples=["6h"],
    )
    file: FixedPattern | None = Field(
        default=None,
        description="When a file arrives: an absolute path with *, ?, [...] and ** as in a shell. Each file starts one "
        "run; it counts again when its size or its time of modification is another.",
        examples=["/in/*.csv"],
    )
    stable: StableFor = Field(
        default=STABLE,
        description="With file: how long the file must not have changed, so that it is complete.",
        examples=["30s"],
    )
    pool: Id | None = Field(
        default=None,
        description="With file: the pool whose workers watch; default: that of the job, and default for a sequence.",
        examples=["etl"],
    )
    timezone: ScheduleZone = Field(default="UTC", description="The time zone of the rule.", examples=["Europe/Berlin"])
    starts: DateOrInstant | None = Field(
        default=None, description="Not due before this date or instant.", examples=["2027-01-01"]
    )
    ends: DateOrInstant | None = Field(
        default=None, description="Not due after this instant, or after the end of this date.", examples=["2027-12-31"]
    )
    missed: Missed = Field(
        default=Missed(),
        description="What happens to due times that passed while no scheduler ran or the schedule was paused.",
    )
    gap: Literal["shift", "skip"] = Field(
        default="shift",
        description="A local time that does not exist because the clock moves forward: fire right after the change, or "
        "not at all.",
    )
    overlap: Literal["first", "second", "both"] = Field(
        default="first", description="A local time that exists twice because the clock moves back: which one fires."
    )
    calendar: Calendar | None = Field(default=None, description="Holidays on which the schedule does not fire.")
    blackout: Many[Window] = Field(
        default=(),
        description="Periods in which the schedule starts no runs. Its due times become one, at its end.",
        examples=[["12/31 18:00 - 01/01 06:00", "22:00 - 04:00"]],
    )
    jitter: Duration = Field(
        default=0.0,
        description="Delay each run by up to this duration. The delay of a due time is always the same.",
        examples=["30s"],
    )
    arguments: Arguments | None = Field(
        default=None,
        description="Arguments that replace those of the job. For a sequence: arguments by job id.",
        examples=[["--short"]],
    )
    payload: Text | None = Field(default=None, description="Text for the program. Not for a sequence.")
    payloads: dict[Id, Text] | None = Field(default=None, description="Texts for the jobs of a sequence, by job id.")
    parameters: dict[ParameterName, Given] = Field(
        default={}, description="Values for the parameters of the job.", examples=[{"region": "eu"}]
    )
    enabled: Flag = Field(default=True, description="Whether the schedule fires.")

    def __hash__(self) -> int:
        """Hash the rule only. Arguments and payloads are not hashable, and equal schedules have equal rules."""
        return hash((self.cron, self.every, self.at, self.dates, self.times, self.timezone, self.starts, self.ends))

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    @property
    def cron_fields(self) -> str | None:
        """The five fields of ``cron``. A name such as "@daily" is replaced."""
        return None if self.cron is None else CRON_NAMES.get(self.cron, self.cron)

    @property
    def is_calendar(self) -> bool:
        """Whether the clock causes its runs."""
        return self.after is None and self.file is None

    @property
    def first_instant(self) -> datetime | None:
        """The aware time before which nothing is due. A ``starts`` without a time means the start of its local day."""
        return None if self.starts is None else self._instant(self.starts)

    @property
    def last_instant(self) -> datetime | None:
        """The aware time after which nothing is due. An ``ends`` without a time includes its whole local day."""
        if self.ends is None:
            return None
        if isinstance(self.ends, datetime):
            return self._instant(self.ends)
        return self._instant(self.ends + timedelta(days=1)) - timedelta(microseconds=1)

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> Self:
        calendar_form = self.dates or self.times
        clock = {"cron": self.cron, "every": self.every, "at": self.at, "dates/times": calendar_form}
        forms: dict[str, object] = {**clock, "after": self.after, "file": self.file}
        given = [name for name, value in forms.items() if value is not None]
        if not given:
            raise ValueError("must have cron, every, at, after, file, or dates and times")
        if len(given) > 1:
            raise ValueError(f"has both {given[0]} and {given[1]}; give one of them, or write two schedules")
        self._only_for("a schedule with times", () if self.is_calendar else _OF_CALENDARS)
        self._only_for("a schedule with after", ("within",) if self.after is None else ())
        self._only_for("a schedule with file", ("stable", "pool") if self.file is None else ())
        if self.file is not None:  # what arrives in a pause starts its runs afterwards
            self._only_for("a schedule with times or after", ("missed",))
        if self.dates is not None and self.times is None:
            raise ValueError('has dates but no times; add times, such as {at: ["06:30"]}')
        if self.times is not None and not (self.times.at or self.times.minutes or self.times.hours or self.times.every):
            raise ValueError("has times with between only, which only restricts; add at, minutes, hours or every")
        if self.every is not None and self.every % 1:
            raise ValueError("must have an every of whole seconds")
        if info.context == ANY_ZONE:  # these need the zone
            return self
        first, last = self.first_instant, self.last_instant
        if first is not None and last is not None and last < first:
            raise ValueError("ends before it starts")
        return self

    def _only_for(self, whose: str, keys: tuple[str, ...]) -> None:
        """Raise if the schedule has one of these keys, which belong to another form."""
        for key in keys:
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"has {key}, which only {whose} takes; remove it")

    def _instant(self, day: Any) -> datetime:
        moment = day if isinstance(day, datetime) else datetime(day.year, day.month, day.day)
        return (moment if moment.tzinfo else moment.replace(tzinfo=self.zone)).astimezone(UTC)
