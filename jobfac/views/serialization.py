"""Read views from rows and from JSON, and write them as JSON, by the declared types of their fields.

A view is a NamedTuple. Its fields are, in order, its columns and the keys of its JSON object. Their types say the rest:
a ``datetime`` is RFC 3339 text with offset and milliseconds, an enum is its word, a list or an object is a column of
JSON text, a view or a list of views is nested. A field with a default is no column, and JSON leaves it out while it has
that default.
"""

import functools
import json
import math
import re
import types
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from enum import Enum
from typing import Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

View = TypeVar("View", bound=tuple[Any, ...])
"""A NamedTuple."""

Convert = Callable[[Any], Any]


class Precision(NamedTuple):
    """The precision of a written time, as a ``timespec`` of ``datetime.isoformat``."""

    timespec: str


MILLISECONDS = Precision("milliseconds")

WholeSecond = Annotated[datetime, Precision("seconds")]
"""A time that is written without a fraction."""


class Field(NamedTuple):
    """A field of a view. A conversion that is None leaves the value as it is; none of them sees None."""

    name: str
    kind: Any
    from_row: Convert | None
    from_json: Convert | None
    to_json: Convert | None
    is_column: bool
    default: Any


@functools.cache
def fields(view: type[tuple[Any, ...]]) -> tuple[Field, ...]:
    """Return the fields of a view, in order, each with its conversions."""
    hints = get_type_hints(view, include_extras=True)
    defaults: Mapping[str, Any] = getattr(view, "_field_defaults", {})
    return tuple(
        Field(name, kind, *_conversions(kind), name not in defaults, defaults.get(name)) for name, kind in hints.items()
    )


class Plan(NamedTuple):
    """The conversions of a view, by place or by name, without the fields that need none."""

    names: tuple[str, ...]
    columns: tuple[str, ...]
    from_row: tuple[tuple[int, Convert], ...]
    to_json: tuple[tuple[str, Convert], ...]
    defaults: tuple[tuple[str, Any], ...]


@functools.cache
def _plan(view: type[tuple[Any, ...]]) -> Plan:
    known = fields(view)
    return Plan(
        names=tuple(field.name for field in known),
        columns=columns(view),
        # Fields with a default come last, so that the places of columns are those of fields.
        from_row=tuple((at, one.from_row) for at, one in enumerate(known) if one.is_column and one.from_row),
        to_json=tuple((one.name, one.to_json) for one in known if one.to_json),
        defaults=tuple((one.name, one.default) for one in known if not one.is_column),
    )


def columns(view: type[tuple[Any, ...]]) -> tuple[str, ...]:
    """Return the names of a view's columns, in order."""
    return tuple(field.name for field in fields(view) if field.is_column)


def from_row(view: type[View], row: Mapping[Any, Any]) -> View:
    """Return the view of a row that has its columns. A JSON column may be text or already decoded."""
    plan = _plan(view)
    values = [row[name] for name in plan.columns]
    for place, convert in plan.from_row:
        if values[place] is not None:
            values[place] = convert(values[place])
    make: Callable[..., View] = view
    return make(*values)


def from_rows(view: type[View], rows: Iterable[Iterable[Any]]) -> list[View]:
    """Return the views of rows whose values are the columns of the view, in order. Fast, for lists."""
    plan = _plan(view)
    make: Callable[..., View] = view
    if not plan.from_row:
        return [make(*row) for row in rows]
    found = []
    for row in rows:
        values = list(row)
        for place, convert in plan.from_row:
            if values[place] is not None:
                values[place] = convert(values[place])
        found.append(make(*values))
    return found


def from_json(view: type[View], document: Mapping[str, Any]) -> View:
    """Return the view of a JSON object from ``as_json``. Extra keys are ignored.

    Raises:
        KeyError: a key is missing.
        ValueError: a value is not of the declared type.
    """
    make: Callable[..., View] = view
    known = (f for f in fields(view) if f.is_column or f.name in document)
    return make(**{f.name: _converted(f.from_json, document[f.name]) for f in known})


