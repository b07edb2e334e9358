"""Days, times and windows in schedules, such as "12/24", "06:30" and "22:00-04:00".

All are local to the time zone of their schedule or step. Readers raise ``ValueError``.
"""

import calendar
import re
from datetime import UTC, date, datetime, time, tzinfo
from typing import Annotated, Any, Literal, NamedTuple, TypeVar
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, PlainValidator, ValidationInfo

from jobfac.definitions.values import form, shown, suggestion

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""Names of the ISO days 1 to 7."""

_FULL_NAMES = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?", re.ASCII)
_MONTH_DAY = re.compile(r"(\d{1,2})/(\d{1,2})", re.ASCII)
_FULL_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_DATE_EXPECTED = "must be a date that exists, as YYYY-MM-DD, not "

D = TypeVar("D", bound=date)


class MonthDay(NamedTuple):
    """A day of every year. February 29 is a day of leap years only."""

    month: int
    day: int


class DateSpan(NamedTuple):
    """The days from ``first`` to ``last``, both included. It crosses the end of the year if ``last < first``."""

    first: MonthDay
    last: MonthDay


class TimeSpan(NamedTuple):
    """The time from ``start`` (included) to ``end`` (not included). It crosses midnight if ``end <= start``.

    "00:00-24:00" is the whole day; its ``end`` is 00:00.
    """

    start: time
    end: time


class Moment(NamedTuple):
    """The start or end of a blackout: a time on a date (once), on a ``MonthDay`` (every year), on an ISO day of the
    week (every week) or, with None, on every day."""

    day: date | MonthDay | int | None
    time: time


class Blackout(NamedTuple):
    """A window in which nothing starts, from ``start`` (included) to ``end`` (not included).

    Both have the same kind of day. A repeated window crosses the end of its day, week or year if it ends before it
    starts.
    """

    start: Moment
    end: Moment

    @property
    def kind(self) -> Literal["daily", "weekly", "yearly", "once"]:
        """How often the window repeats."""
        match self.start.day:
            case None:
                return "daily"
            case int():
                return "weekly"
            case MonthDay():
                return "yearly"
            case _:
                return "once"


def read_clock(value: Any) -> time:
    """Return a time of day, from "06:30" or "06:30:15"."""
    if isinstance(value, time):
        return value
    match = _CLOCK.fullmatch(value.strip()) if isinstance(value, str) else None
    hour, minute, second = (int(part or 0) for part in match.groups()) if match else (24, 0, 0)
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError(f'must be a time of day such as "06:30", not {shown(value)}')
    return time(hour, minute, second)


def write_clock(value: time) -> str:
    return value.strftime("%H:%M:%S" if value.second else "%H:%M")


def read_month_day(value: Any) -> MonthDay:
    """Return a day of every year, from MM/DD, such as "12/24"."""
    if isinstance(value, MonthDay):
        return value
    match = _MONTH_DAY.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'must be a day as MM/DD, such as "12/24", not {shown(value)}')
    month, day = int(match[1]), int(match[2])
    if not 1 <= month <= 12:
        raise ValueError(f'must be a day as MM/DD, such as "12/24": there is no month {month}')
    longest = calendar.monthrange(2000, month)[1]
    if not 1 <= day <= longest:
        raise ValueError(
            f"must be a day that exists, 1 to {longest} in {calendar.month_name[month]}, not {shown(value)}"
        )
    return MonthDay(month, day)


def write_month_day(value: MonthDay) -> str:
    return f"{value.month:02}/{value.day:02}"


def read_date_span(value: Any) -> DateSpan:
    """Return a span of days, both included, from a text such as "12/10-01/05"."""
    if isinstance(value, DateSpan):
        return value
    edges = value.split("-") if isinstance(value, str) else ()
    if len(edges) != 2:
        raise ValueError(f'must be two days as MM/DD-MM/DD, such as "12/10-01/05", not {shown(value)}')
    return DateSpan(read_month_day(edges[0]), read_month_day(edges[1]))


def write_date_span(value: DateSpan) -> str:
    return f"{write_month_day(value.first)}-{write_month_day(value.last)}"


def read_time_span(value: Any) -> TimeSpan:
    """Return a span of times, from a text such as "22:00-04:00"."""
    if isinstance(value, TimeSpan):
        return value
    edges = [edge.strip() for edge in value.split("-")] if isinstance(value, str) else ()
    if len(edges) != 2:
        raise ValueError(f'must be two times as HH:MM-HH:MM, such as "22:00-04:00", not {shown(value)}')
    start, end = read_clock(edges[0]), time() if edges[1] == "24:00" else read_clock(edges[1])
    if start == end and edges[1] != "24:00":
        raise ValueError(f'must have two different times, not {shown(value)}; the whole day is "00:00-24:00"')
    return TimeSpan(start, end)


def write_time_span(value: TimeSpan) -> str:
    return f"{write_clock(value.start)}-{'24:00' if value.end == time() else write_clock(value.end)}"


def read_weekday(value: Any) -> int:
    """Return an ISO day of the week, 1 (Monday) to 7 (Sunday), from its number or its English name."""
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 7:
        return value
    word = value.strip().lower() if isinstance(value, str) else ""
    for names in (WEEKDAYS, _FULL_NAMES):
        if word in names:
            return names.index(word) + 1
    raise ValueError(f"must be a day of the week, mon to sun or 1 (Monday) to 7 (Sunday), not {shown(value)}")


def write_weekday(value: int) -> str:
    return WEEKDAYS[value - 1]


def read_month_date(value: Any) -> int | Literal["last"]:
    """Return a day of the month: 1 to 31 or ``last``; ``first`` is 1."""
    if value == "first":
        return 1
    if value == "last":
        return "last"
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 31:
        return value
    raise ValueError(f"must be a day of the month, 1 to 31, first or last, not {shown(value)}")


def read_date(value: Any) -> date:
    """Return a date, from a text such as "2027-12-24"."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, str) and _FULL_DATE.fullmatch(value.strip()):
        try:
            day = date.fromisoformat(value.strip())
        except ValueError as error:
            raise ValueError(_DATE_EXPECTED + shown(value)) from error
        return _in_range(day)
    raise ValueError(_DATE_EXPECTED + shown(value))


