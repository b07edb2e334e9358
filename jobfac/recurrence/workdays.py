"""Holidays and working days of a schedule's calendar."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from jobfac.definitions.patterns.moments import MonthDay
from jobfac.definitions.schedule import Calendar
from jobfac.recurrence.zones import ONE_DAY

LONGEST_BREAK = 366
"""The maximum number of days to search for a working day."""


@dataclass(frozen=True)
class Workdays:
    """The calendar of a schedule: its holidays, and the days to which the times of holidays are moved."""

    calendar: Calendar

    def holiday(self, day: date) -> str | None:
        """Return the holiday's name, or None if the day is no holiday."""
        if day in self.calendar.dates or MonthDay(day.month, day.day) in self.calendar.dates:
            return "a holiday of the calendar"
        names = (_public(region, day.year).get(day) for region in self.calendar.holidays)
        return next((name for name in names if name), None)

    def works(self, day: date) -> bool:
        """Whether the day is neither a holiday nor part of the weekend."""
        return day.weekday() not in self._weekend() and self.holiday(day) is None

    def substitute(self, holiday: date) -> date | None:
        """Return the working day to which a holiday's times are moved, or None if they are skipped."""
        if self.calendar.on_holiday == "skip":
            return None
        step = ONE_DAY if self.calendar.on_holiday == "next" else -ONE_DAY
        days = (holiday + step * number for number in range(1, LONGEST_BREAK))
        return next((day for day in days if self.works(day)), None)

    def replaced(self, day: date) -> Iterator[date]:
        """Yield the holidays whose times are moved to `day`."""
        if self.calendar.on_holiday == "skip" or not self.works(day):
            return
        step = -ONE_DAY if self.calendar.on_holiday == "next" else ONE_DAY
        for number in range(1, LONGEST_BREAK):
            other = day + step * number
            if self.works(other):
                return
            if self.holiday(other):
                yield other

    def _weekend(self) -> frozenset[int]:
        return frozenset().union(*map(_weekend, self.calendar.holidays)) or frozenset({5, 6})


@lru_cache(maxsize=512)
def _public(region: str, year: int) -> dict[date, str]:
    # Imported when first needed: the package is large, and most schedules have no holidays.
    from holidays import country_holidays

    country, _, subdivision = region.partition("-")
    # Always English if available: the default depends on the locale of the process.
    return dict(country_holidays(country, subdiv=subdivision or None, years=year, language="en_US"))


@lru_cache(maxsize=512)
def _weekend(region: str) -> frozenset[int]:
    from holidays import country_holidays

    country, _, subdivision = region.partition("-")
    return frozenset(country_holidays(country, subdiv=subdivision or None).weekend)
