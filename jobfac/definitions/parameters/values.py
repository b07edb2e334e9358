"""The values of parameters: what each type accepts, its canonical form, and the text that a program sees.

A canonical value is text, a number, a boolean or a list of these. Reading it again gives the same value.
"""

import json
import math
import re
from collections.abc import Callable
from datetime import date, datetime
from typing import Any, Literal, NamedTuple

from jobfac.definitions.parameters.matching import LONG, SECONDS, TooLongError, TooSlowError, first_mismatch
from jobfac.definitions.values import as_float, read_duration, read_flag, read_text, shown, suggestion, write_duration

Kind = Literal["text", "integer", "number", "boolean", "date", "datetime", "duration", "choice"]
Value = str | int | float | bool | list[Any]
"""A canonical value."""

MOST_ITEMS = 10_000
"""The maximum number of entries of a list."""

LARGEST = 2**63 - 1
"""The largest integer: what a BIGINT of SQL Server holds."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
_NUMBER = re.compile(r"[+-]?([0-9]++\.?[0-9]*+|\.[0-9]++)([eE][+-]?[0-9]{1,3})?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


class Limits(NamedTuple):
    """What a value must keep to."""

    kind: Kind
    many: bool = False
    choices: tuple[str, ...] = ()
    pattern: str | None = None
    most: int | None = None
    minimum: int | float | None = None
    maximum: int | float | None = None


def read_value(limits: Limits, value: Any) -> Value:
    """Return the canonical form of a value. A text from a command line stands for what it says: "5" is an integer.

    Raises:
        ValueError: the value does not fit; the text says what would.
    """
    if not limits.many:
        single = _READ[limits.kind](limits, value)
        _check_pattern(limits, [single])
        return single
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError(f"must be a list, such as [1, 2] in JSON, not {shown(value)}") from None
    entries = list(value) if isinstance(value, list | tuple) else [value]
    if len(entries) > MOST_ITEMS:
        raise ValueError(f"must have at most {MOST_ITEMS:,} entries, not {len(entries):,}")
    found = [_READ[limits.kind](limits, one) for one in entries]
    _check_pattern(limits, found)
    return found


def _check_pattern(limits: Limits, texts: list[Any]) -> None:
    """Raise ValueError if a text does not match the pattern, or if the match takes too long."""
    if limits.pattern is None:
        return
    try:
        wrong = first_mismatch(limits.pattern, texts)
    except TooSlowError:
        raise ValueError(
            f"cannot be matched with {limits.pattern} within {SECONDS} s; give a shorter value, or simplify the pattern"
        ) from None
    except TooLongError:
        raise ValueError(f"has more than {LONG:,} characters, the most for a pattern with groups") from None
    if wrong is not None:
        raise ValueError(f"must match {limits.pattern}, not {shown(wrong)}")


def _text(limits: Limits, value: Any) -> str:
    text = read_text(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must not contain half of a character (a lone surrogate)") from None
    length = len(text)
    if limits.most is not None and length > limits.most:
        raise ValueError(f"must be at most {limits.most} characters, not {length}")
    return text


def _choice(limits: Limits, value: Any) -> str:
    text = read_text(value)
    if text not in limits.choices:
        words = ", ".join(limits.choices)
        raise ValueError(f"must be one of {words}, not {shown(text)}{suggestion(text, limits.choices)}")
    return text


def _integer(limits: Limits, value: Any) -> int:
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > LARGEST:
        bounds = " below 2 ** 63" if type(value) is int else _range(limits)
        raise ValueError(f"must be a whole number{bounds}, not {shown(value)}")
    _check_range(limits, value, "whole number")
    return value


def _number(limits: Limits, value: Any) -> int | float:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = int(value) if _INTEGER.fullmatch(value.strip()) else float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(as_float(value)):
        raise ValueError(f"must be a number{_range(limits)}, not {shown(value)}")
    if isinstance(value, int) and abs(value) > LARGEST:
        value = float(value)
    _check_range(limits, value, "number")
    number: int | float = value
    return number


def _range(limits: Limits) -> str:
    low, high = limits.minimum, limits.maximum
    if low is not None and high is not None:
        return f" from {low} to {high}"
    return f" of at least {low}" if low is not None else f" of at most {high}" if high is not None else ""


def _check_range(limits: Limits, value: int | float, what: str) -> None:
    low = limits.minimum is not None and value < limits.minimum
    if low or (limits.maximum is not None and value > limits.maximum):
        raise ValueError(f"must be a {what}{_range(limits)}, not {shown(value)}")


def _boolean(limits: Limits, value: Any) -> bool:
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        value = value.strip().lower() == "true"
    return read_flag(value)


def _date(limits: Limits, value: Any) -> str:
    try:
        if isinstance(value, str) and _DATE.fullmatch(value.strip()):
            return date.fromisoformat(value.strip()).isoformat()
    except ValueError:
        pass
    raise ValueError(f"must be a date that exists, as YYYY-MM-DD, not {shown(value)}")


def _datetime(limits: Limits, value: Any) -> str:
    try:
        if isinstance(value, str) and _MOMENT.fullmatch(value.strip()):
            return datetime.fromisoformat(value.strip().upper()).isoformat()
    except ValueError:
        pass
    raise ValueError(f"must be a time with its offset, such as 2027-01-31T22:00:00+01:00, not {shown(value)}")


def _duration(limits: Limits, value: Any) -> str:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    seconds = read_duration(value)
    if round(seconds, 3) != seconds:
        raise ValueError(f"must be a duration of whole milliseconds, not {shown(value)}")
    return str(write_duration(seconds))


_READ: dict[Kind, Callable[[Limits, Any], Value]] = {
    "text": _text,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "date": _date,
    "datetime": _datetime,
    "duration": _duration,
    "choice": _choice,
}


def as_text(value: Value | None) -> str:
    """Return a canonical value as a program sees it: text as it is, a list as JSON, nothing as an empty text."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


Typed = str | int | float | bool | date | datetime | list[Any]
"""A value as a database driver binds it: dates and times are dates and times, durations are seconds."""


def typed(limits: Limits, value: Value | None) -> Typed | None:
    """Return a canonical value as a database driver binds it."""
    if value is None:
        return None
    if isinstance(value, list):
        return [typed(limits, one) for one in value]
    match limits.kind:
        case "date":
            return date.fromisoformat(str(value))
        case "datetime":
            return datetime.fromisoformat(str(value))
        case "duration":
            return read_duration(value)
    return value