def read_holiday(value: Any) -> date | MonthDay:
    """Return a day of one year ("2027-12-24") or of every year ("12/24")."""
    if isinstance(value, MonthDay) or (isinstance(value, str) and "/" in value):
        return read_month_day(value)
    return read_date(value)


def write_holiday(value: date | MonthDay) -> str:
    return write_month_day(value) if isinstance(value, MonthDay) else value.isoformat()


def read_instant(value: Any) -> datetime:
    """Return a date and time, such as "2027-01-01T06:30:00+01:00". Without an offset it is naive."""
    if isinstance(value, str) and not _FULL_DATE.fullmatch(value.strip()):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError as error:
            raise ValueError(_instant_expected(value)) from error
    if isinstance(value, datetime):
        return _in_range(value)
    raise ValueError(_instant_expected(value))


def read_date_or_instant(value: Any) -> date:
    """Return a date, or a date and time."""
    if (isinstance(value, str) and _FULL_DATE.fullmatch(value.strip())) or type(value) is date:
        return read_date(value)
    return read_instant(value)


def write_date_or_instant(value: date) -> str:
    return value.isoformat()  # the value may be a datetime


def read_blackout(value: Any) -> Blackout:
    """Return a window from "12/31 18:00 - 01/01 06:00", "SAT 22:00 - SUN 06:00", "22:00 - 04:00", or full dates."""
    if isinstance(value, Blackout):
        return value
    edges = re.split(r"(?<!\s)\s+-\s+", value.strip()) if isinstance(value, str) else ()
    if len(edges) != 2:
        raise ValueError(
            'must be a window such as "12/31 18:00 - 01/01 06:00", "SAT 22:00 - SUN 06:00" or "22:00 - 04:00", '
            f"not {shown(value)}"
        )
    start, end = _read_moment(edges[0]), _read_moment(edges[1])
    if type(start.day) is not type(end.day):
        raise ValueError(f"must have ends of the same kind, with dates, weekdays or neither, not {shown(value)}")
    if start == end or (type(start.day) is date and end < start):
        raise ValueError(f"must end after it starts, not {shown(value)}")
    return Blackout(start, end)