def as_json(view: tuple[Any, ...]) -> dict[str, Any]:
    """Return the view as a JSON object, with its keys in the order of its fields."""
    plan = _plan(type(view))
    document = dict(zip(plan.names, view, strict=True))
    for name, convert in plan.to_json:
        if document[name] is not None:
            document[name] = convert(document[name])
    for name, default in plan.defaults:
        if document[name] == default:
            del document[name]
    return document


def all_as_json(views: Iterable[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Return views as a JSON array."""
    return [as_json(view) for view in views]


def is_view(kind: object) -> bool:
    """Whether a type is a view: a NamedTuple."""
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")


def unwrapped(kind: Any) -> tuple[Any, Precision]:
    """Return a declared type without None and without its annotation, and the precision of its times."""
    precision = MILLISECONDS
    if get_origin(kind) in (Union, types.UnionType):
        (kind,) = (one for one in get_args(kind) if one is not type(None))
    if get_origin(kind) is Annotated:
        kind, *marks = get_args(kind)
        precision = next((mark for mark in marks if isinstance(mark, Precision)), precision)
        return unwrapped(kind)[0], precision
    return kind, precision


def _converted(convert: Convert | None, value: Any) -> Any:
    return value if convert is None or value is None else convert(value)


def _conversions(declared: Any) -> tuple[Convert | None, Convert | None, Convert | None]:
    """Return the conversions from a row, from JSON and to JSON."""
    kind, precision = unwrapped(declared)
    if get_origin(kind) in (list, dict):
        inner = get_args(kind)[0]
        if get_origin(kind) is list and is_view(inner):
            read_list = functools.partial(_read_list, inner)
            return None, read_list, all_as_json
        return _decoded, None, _read
    if is_view(kind):
        return None, functools.partial(from_json, kind), as_json
    if isinstance(kind, type) and issubclass(kind, datetime):
        return None, datetime.fromisoformat, functools.partial(_written, timespec=precision.timespec)
    if isinstance(kind, type) and issubclass(kind, date):
        return None, date.fromisoformat, date.isoformat
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind, kind, str
    return None, None, None


def _read_list(view: type[View], documents: Iterable[Mapping[str, Any]]) -> list[View]:
    return [from_json(view, one) for one in documents]


_ESCAPES = re.compile(
    r"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)
"""In JSON: an escaped backslash, a character as two escapes, and half of a character as one."""


LONGEST_NUMBER = 4000
"""Digits of a whole number at most; Python reads 4,300."""


def _whole(digits: str) -> int | str:
    return int(digits) if len(digits) <= LONGEST_NUMBER else digits


def _fraction(digits: str) -> float | str:
    value = float(digits)
    return value if math.isfinite(value) else digits


_decoder = json.JSONDecoder(strict=False, parse_int=_whole, parse_float=_fraction)


def read_json(text: str) -> Any:
    """Return the value of JSON that a column holds.

    A login may have stored what the database takes for JSON, and no answer and no other column could hold. An escape
    that is half of a character (a lone surrogate) becomes U+FFFD, a number of very many digits or beyond all floats a
    text.
    """
    if "\\u" in text:
        text = _ESCAPES.sub(lambda found: r"\ufffd" if len(found[0]) == 6 else found[0], text)
    return _decoder.decode(text)


class Unread(str):
    """JSON of a column that ``from_row`` leaves as it is, and ``as_json`` reads.

    The values of a long list can take twenty times the memory of their text. So they exist one after another.
    """

    __slots__ = ()


def _decoded(value: Any) -> Any:
    return read_json(value) if isinstance(value, str) and not isinstance(value, Unread) else value


def _read(value: Any) -> Any:
    return read_json(value) if isinstance(value, Unread) else value


def _written(moment: datetime, timespec: str) -> str:
    return moment.isoformat(timespec=timespec)
