"""When a job or a sequence is due, as its definition says it. The arithmetic is in ``jobfac.calendar``."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    Discriminator,
    PlainValidator,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
    model_validator,
)

from jobfac.definitions.moments import (
    Clock,
    DateOrInstant,
    Days,
    Holiday,
    Hours,
    Instant,
    MonthDate,
    Weekday,
    Window,
    YearlyDay,
)
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
    suggestion,
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
"""Names for cron expressions. ``Schedule.cron`` keeps the name; ``Schedule.cron_fields`` gives the five fields."""


def read_cron(value: Any) -> str:
    """A cron expression of five fields, or one of ``CRON_NAMES``."""
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


def read_zone(value: Any) -> str:
    """The name of a time zone of the IANA database."""
    try:
        return ZoneInfo(value).key
    except (KeyError, ValueError, OSError, TypeError) as error:
        hint = suggestion(value, available_timezones()) if isinstance(value, str) else ""
        raise ValueError(
            f"names the unknown time zone {shown(value)}{hint or '; use a name such as Europe/Berlin'}"
        ) from error


def read_holidays(value: Any) -> str:
    """A country, or a country and its subdivision, whose public holidays are known: "US", "US-NY"."""
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


Cron = Annotated[str, PlainValidator(read_cron, json_schema_input_type=str)]
Zone = Annotated[str, PlainValidator(read_zone, json_schema_input_type=str)]
HolidayRegion = Annotated[str, PlainValidator(read_holidays, json_schema_input_type=str)]
Minute = Annotated[int, PlainValidator(whole(0, 59), json_schema_input_type=int)]
Hour = Annotated[int, PlainValidator(whole(0, 23), json_schema_input_type=int)]
Arguments = Annotated[
    Annotated[tuple[Text, ...], Tag("list")] | Annotated[dict[Id, tuple[Text, ...]], Tag("by job")],
    Discriminator(lambda value: "by job" if isinstance(value, dict) else "list"),
]
"""The arguments of a program, or, for a sequence, of its jobs by their ids."""


class Dates(Model):
    """A set of days. The entries of one key are alternatives; a day must satisfy every key that is given.

    ``days_of_week`` ISO numbers, 1 is Monday; ``days_of_month`` 1 to 31 or "last"; ``on`` days of every year;
    ``between`` spans of days, both ends included, across the year's end where the last comes before the first;
    ``weekdays``: "first" and "last" weekday (Monday to Friday) of the month, any "weekday", any day of the "weekend".
    No key at all means every day.
    """

    days_of_week: Many[Weekday] = ()
    days_of_month: Many[MonthDate] = ()
    on: Many[YearlyDay] = ()
    between: Many[Days] = ()
    weekdays: Many[Literal["first", "last", "weekday", "weekend"]] = ()


class Times(Model):
    """A set of times of the day, in one of three forms, which ``between`` may narrow.

    ``at``: these times. ``minutes`` and ``hours``: these minutes of these hours; minutes alone are of every hour, hours
    alone are full hours. ``every``: seconds between two times, counted from each midnight over the whole day; it may
    exceed an hour and need not divide the day.
    ``between``: only times within one of these spans, start included, end not. Where ``Times`` is the window of a step
    (``start_if``), ``hours`` alone means all of those hours, and ``between`` may stand alone.
    """

    at: Many[Clock] = ()
    minutes: Many[Minute] = ()
    hours: Many[Hour] = ()
    every: PositiveDuration | None = None
    between: Many[Hours] = ()

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        forms = [("at", self.at), ("minutes and hours", self.minutes or self.hours), ("every", self.every)]
        given = [name for name, value in forms if value]
        if len(given) > 1:
            raise ValueError(f"has both {given[0]} and {given[1]}; give one of them, or write two schedules")
        if not given and not self.between:
            raise ValueError("must have at, minutes, hours or every")
        if self.every is not None and (self.every % 60 or self.every > 86400):
            raise ValueError("must have an every of whole minutes, at most a day")
        return self


class Calendar(Model):
    """Days on which a schedule does not fire, and what happens to its times on such a day.

    ``holidays``: public holidays of these countries or subdivisions ("US-NY"); ``dates``: own days, of one year or of
    every year. ``on_holiday``: "skip" drops the time; "previous" and "next" move it, at the same clock time, to the
    nearest working day: no holiday of this calendar and no day of the weekend, which is Saturday and Sunday unless the
    countries in ``holidays`` have another one.
    """

    holidays: Many[HolidayRegion] = ()
    dates: Many[Holiday] = ()
    on_holiday: Literal["skip", "previous", "next"] = "skip"

    @model_validator(mode="after")
    def _has_days(self) -> Self:
        if not self.holidays and not self.dates:
            raise ValueError("must have holidays (such as US-NY) or dates")
        return self


class Missed(Model):
    """What happens to times that passed while nothing could fire (no scheduler ran, or the schedule was paused).

    ``policy``: "skip" none, "once" the latest one, "all" each, the latest ``maximum`` of them. Times further back
    than ``window`` seconds are dropped whatever the policy; None means no limit.
    """

    policy: Literal["skip", "once", "all"] = "skip"
    maximum: Annotated[int, PlainValidator(whole(1, 10000), json_schema_input_type=int)] = 100
    window: PositiveDuration | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, value: Any) -> Any:
        return {"policy": value} if isinstance(value, str) else value

    @model_serializer(mode="wrap")
    def _to_word(self, write: SerializerFunctionWrapHandler) -> Any:
        written = write(self)
        return written["policy"] if set(written) == {"policy"} else written


class Schedule(Model):
    """One rule by which a job is due; a job may have several.

    Exactly one form: ``cron``; ``every`` (seconds of real time between two runs, counted from ``starts``, or without it
    from 1970-01-01T00:00:00Z); ``at`` (once; local to ``timezone`` when it has no offset); or ``times`` with or without
    ``dates``.

    ``timezone`` is UTC unless given, so that a definition means the same on every machine.
    ``missed`` is "skip" unless given, as cron and SQL Server Agent have it: a run that starts hours late without
    having been asked for can do more harm than one that is reported as missed.
    ``gap``: a local time that the clock jumps over is shifted to after the jump, or skipped. ``overlap``: of a local
    time that comes twice, the first, the second or both fire. ``blackout``: windows that hold starts back.
    ``starts`` and ``ends``: see ``first_instant`` and ``last_instant``. ``jitter``: up to so many seconds later, the
    same for a schedule and due time wherever it is computed.
    ``arguments`` replace the job's; ``payload`` is handed to it. For a sequence ``arguments`` and ``payloads`` are by
    the id of a job in it. ``name`` identifies the schedule within its job; without one it is its position ("1").
    """

    name: Id | None = None
    cron: Cron | None = None
    every: PositiveDuration | None = None
    at: Instant | None = None
    dates: Dates | None = None
    times: Times | None = None
    timezone: Zone = "UTC"
    starts: DateOrInstant | None = None
    ends: DateOrInstant | None = None
    missed: Missed = Missed()
    gap: Literal["shift", "skip"] = "shift"
    overlap: Literal["first", "second", "both"] = "first"
    calendar: Calendar | None = None
    blackout: Many[Window] = ()
    jitter: Duration = 0.0
    arguments: Arguments | None = None
    payload: Text | None = None
    payloads: dict[Id, Text] | None = None
    enabled: Flag = True

    def __hash__(self) -> int:
        """Of the rule alone: arguments and payloads cannot be hashed, and equal schedules have equal rules."""
        return hash((self.cron, self.every, self.at, self.dates, self.times, self.timezone, self.starts, self.ends))

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    @property
    def cron_fields(self) -> str | None:
        """The five fields of ``cron``, a name such as "@daily" replaced."""
        return None if self.cron is None else CRON_NAMES.get(self.cron, self.cron)

    @property
    def first_instant(self) -> datetime | None:
        """Aware: nothing is due before it. A ``starts`` without a time is the local midnight that begins its day."""
        return None if self.starts is None else self._instant(self.starts)

    @property
    def last_instant(self) -> datetime | None:
        """Aware: nothing is due after it. An ``ends`` without a time includes its whole local day."""
        if self.ends is None:
            return None
        if isinstance(self.ends, datetime):
            return self._instant(self.ends)
        return self._instant(self.ends + timedelta(days=1)) - timedelta(microseconds=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        calendar_form = self.dates or self.times
        forms = {"cron": self.cron, "every": self.every, "at": self.at, "dates/times": calendar_form}
        given = [name for name, value in forms.items() if value is not None]
        if not given:
            raise ValueError("must have cron, every, at, or dates and times")
        if len(given) > 1:
            raise ValueError(f"has both {given[0]} and {given[1]}; give one of them, or write two schedules")
        if self.dates is not None and self.times is None:
            raise ValueError('has dates but no times; add times, such as {at: ["06:30"]}')
        if self.times is not None and not (self.times.at or self.times.minutes or self.times.hours or self.times.every):
            raise ValueError("has times with between alone, which only narrows; add at, minutes, hours or every")
        if self.every is not None and self.every % 1:
            raise ValueError("must have an every of whole seconds")
        first, last = self.first_instant, self.last_instant
        if first is not None and last is not None and last < first:
            raise ValueError("ends before it starts")
        return self

    def _instant(self, day: Any) -> datetime:
        moment = day if isinstance(day, datetime) else datetime(day.year, day.month, day.day)
        return (moment if moment.tzinfo else moment.replace(tzinfo=self.zone)).astimezone(UTC)
