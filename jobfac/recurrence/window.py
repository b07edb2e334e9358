"""Windows of days and times in which a step of a sequence may start."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from jobfac.definitions.schedule import Dates, Times
from jobfac.recurrence.days import day_test
from jobfac.recurrence.rule import Rule, overnight, times_of_day
from jobfac.recurrence.times import Span, second_of_day
from jobfac.recurrence.zones import ONE_DAY, local

ONE_MINUTE = timedelta(minutes=1)


def in_window(dates: Dates | None, times: Times | None, zone: ZoneInfo, instant: datetime) -> bool:
    """Whether the window contains `instant` (aware).

    A span across midnight belongs to the day on which it begins: "22:00-04:00" on weekdays lasts until Saturday,
    04:00. `hours` without `minutes` are whole hours. `at`, `minutes` and `every` are points in time; each is open for
    one minute.
    """
    is_point = times is not None and _is_points(times)
    if times is not None and is_point:
        rule = Rule(zone, day_test(None), times_of_day(times, "shift", "both"), overnight=overnight(times))
        opened = rule.next_time(instant - ONE_MINUTE)
        if opened is None or opened > instant:
            return False
        instant = opened
    wall, named = local(zone, instant), day_test(dates)
    second = second_of_day(wall.time())
    if times is None:
        return named(wall.date())
    if times.hours and not is_point and wall.hour not in times.hours:
        return False
    if not times.between:
        return named(wall.date())
    began = [wall.date() - ONE_DAY * (second < span.start) for span in _spans(times) if span.includes(second)]
    if is_point and not began:  # a change of the clocks has shifted it
        return named(wall.date())
    return any(map(named, began))


def _is_points(times: Times) -> bool:
    return bool(times.at or times.minutes or times.every)


def _spans(times: Times) -> list[Span]:
    return [Span(second_of_day(start), second_of_day(end)) for start, end in times.between]
