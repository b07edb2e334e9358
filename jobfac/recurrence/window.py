"""Windows of days and times in which a step of a sequence may start."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from jobfac.definitions.schedule import Dates, Times
from jobfac.recurrence.days import day_test
from jobfac.recurrence.rule import HORIZON, Rule, times_of_day
from jobfac.recurrence.times import Fixed, Span, TimesOfDay, second_of_day
from jobfac.recurrence.zones import ONE_DAY, local

ONE_MINUTE = timedelta(minutes=1)


def in_window(dates: Dates | None, times: Times | None, zone: ZoneInfo, instant: datetime) -> bool:
    """Whether the window contains `instant` (aware).

    A span across midnight belongs to the day on which it begins: "22:00-04:00" on weekdays lasts until Saturday,
    04:00. `hours` without `minutes` are whole hours. `at`, `minutes` and `every` are points in time; each is open for
    one minute.
    """
    if times is not None and _is_points(times):
        rule = Rule(zone, day_test(dates), times_of_day(times, "shift", "both"))
        opened = rule.next_time(instant - ONE_MINUTE)
        return opened is not None and opened <= instant
    wall, named = local(zone, instant), day_test(dates)
    second = second_of_day(wall.time())
    if times is None:
        return named(wall.date())
    if times.hours and wall.hour not in times.hours:
        return False
    if not times.between:
        return named(wall.date())
    began = [wall.date() - ONE_DAY * (second < span.start) for span in _spans(times) if span.includes(second)]
    return any(map(named, began))


def next_window(dates: Dates | None, times: Times | None, zone: ZoneInfo, after: datetime) -> datetime | None:
    """Return the first instant (UTC) later than `after` (aware) at which the window opens, or None if it never does."""
    # An opening after midnight may belong to the previous day, so ``in_window`` tests the dates of spans and hours.
    by_date = times is None or _is_points(times)
    rule = Rule(zone, day_test(dates if by_date else None), _openings(times))
    opening = rule.next_time(after)
    while opening is not None and not in_window(dates, times, zone, opening):
        opening = rule.next_time(opening) if opening - after < timedelta(days=HORIZON) else None
    return opening


def _is_points(times: Times) -> bool:
    return bool(times.at or times.minutes or times.every)


def _spans(times: Times) -> list[Span]:
    return [Span(second_of_day(start), second_of_day(end)) for start, end in times.between]


def _openings(times: Times | None) -> TimesOfDay:
    if times is None:
        return Fixed((0,), "shift", "both")
    if _is_points(times):
        return times_of_day(times, "shift", "both")
    seconds = {hour * 3600 for hour in times.hours} | {span.start for span in _spans(times)}
    return Fixed(tuple(sorted(seconds)), "shift", "both")
