"""The types of values in definitions, and the base class of their models.

A reader (``read_...``) accepts a text such as "1h30m" or "10 MB", or the value itself, and raises ``ValueError`` with a
message that says what is valid. A writer (``write_...``) returns the canonical text, which its reader reads as the same
value. The title of a type ("duration") names it in the JSON Schema and in the reference.
"""

import math
import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from difflib import get_close_matches
from heapq import nlargest
from itertools import islice, takewhile
from operator import eq
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    PlainValidator,
)
from pydantic_core import CoreSchema


class Model(BaseModel):
    """The base class of all models of definitions: immutable. Unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


UNITS = {"w": Decimal(604800), "d": Decimal(86400), "h": Decimal(3600), "m": Decimal(60), "s": Decimal(1)}
UNITS["ms"] = Decimal("0.001")
LONGEST = 36525 * 86400.0
"""The longest valid duration, in seconds: a hundred years."""

MOST_KNOWN, MOST_COMPARED = 2000, 20
"""Known words that are considered for one that is unknown, and those of them that are compared with it. A comparison of
long words takes a millisecond, and a definition may have a hundred unknown words."""

MOST_OF_DURATION = 100
"""Characters of a duration. To add up a million parts takes seconds."""

_DURATION = re.compile(r"(?:\s*\d+(?:\.\d+)?\s*(?:ms|[wdhms]))+\s*", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|[wdhms])", re.ASCII)

SIZES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SIZE = re.compile(r"(\d+)\s*([a-z]*)", re.ASCII | re.IGNORECASE)

_ID = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` with the most similar known word, or an empty text if none is similar.

    Of many known words, only those are compared that begin or end most alike.
    """
    alike = nlargest(MOST_COMPARED, islice(known, MOST_KNOWN), key=lambda one: _shared(word, one))
    near = get_close_matches(word, alike, n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _shared(one: str, other: str) -> int:
    """Return how many characters two words share at the beginning and at the end."""
    ends = map(eq, one, other), map(eq, reversed(one), reversed(other))
    return sum(sum(takewhile(bool, alike)) for alike in ends)


def as_float(value: int | float) -> float:
    """Return a number as a float; one that is too large is infinite. JSON and YAML have whole numbers of any length."""
    try:
        return float(value)
    except OverflowError:
        return -math.inf if value < 0 else math.inf


def read_duration(value: Any) -> float:
    """Return the seconds of ``"1h30m"``, ``"500ms"`` or a number of seconds."""
    if isinstance(value, str) and len(value) <= MOST_OF_DURATION and _DURATION.fullmatch(value):
        seconds = float(sum(Decimal(number) * UNITS[unit] for number, unit in _DURATION_PART.findall(value)))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = as_float(value)
    else:
        raise ValueError(f"must be a duration such as 30m, 10s, 1h30m or a number of seconds, not {shown(value)}")
    if not 0 <= seconds <= LONGEST:
        raise ValueError(f"must be a duration from 0 to a hundred years, not {shown(value)}")
    return seconds


def _read_positive_duration(value: Any) -> float:
    seconds = read_duration(value)
    if seconds == 0:
        raise ValueError(f"must be longer than 0, not {shown(value)}")
    return seconds


def write_duration(seconds: float) -> str | float:
    """Return a text such as ``"1h30m"``, or the number of seconds if it is not a whole number of milliseconds."""
    left = round(seconds * 1000)
    if left / 1000 != seconds:
        return seconds
    parts = []
    for unit, size in (("d", 86400000), ("h", 3600000), ("m", 60000), ("s", 1000), ("ms", 1)):
        number, left = divmod(left, size)
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts) or "0s"


def read_size(value: Any) -> int:
    """Return the bytes of ``"1MiB"``, ``"10 MB"`` or a number of bytes."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or match[2].lower() not in SIZES:
        raise ValueError(f"must be a size such as 1MiB, 500 kB or a number of bytes, not {shown(value)}")
    return int(match[1]) * SIZES[match[2].lower()]


def write_size(size: int) -> str | int:
    """Return the size in the largest unit that divides it, or the number of bytes."""
    for unit in ("GiB", "MiB", "KiB", "GB", "MB", "kB"):
        if size and size % SIZES[unit.lower()] == 0:
            return f"{size // SIZES[unit.lower()]}{unit}"
    return size


def read_text(value: Any) -> str:
    """Return text. A whole number is accepted as text; other values must be quoted."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("must not contain a NUL character")
        return value
    hint = "; put it in quotes" if isinstance(value, bool | float) else ""
    raise ValueError(f"must be text, not {shown(value)}{hint}")


