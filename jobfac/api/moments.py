"""Times and durations in requests."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from jobfac.definitions.values import LONGEST, read_duration

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
EARLIEST, LATEST = datetime(1970, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)


def _read_moment(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    try:
        assert isinstance(value, str)
        assert _MOMENT.fullmatch(value)
        moment = datetime.fromisoformat(value.upper())
    except (AssertionError, ValueError):
        hint = "; write + as %2B in a URL" if isinstance(value, str) and " " in value else ""
        raise ValueError(f"must be a time with its offset, such as 2027-01-31T22:00:00+01:00{hint}") from None
    # No record is older than 1970, and the ends of the calendar cannot be converted to UTC.
    if moment.year < EARLIEST.year:
        return EARLIEST
    return LATEST if moment.year > 9998 else max(moment, EARLIEST)


Moment = Annotated[datetime, BeforeValidator(_read_moment), WithJsonSchema({"type": "string", "format": "date-time"})]
"""A time in RFC 3339 form, with offset."""

_SHORT = {"type": "string", "pattern": "^[0-9]{1,4}(ms|s|m|h|d)$"}
Duration = Annotated[
    float,
    BeforeValidator(read_duration),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0, "maximum": LONGEST}, _SHORT]}),
]
"""Seconds, or a text as in definitions. The schema describes the simple forms; 1h30m is also accepted."""


def _read_until(value: Any) -> datetime | timedelta:
    if isinstance(value, str) and re.fullmatch(r"[\d.]+[a-z].*", value):
        return timedelta(seconds=read_duration(value))
    return _read_moment(value)


Until = Annotated[
    datetime | timedelta,
    BeforeValidator(_read_until),
    WithJsonSchema({"anyOf": [{"type": "string", "format": "date-time"}, _SHORT]}),
]
"""A time in RFC 3339 form, or how long from now: a text as in definitions, counted on the database's clock."""
