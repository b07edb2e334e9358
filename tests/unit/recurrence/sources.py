"""Sources of the expected previews: dateutil, cronsim, simple loops and lists written by hand, not jobfac.recurrence.

Every source returns the instants of 2027 in a zone. The zones are those of dateutil, which reads them with its own
code.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim
from dateutil import rrule, tz
from dateutil.easter import easter

Source = Callable[[str], set[datetime]]
Move = Callable[[date], date | None]
"""Returns the day to which a day's times are moved, or None to drop them."""

YEAR = 2027
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
EASTER = easter(YEAR)

# Public holidays of 2027 by law: Easter is 28 March.
BAVARIA = {date(YEAR, *day) for day in [(1, 1), (1, 6), (5, 1), (10, 3), (11, 1), (12, 25), (12, 26)]} | {
    EASTER + DAY * number for number in (-2, 1, 39, 50, 60)
}
# The third Monday of January and February, the last of May, ... ; 4 July is a Sunday, observed on Monday; 19 June and
# 25 December are Saturdays, observed on Friday, as is New Year's Day of 2028.
UNITED_STATES = {
    date(YEAR, *day)
    for day in [(1, 1), (1, 18), (2, 15), (5, 31), (6, 18), (6, 19), (7, 4), (7, 5), (9, 6), (10, 11), (11, 11)]
} | {date(YEAR, *day) for day in [(11, 25), (12, 24), (12, 25), (12, 31)]}


def cron(expression: str) -> Source:
    """cronsim alone, with its own handling of clock changes, which is that of Debian."""

    def source(zone: str) -> set[datetime]:
        found: set[datetime] = set()
        for local in CronSim(expression, datetime(YEAR, 1, 1, tzinfo=ZoneInfo(zone)) - MINUTE):
            if local.year > YEAR:
                return found
            found.add(local.astimezone(UTC))
        return found

    return source


def days(
    *clocks: str, gap: str = "shift", overlap: str = "first", move: Move = lambda day: day, **fields: Any
) -> Source:
    """Times on the days of a dateutil rule with these fields."""
    rule: dict[str, Any] = {
        "freq": rrule.DAILY,
        "dtstart": datetime(YEAR, 1, 1),
        "until": datetime(YEAR, 12, 31),
        **fields,
    }
    return on([day.date() for day in rrule.rrule(**rule)], *clocks, gap=gap, overlap=overlap, move=move)


def on(
    named: Iterable[date], *clocks: str, gap: str = "shift", overlap: str = "first", move: Move = lambda day: day
) -> Source:
    """Times on the given days."""
    moved = {target for day in named if (target := move(day)) is not None}

    def source(zone: str) -> set[datetime]:
        walls = [datetime.combine(day, time.fromisoformat(clock)) for day in moved for clock in clocks]
        return {instant for wall in walls for instant in _instants(wall, tz.gettz(zone), gap, overlap)}

    return source


def _instants(wall: datetime, zone: tzinfo | None, gap: str, overlap: str) -> list[datetime]:
    while not tz.datetime_exists(wall, zone):
        if gap == "skip":
            return []
        wall += MINUTE
    folds = (0,) if not tz.datetime_ambiguous(wall, zone) else {"first": (0,), "second": (1,), "both": (0, 1)}[overlap]
    return [tz.enfold(wall.replace(tzinfo=zone), fold).astimezone(UTC) for fold in folds]


def skipping(holidays: set[date]) -> Move:
    return lambda day: None if day in holidays else day


def moving(holidays: set[date], step: timedelta) -> Move:
    def move(day: date) -> date:
        if day in holidays:
            while day in holidays or day.weekday() > 4:
                day += step
        return day

    return move


def real_minutes(step: int, anchor: datetime) -> Source:
    """Times every ``step`` minutes after an instant."""

    def source(zone: str) -> set[datetime]:
        start, end = (datetime(year, 1, 1, tzinfo=tz.gettz(zone)).astimezone(UTC) for year in (YEAR, YEAR + 1))
        instant = anchor
        while instant < start:
            instant += step * MINUTE
        found = set()
        while instant < end:
            found.add(instant)
            instant += step * MINUTE
        return found

    return source


def from_midnight(step: int) -> Source:
    """Times every ``step`` minutes of each local day: half hours are counted until the date changes."""

    def source(zone: str) -> set[datetime]:
        instant = datetime(YEAR, 1, 1, tzinfo=tz.gettz(zone)).astimezone(UTC)
        found, today, count = set(), None, 0
        while (local := instant.astimezone(tz.gettz(zone))).year == YEAR:
            if local.date() != today:
                today, count = local.date(), 0
            if count % step == 0:
                found.add(instant)
            instant, count = instant + 30 * MINUTE, count + 30
        return found

    return source


def held(source: Source, *windows: tuple[str, str]) -> Source:
    """The times of a source. Those in a window are delayed to its end."""

    def held_back(zone: str) -> set[datetime]:
        local = tz.gettz(zone)
        edges = [[datetime.fromisoformat(edge).replace(tzinfo=local).astimezone(UTC) for edge in w] for w in windows]
        ends = {(instant, end) for instant in source(zone) for start, end in edges if start <= instant < end}
        return source(zone) - {instant for instant, _ in ends} | {end for _, end in ends}

    return held_back


def by_hand(*lines: str) -> Source:
    """Instants written by hand, with offsets."""
    return lambda zone: {datetime.fromisoformat(line).astimezone(UTC) for line in lines}
