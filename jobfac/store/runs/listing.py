"""Runs in lists. A list leaves large values out, so a page is cheap even if the values are large."""

from typing import Any

import sqlalchemy as sa

from jobfac.database.tables import run
from jobfac.views.runs import RunView
from jobfac.views.serialization import from_row

LIMIT = 4096
"""The maximum length of a value in a list, in characters."""

LARGE = ("arguments", "payload", "outputs", "parameters")
"""The columns of a run that may exceed ``LIMIT``."""


def listed(name: str) -> sa.ColumnElement[Any]:
    """Return a column of a run for a list. For a large value the database returns only the beginning."""
    column = run.c[name]
    if name not in LARGE:
        return column
    place: sa.ColumnElement[Any] = sa.literal_column(f"1, {LIMIT + 1}")
    return sa.func.substring(column, place, type_=sa.Text()).label(name)


def without_large(row: sa.RowMapping) -> RunView:
    """Return the view of a run, with None in place of each large value. ``truncated`` names these columns."""
    truncated = [name for name in LARGE if row[name] is not None and len(row[name]) > LIMIT]
    return from_row(RunView, {**row, **dict.fromkeys(truncated)})._replace(truncated=truncated)
