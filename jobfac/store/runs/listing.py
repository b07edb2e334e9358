"""What a list shows of a run: large values are left out, so that a page costs little, however large they are."""

from typing import Any

import sqlalchemy as sa

from jobfac.database.tables import run
from jobfac.views.runs import RunView
from jobfac.views.serialization import from_row

LIMIT = 4096
"""Characters of a value in a list at most."""

LARGE = ("arguments", "payload", "outputs")
"""The columns of a run that may be larger."""


def listed(name: str) -> sa.ColumnElement[Any]:
    """A column of a run as a list reads it: of a large value only the beginning leaves the database."""
    column = run.c[name]
    if name not in LARGE:
        return column
    place: sa.ColumnElement[Any] = sa.literal_column(f"1, {LIMIT + 1}")
    return sa.func.substring(column, place, type_=sa.Text()).label(name)


def without_large(row: sa.RowMapping) -> RunView:
    """The run of a row, with None in place of each large value; ``truncated`` names them."""
    truncated = [name for name in LARGE if row[name] is not None and len(row[name]) > LIMIT]
    return from_row(RunView, {**row, **dict.fromkeys(truncated)})._replace(truncated=truncated)
