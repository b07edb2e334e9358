"""Days that are counted: every second week, the third Friday of the month. Readers raise ``ValueError``."""

import re
from typing import Annotated, Any, Literal, NamedTuple, cast

from jobfac.definitions.patterns.moments import read_weekday, write_weekday
from jobfac.definitions.values import form, shown

Unit = Literal["days", "weeks", "months"]
Kind = int | Literal["day", "weekday", "weekend"]
"""An ISO day of the week, 1 (Monday) to 7, or a kind of day."""

LAST = -1
ORDINALS = {"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "last": LAST}
MOST = 10_000

_INTERVAL = re.compile(r"(\d{1,5})\s*(day|week|month)s?", re.ASCII)


class Interval(NamedTuple):
    """A number of days, weeks or months."""

    number: int
    unit: Unit


class Ordinal(NamedTuple):
    """The ``number``-th day (``LAST``: the last one) of a kind in a month."""

    number: int
    kind: Kind


def read_interval(value: Any) -> Interval:
    """An interval: "3 days", "2 weeks", "6 months"."""
    if isinstance(value, Interval):
        return value
    match = _INTERVAL.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    if match is None or not 1 <= int(match[1]) <= MOST:
        raise ValueError(f"must be an interval such as 3 days, 2 weeks or 6 months, not {shown(value)}")
    return Interval(int(match[1]), cast(Unit, f"{match[2]}s"))


def write_interval(value: Interval) -> str:
    return f"{value.number} {value.unit.removesuffix('s') if value.number == 1 else value.unit}"


def read_ordinal(value: Any) -> Ordinal:
    """A day of the month by its number among the days of its kind: "second tue", "last weekend"."""
    if isinstance(value, Ordinal):
        return value
    words = value.lower().split() if isinstance(value, str) else []
    if len(words) != 2 or words[0] not in ORDINALS:
        raise ValueError(
            f"must be first, second, third, fourth, fifth or last and a day, such as 'second tue' or 'last weekday', "
            f"not {shown(value)}"
        )
    kind = words[1] if words[1] in ("day", "weekday", "weekend") else read_weekday(words[1])
    return Ordinal(ORDINALS[words[0]], cast(Kind, kind))


def write_ordinal(value: Ordinal) -> str:
    word = next(word for word, number in ORDINALS.items() if number == value.number)
    return f"{word} {write_weekday(value.kind) if isinstance(value.kind, int) else value.kind}"


DayInterval = Annotated[Interval, *form(read_interval, write_interval, "interval of days")]
OrdinalDay = Annotated[Ordinal, *form(read_ordinal, write_ordinal, "counted day of the month")]
