"""Cron expressions. The library cronsim parses the fields and matches days; `times` handles clock changes."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime

from cronsim import CronSim

from jobfac.recurrence.days import DayTest

LONE = re.compile(r"\b(\w+)-\1/\d+")
"""A range of one value with a step, such as 8-8/5. It means this value only, but cronsim reads it as 8/5."""


@dataclass(frozen=True)
class Cron:
    """A parsed expression: the days it matches, and the seconds of the day.

    `wildcard`: the minute or the hour field begins with a star. When the clocks change, such a rule follows real time;
    any other rule follows the wall clock. Debian's cron makes the same distinction.
    """

    matches: DayTest
    seconds: tuple[int, ...]
    wildcard: bool


def parse(fields: str) -> Cron:
    """Parse five fields that `jobfac.definitions` has validated."""
    sim = CronSim(LONE.sub(r"\1", fields), datetime(2000, 1, 1, tzinfo=UTC))
    minute, hour, *_ = fields.split()

    def matches(day: date) -> bool:
        return day.month in sim.months and bool(sim.match_day(day))

    return Cron(
        matches=matches,
        seconds=tuple(3600 * hour + 60 * minute for hour in sorted(sim.hours) for minute in sorted(sim.minutes)),
        wildcard=minute.startswith("*") or hour.startswith("*"),
    )