def read_word(value: Any) -> str:
    """Return text that is not blank."""
    text = read_text(value)
    if not text.strip():
        raise ValueError("must not be empty")
    return text


def read_id(value: Any) -> str:
    """Return an id: 1 to 128 letters, digits, ``.``, ``_`` or ``-``."""
    text = read_text(value)
    if not _ID.fullmatch(text):
        raise ValueError(f"must be made of 1 to 128 letters, digits, '.', '_' or '-', not {shown(value)}")
    if text in (".", ".."):
        raise ValueError(f"must not be {shown(value)}, which names a folder in paths and URLs")
    return text


def whole(low: int, high: int) -> PlainValidator:
    """Return a validator of whole numbers from ``low`` to ``high``, both included."""

    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}, not {shown(value)}")
        return value

    return PlainValidator(read, json_schema_input_type=Annotated[int, Field(ge=low, le=high)])


def decimal(low: float, high: float) -> PlainValidator:
    """Return a validator of numbers from ``low`` to ``high``, both included."""

    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}, not {shown(value)}")
        return float(value)

    return PlainValidator(read, json_schema_input_type=Annotated[float, Field(ge=low, le=high)])


def read_flag(value: Any) -> bool:
    """Return a boolean. In YAML 1.2 only ``true`` and ``false`` are booleans."""
    if isinstance(value, bool):
        return value
    raise ValueError(f"must be true or false, not {shown(value)}")


def shown(value: Any) -> str:
    """Return a short description of a value for an error message, in the words of YAML."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case str():
            return repr(value if len(value) <= 60 else value[:57] + "...")
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case int() if abs(value) >= 10**60:
            return "a number of more than 60 digits"
        case _:
            return str(value)


def _listed(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


class _OneOrList:
    """Allows a single value in place of a list in the JSON Schema."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        many = handler(core)
        return {"anyOf": [many["items"], many]} if handler.mode == "validation" else many


T = TypeVar("T")

Many = Annotated[tuple[T, ...], Field(min_length=1), BeforeValidator(_listed), _OneOrList()]
"""One value, or a list with at least one."""

Plain = str | int
"""Text as YAML returns it: a whole number without quotes is also accepted."""


def form(
    read: Callable[[Any], Any], write: Callable[[Any], Any], title: str, given: Any = str, written: Any = str
) -> tuple[Any, ...]:
    """Return the annotations of a type with this reader and writer. ``given`` and ``written``: its types in YAML."""
    reader = PlainValidator(read, json_schema_input_type=given)
    return reader, PlainSerializer(write, return_type=written), Field(title=title)


_DurationInput = Annotated[str, Field(pattern=rf"^{_DURATION.pattern}$")] | Annotated[float, Field(ge=0)]

Duration = Annotated[float, *form(read_duration, write_duration, "duration", _DurationInput, str | float)]
"""Seconds, 0 or more."""

PositiveDuration = Annotated[
    float, *form(_read_positive_duration, write_duration, "duration", _DurationInput, str | float)
]
"""Seconds, more than 0."""

Size = Annotated[int, *form(read_size, write_size, "size", str | Annotated[int, Field(ge=0)], str | int)]
"""Bytes."""

Flag = Annotated[bool, PlainValidator(read_flag, json_schema_input_type=bool)]
Text = Annotated[str, PlainValidator(read_text, json_schema_input_type=Plain), Field(title="text")]
Word = Annotated[str, PlainValidator(read_word, json_schema_input_type=Plain), Field(title="text")]
"""Text that is not blank."""

Id = Annotated[
    str,
    PlainValidator(read_id, json_schema_input_type=Annotated[str, Field(pattern=f"^{_ID.pattern}$")] | int),
    Field(title="id"),
]
