"""Blackouts: windows in which nothing starts."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from jobfac.definitions.patterns.moments import Blackout, Moment, MonthDay
from jobfac.recurrence.zones import ONE_DAY, first_instant, last_instant, local

FOREVER = datetime(9999, 1, 1, tzinfo=UTC)
LONGEST_CHAIN = 1000
"""The maximum number of adjoining windows in one blackout. A longer chain counts as a blackout without end."""


def blackout_end(windows: Sequence[Blackout], zone: ZoneInfo, instant: datetime) -> datetime | None:
    """Return the end (UTC) of the blackout that contains `instant`, or None if no blackout contains it.

    Windows that overlap or adjoin are one blackout. The end of a blackout without end is `FOREVER`.
    """
    end = None
    for _ in range(LONGEST_CHAIN):
        containing = _containing(windows, zone, instant)
        if not containing:
            return end
        end = instant = max(stop for _, stop in containing)
    return FOREVER


def blackout_start(windows: Sequence[Blackout], zone: ZoneInfo, instant: datetime) -> datetime | None:
    """Return the start (UTC) of the blackout that contains `instant`, or None if no blackout contains it."""
    start = None
    for _ in range(LONGEST_CHAIN):
        containing = _containing(windows, zone, instant)
        if not containing:
            break
        start = min(begin for begin, _ in containing)
        instant = start - timedelta(microseconds=1)
    return start


def _containing(windows: Sequence[Blackout], zone: ZoneInfo, instant: datetime) -> list[tuple[datetime, datetime]]:
    today = local(zone, instant).date()
    spans = [
        # If a clock time occurs twice, choose the longest possible window.
        (first_instant(zone, start), last_instant(zone, end))
        for window in windows
        for start, end in _occurrences(window, today)
    ]
    return [(start, end) for start, end in spans if start <= instant < end]


def _occurrences(window: Blackout, today: date) -> Iterator[tuple[datetime, datetime]]:
    """Yield the occurrences, in wall-clock times, that may include a part of `today`."""
    start, end = window
    wraps = end < start
    if window.kind == "once":
        yield _at(start, today), _at(end, today)
    elif window.kind == "yearly":
        for year in (today.year - 1, today.year):
            yield _at(start, date(year, 1, 1)), _at(end, date(year + wraps, 1, 1))
    elif window.kind == "weekly":
        monday = today - ONE_DAY * today.weekday()
        for week in (monday - 7 * ONE_DAY, monday):
            yield _at(start, week), _at(end, week + 7 * ONE_DAY * wraps)
    else:
        for day in (today - ONE_DAY, today):
            yield _at(start, day), _at(end, day + ONE_DAY * wraps)


def _at(edge: Moment, base: date) -> datetime:
    """Return the wall-clock time of an edge, in the year or week or on the day that begins at `base`."""
    match edge.day:
        case MonthDay(month, day):
            try:
                return datetime.combine(date(base.year, month, day), edge.time)
            except ValueError:  # February 29 in a common year: the instant at which it would begin and end
                return datetime.combine(date(base.year, 3, 1), time())
        case int(weekday):
            return datetime.combine(base + ONE_DAY * (weekday - 1), edge.time)
        case None:
            return datetime.combine(base, edge.time)
        case day:
            return datetime.combine(day, edge.time)
