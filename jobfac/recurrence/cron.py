"""Cron expressions. The library cronsim parses the fields and matches days; `times` handles clock changes."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime

from cronsim import CronSim

from jobfac.recurrence.days import DayTest

RANGE = re.compile(r"\b(\w+)-(\w+)/\d+")
"""A range with a step. One of a single value, such as 8-8/5, means this value only, but cronsim reads it as 8/5."""

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
NUMBERS = {**{name: at for at, name in enumerate(MONTHS, start=1)}, **{name: at for at, name in enumerate(DAYS)}}


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
    sim = CronSim(RANGE.sub(_single, fields), datetime(2000, 1, 1, tzinfo=UTC))
    minute, hour, *_ = fields.split()

    def matches(day: date) -> bool:
        return day.month in sim.months and bool(sim.match_day(day))

    return Cron(
        matches=matches,
        seconds=tuple(3600 * hour + 60 * minute for hour in sorted(sim.hours) for minute in sorted(sim.minutes)),
        wildcard=minute.startswith("*") or hour.startswith("*"),
    )


def _single(found: re.Match[str]) -> str:
    """Return the value of a range of one, or the range as it is. 08-8 and aug-8 are ranges of one, too."""
    return found[1] if _number(found[1]) == _number(found[2]) else found[0]


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else NUMBERS.get(text.lower(), -1)
