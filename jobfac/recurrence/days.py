"""The days that a rule matches, before holidays are applied."""

from calendar import monthrange
from collections.abc import Callable
from datetime import date

from jobfac.definitions.schedule import Dates

DayTest = Callable[[date], bool]


def every_day(day: date) -> bool:
    return True


def day_test(dates: Dates | None) -> DayTest:
    """Return a test for the days of `dates`; None matches every day."""
    if dates is None:
        return every_day
    tests: list[DayTest] = []
    if dates.days_of_week:
        tests.append(lambda day: day.isoweekday() in dates.days_of_week)
    if dates.days_of_month:
        tests.append(lambda day: day.day in dates.days_of_month or _is_last(day, dates))
    if dates.on:
        tests.append(lambda day: (day.month, day.day) in dates.on)
    if dates.between:
        tests.append(lambda day: _within(day, dates))
    if dates.weekdays:
        tests.append(lambda day: any(WEEKDAYS[word](day) for word in dates.weekdays))
    return lambda day: all(test(day) for test in tests)


def _is_last(day: date, dates: Dates) -> bool:
    return "last" in dates.days_of_month and day.day == monthrange(day.year, day.month)[1]


def _within(day: date, dates: Dates) -> bool:
    here = (day.month, day.day)
    return any(
        first <= here <= last if first <= last else here >= first or here <= last for first, last in dates.between
    )


def _first_weekday(day: date) -> bool:
    return day.isoweekday() <= 5 and (day.day == 1 or (day.isoweekday() == 1 and day.day <= 3))


def _last_weekday(day: date) -> bool:
    left = monthrange(day.year, day.month)[1] - day.day
    return day.isoweekday() <= 5 and (left == 0 or (day.isoweekday() == 5 and left <= 2))


WEEKDAYS: dict[str, DayTest] = {
    "first": _first_weekday,
    "last": _last_weekday,
    "weekday": lambda day: day.isoweekday() <= 5,
    "weekend": lambda day: day.isoweekday() > 5,
}
