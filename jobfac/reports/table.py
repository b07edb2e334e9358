"""Reports as CSV, in which no text is a formula of a spreadsheet program."""

import csv
import re
from collections.abc import Mapping, Sequence
from typing import IO, Any

_FORMULA = re.compile(r"[=+@\t\r]|-(?![\w.-]*$)")
"""The beginning of a text that spreadsheet programs may evaluate. The id of a job may begin with a minus, too."""


def write_csv(file: IO[str], columns: Sequence[str], rows: Sequence[Mapping[str, Any]], end: str) -> None:
    """Write a line with the names of the columns, and one for each row. Values of other columns are left out.
    ``end``: what ends each line.

    An apostrophe is put before a text that could be a formula: reasons and categories come from programs and people.
    """
    writer = csv.DictWriter(file, columns, lineterminator=end, extrasaction="ignore")
    writer.writeheader()
    writer.writerows({name: _plain(value) for name, value in row.items()} for row in rows)


def _plain(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value
