"""Writes result sets: as aligned text, or as a line of JSON for each row."""

import json
import unicodedata
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

CELL = 1000
"""The maximum number of characters of a cell in aligned text. A longer cell is cut and shows its length."""

OUTPUT = 4000
"""The maximum number of characters of a value that becomes an output of the run."""

OUTPUTS = 250_000
"""The maximum number of bytes of all outputs together as JSON. The worker takes a little more (``LONGEST_OUTPUTS``)."""


def column_names(names: Sequence[str | None]) -> list[str]:
    """Return the names of a result set's columns. Unnamed ones are named by position, repeated names are numbered."""
    found: list[str] = []
    for position, name in enumerate(names, start=1):
        plain = unique = name or f"column{position}"
        number = 1
        while unique in found:
            number += 1
            unique = f"{plain}_{number}"
        found.append(unique)
    return found


def json_value(value: Any) -> Any:
    """Return a database value as a JSON value. Decimals are text, so no digit is lost; bytes are 0x and hex digits."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if value - value == 0 else str(value)  # NaN and infinity are no JSON
        case datetime() | date() | time():
            return value.isoformat()
        case Decimal() | UUID() | timedelta():
            return str(value)
        case bytes() | bytearray() | memoryview():
            return "0x" + bytes(value).hex()
        case list() | tuple():
            return [json_value(one) for one in value]
        case dict():
            return {str(name): json_value(one) for name, one in value.items()}
        case _:
            return str(value)


def json_line(names: Sequence[str], row: Sequence[Any]) -> str:
    return json.dumps(dict(zip(names, map(json_value, row), strict=True)), ensure_ascii=False) + "\n"


class Table:
    """A result set as aligned text. The first rows determine the widths. A longer cell shifts the rest of its line."""

    def __init__(self, names: Sequence[str], first: Sequence[Sequence[Any]]) -> None:
        self._cells = [[cell(value) for value in row] for row in first]
        self._numbers = [
            all(isinstance(row[at], int | float | Decimal) or row[at] is None for row in first) and bool(first)
            for at in range(len(names))
        ]
        self._widths = [max([width(name), *(width(row[at]) for row in self._cells)]) for at, name in enumerate(names)]
        self._names = list(names)

    def head(self) -> str:
        """Return the header, a line, and the first rows."""
        line = "  ".join("-" * length for length in self._widths)
        rows = "".join(map(self._line, self._cells))
        return f"{self._line(self._names)}{line}\n{rows}"

    def rows(self, rows: Sequence[Sequence[Any]]) -> str:
        """Return the lines of further rows."""
        return "".join(self._line([cell(value) for value in row]) for row in rows)

    def _line(self, cells: Sequence[str]) -> str:
        parts = []
        for text, length, number in zip(cells, self._widths, self._numbers, strict=True):
            space = " " * (length - width(text))
            parts.append(space + text if number else text + space)
        return "  ".join(parts).rstrip() + "\n"


def cell(value: Any) -> str:
    """Return a value on one line. Very long values are cut."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes | bytearray | memoryview):
        size = len(value)
        shown = "0x" + bytes(value[: CELL // 2]).hex()
        return shown if size <= CELL // 2 else f"{shown}... ({size:,} bytes)"
    text = value if isinstance(value, str) else str(json_value(value))
    if len(text) > CELL:
        text = f"{text[:CELL]}... ({len(text):,} characters)"
    return text if text.isprintable() else "".join(map(_visible, text))


def width(text: str) -> int:
    """Return how many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(one) else 1 + (unicodedata.east_asian_width(one) in "WF") for one in text)


def outputs(names: Sequence[str], row: Sequence[Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the row as outputs of the run, and a sentence for each value that is too long."""
    found, left_out = {}, []
    total = 0
    for name, value in zip(names, map(json_value, row), strict=True):
        length = len(value) if isinstance(value, str) else len(json.dumps(value)) if value is not None else 0
        size = len(json.dumps({name: value}, ensure_ascii=False).encode(errors="backslashreplace"))
        if length > OUTPUT:
            left_out.append(f"the output '{name}' was left out: it has {length:,} characters, more than {OUTPUT:,}")
        elif total + size > OUTPUTS:
            left_out.append(f"the output '{name}' was left out: all outputs together may have {OUTPUTS:,} bytes")
        else:
            found[name] = value
            total += size
    return found, left_out


def _visible(letter: str) -> str:
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode()


def size_of(rows: Any) -> int:
    """Return the approximate size of the rows in memory, in bytes."""
    return sum(len(value) if isinstance(value, str | bytes | bytearray) else 8 for row in rows for value in row)
