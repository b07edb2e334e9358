"""The days that a rule matches, before holidays are applied."""

from calendar import monthrange
from collections.abc import Callable
from datetime import date
from functools import partial

from jobfac.definitions.patterns import Dates
from jobfac.definitions.patterns.counted import LAST, Interval, Ordinal

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
    if dates.nth:
        tests.append(lambda day: any(is_ordinal(day, ordinal) for ordinal in dates.nth))
    if dates.every is not None and dates.since is not None:
        tests.append(partial(is_counted, every=dates.every, since=dates.since))
    return lambda day: all(test(day) for test in tests)


def is_counted(day: date, every: Interval, since: date) -> bool:
    """Whether the day lies in a day, week or month that ``every`` counts from ``since``, in both directions."""
    if every.unit == "months":
        return ((day.year - since.year) * 12 + day.month - since.month) % every.number == 0
    days = (day - since).days
    return (days if every.unit == "days" else days // 7) % every.number == 0


def is_ordinal(day: date, ordinal: Ordinal) -> bool:
    """Whether the day is the n-th, or the last, day of a kind in its month."""
    if not _is_kind(day, ordinal):
        return False
    last = monthrange(day.year, day.month)[1]
    others = range(day.day + 1, last + 1) if ordinal.number == LAST else range(1, day.day)
    same = sum(_is_kind(day.replace(day=other), ordinal) for other in others)
    return same == (0 if ordinal.number == LAST else ordinal.number - 1)


def _is_kind(day: date, ordinal: Ordinal) -> bool:
    match ordinal.kind:
        case int():
            return day.isoweekday() == ordinal.kind
        case "day":
            return True
        case _:
            return (day.isoweekday() > 5) == (ordinal.kind == "weekend")


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