def write_blackout(value: Blackout) -> str:
    return f"{_write_moment(value.start)} - {_write_moment(value.end)}"


def _read_moment(text: str) -> Moment:
    *days, clock = text.split()
    if len(days) > 1:
        raise ValueError(f'must be a day and a time, such as "12/31 18:00", not {shown(text)}')
    day: date | MonthDay | int | None = None
    if days:
        word = days[0]
        day = read_weekday(word) if word.isalpha() else read_holiday(word)
    return Moment(day, read_clock(clock))


def _write_moment(value: Moment) -> str:
    clock = write_clock(value.time)
    match value.day:
        case None:
            return clock
        case int():
            return f"{write_weekday(value.day).upper()} {clock}"
        case _:
            return f"{write_holiday(value.day)} {clock}"


def _in_range(value: D) -> D:
    if not 1970 <= value.year <= 2999:
        raise ValueError(f"must be in the years 1970 to 2999, not {shown(value.isoformat())}")
    return value


def _instant_expected(value: Any) -> str:
    return f'must be a date and time such as "2027-01-01T06:30:00+01:00", not {shown(value)}'


Clock = Annotated[time, *form(read_clock, write_clock, "time of day")]
YearlyDay = Annotated[MonthDay, *form(read_month_day, write_month_day, "day of the year")]
Days = Annotated[DateSpan, *form(read_date_span, write_date_span, "span of days")]
Hours = Annotated[TimeSpan, *form(read_time_span, write_time_span, "span of times")]
Weekday = Annotated[int, *form(read_weekday, write_weekday, "day of the week", str | Annotated[int, Field(ge=1, le=7)])]
MonthDate = Annotated[
    int | Literal["last"],
    PlainValidator(
        read_month_date, json_schema_input_type=Annotated[int, Field(ge=1, le=31)] | Literal["first", "last"]
    ),
    Field(title="day of the month"),
]
Holiday = Annotated[date | MonthDay, *form(read_holiday, write_holiday, "date or day of the year")]
FullDate = Annotated[date, *form(read_date, date.isoformat, "date")]
Instant = Annotated[datetime, *form(read_instant, datetime.isoformat, "date and time")]
DateOrInstant = Annotated[date, *form(read_date_or_instant, write_date_or_instant, "date, or date and time")]
Window = Annotated[Blackout, *form(read_blackout, write_blackout, "window")]


def read_zone(value: Any) -> str:
    """The name of a time zone of the IANA database."""
    try:
        return ZoneInfo(value).key
    except (KeyError, ValueError, OSError, TypeError) as error:
        known = available_timezones()
        hint = suggestion(value, known) if isinstance(value, str) else ""
        remedy = "use a name such as Europe/Berlin" if known else "this machine knows none: install tzdata"
        raise ValueError(f"names the unknown time zone {shown(value)}{hint or f'; {remedy}'}") from error


ANY_ZONE = {"any_zone": True}
"""The context of a validation that takes every name for the zone of a schedule, also one that this machine does not
know. The steps of a sequence may wait for a time of day, so their zones must be known."""


def _zone(value: Any, info: ValidationInfo) -> str:
    return value if isinstance(value, str) and info.context == ANY_ZONE else read_zone(value)


Zone = Annotated[str, PlainValidator(read_zone, json_schema_input_type=str), Field(title="time zone")]
ScheduleZone = Annotated[str, PlainValidator(_zone, json_schema_input_type=str), Field(title="time zone")]


def shown_at(day: date, clock: time, zone: tzinfo | None) -> list[datetime]:
    """Return when (UTC) the clocks of a zone, or of this machine, show a time of a day: twice when they go back.

    A time that they skip is as long after the midnight as it says.
    """
    wall = datetime.combine(day, clock)
    found = sorted({wall.replace(fold=fold, tzinfo=zone).astimezone(UTC) for fold in (0, 1)})
    is_skipped = found[0].astimezone(zone).replace(tzinfo=None) != wall
    return found[-1:] if is_skipped else found
