"""Blackouts: windows in which nothing starts."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

from jobfac.definitions.patterns.moments import Blackout, Moment, MonthDay
from jobfac.recurrence.zones import ONE_DAY, first_instant, last_instant, local

FOREVER = datetime(9999, 1, 1, tzinfo=UTC)
LONGEST_CHAIN = 1000
"""The maximum number of adjoining windows in one blackout. A longer chain counts as a blackout without end."""

LONGEST = timedelta(days=50 * 366)
"""How long windows that repeat may adjoin each other. A longer chain counts as a blackout without end, too."""

KEPT = 2000
"""How many years, weeks and days of the windows of one schedule are remembered."""

Span = tuple[datetime, datetime]
Kind = Literal["daily", "weekly", "yearly", "once"]


def blackout_end(windows: Sequence[Blackout], zone: ZoneInfo, instant: datetime) -> datetime | None:
    """Return the end (UTC) of the blackout that contains `instant`, or None if no blackout contains it.

    Windows that overlap or adjoin are one blackout. The end of a blackout without end is `FOREVER`.
    """
    found, begin, end = _windows(tuple(windows), zone), instant, None
    for _ in range(LONGEST_CHAIN):
        containing = found.containing(instant)
        if not containing:
            return end
        if end is not None and end - begin > LONGEST:
            break
        end = instant = max(stop for _, stop in containing)
    return FOREVER


def blackout_start(windows: Sequence[Blackout], zone: ZoneInfo, instant: datetime) -> datetime | None:
    """Return the start (UTC) of the blackout that contains `instant`, or None if no blackout contains it."""
    found, end, start = _windows(tuple(windows), zone), instant, None
    for _ in range(LONGEST_CHAIN):
        containing = found.containing(instant)
        if not containing or (start is not None and end - start > LONGEST):
            break
        start = min(begin for begin, _ in containing)
        instant = start - timedelta(microseconds=1)
    return start


class _Windows:
    """The windows of a schedule. Those of one kind that overlap or adjoin are joined once for each year, week or day,
    because there may be hundreds of them, and each preview and each due time asks."""

    def __init__(self, windows: tuple[Blackout, ...], zone: ZoneInfo) -> None:
        self._zone = zone
        self._kinds = {kind: [one for one in windows if one.kind == kind] for kind in {one.kind for one in windows}}
        self._joined: dict[tuple[Kind, date], list[Span]] = {}

    def containing(self, instant: datetime) -> list[Span]:
        """Return the joined windows that contain `instant`."""
        today = local(self._zone, instant).date()
        found = []
        for kind in self._kinds:
            for base in _bases(kind, today):
                spans = self._spans(kind, base)
                place = bisect_right(spans, instant, key=lambda span: span[0])
                if place and instant < spans[place - 1][1]:
                    found.append(spans[place - 1])
        return found

    def _spans(self, kind: Kind, base: date) -> list[Span]:
        if (known := self._joined.get((kind, base))) is not None:
            return known
        if len(self._joined) >= KEPT:
            self._joined = {}  # several threads may read it
        occurrences = (_occurrence(window, base) for window in self._kinds[kind])
        # If a clock time occurs twice, choose the longest possible window.
        spans = ((first_instant(self._zone, start), last_instant(self._zone, end)) for start, end in occurrences)
        self._joined[kind, base] = joined = _joined(spans)
        return joined


@lru_cache(maxsize=1024)
def _windows(windows: tuple[Blackout, ...], zone: ZoneInfo) -> _Windows:
    return _Windows(windows, zone)


def _joined(spans: Iterable[Span]) -> list[Span]:
    found: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def _bases(kind: Kind, today: date) -> Iterator[date]:
    """Yield the beginnings of the years or weeks, or the days, whose windows may include a part of `today`."""
    match kind:
        case "once":
            yield date.min
        case "yearly":
            yield from (date(year, 1, 1) for year in (today.year - 1, today.year))
        case "weekly":
            monday = today - ONE_DAY * today.weekday()
            yield from (monday - 7 * ONE_DAY, monday)
        case _:
            yield from (today - ONE_DAY, today)


def _occurrence(window: Blackout, base: date) -> tuple[datetime, datetime]:
    """Return start and end, in wall-clock times, of the window in the year or week or on the day that begins at
    `base`."""
    start, end = window
    last = base
    if end < start and window.kind == "yearly":
        last = date(base.year + 1, 1, 1)
    elif end < start and window.kind in ("weekly", "daily"):
        last = base + ONE_DAY * (7 if window.kind == "weekly" else 1)
    return _at(start, base), _at(end, last)


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
