"""Holidays and working days of a schedule's calendar."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from jobfac.definitions.moments import MonthDay
from jobfac.definitions.schedule import Calendar
from jobfac.recurrence.zones import ONE_DAY

LONGEST_BREAK = 366
"""Days after which the search for a working day is given up."""


@dataclass(frozen=True)
class Workdays:
    """The calendar of a schedule: what is a holiday, and which day stands in for it."""

    calendar: Calendar

    def holiday(self, day: date) -> str | None:
        """The holiday's name, or None on any other day."""
        if day in self.calendar.dates or MonthDay(day.month, day.day) in self.calendar.dates:
            return "a holiday of the calendar"
        names = (_public(region, day.year).get(day) for region in self.calendar.holidays)
        return next((name for name in names if name), None)

    def works(self, day: date) -> bool:
        """Whether the day is neither a holiday nor of the weekend."""
        return day.weekday() not in self._weekend() and self.holiday(day) is None

    def substitute(self, holiday: date) -> date | None:
        """The working day to which a holiday's times are moved; None when they are dropped."""
        if self.calendar.on_holiday == "skip":
            return None
        step = ONE_DAY if self.calendar.on_holiday == "next" else -ONE_DAY
        days = (holiday + step * number for number in range(1, LONGEST_BREAK))
        return next((day for day in days if self.works(day)), None)

    def replaced(self, day: date) -> Iterator[date]:
        """The holidays whose times are moved to `day`."""
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
    # In one language, where there is one for all: else the names would be in that of whoever asks.
    return dict(country_holidays(country, subdiv=subdivision or None, years=year, language="en_US"))


@lru_cache(maxsize=512)
def _weekend(region: str) -> frozenset[int]:
    from holidays import country_holidays

    country, _, subdivision = region.partition("-")
    return frozenset(country_holidays(country, subdiv=subdivision or None).weekend)
