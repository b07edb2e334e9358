"""The database's clock as a SQL expression. All stored times come from this clock."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import ColumnElement

from jobfac.database.types import Instant

SQLITE_NOW = "strftime('%Y-%m-%d %H:%M:%f000', 'now')"
"""The current time as SQLite's tables store it: text with six digits after the second, the last three of them 0."""


class utcnow(ColumnElement[Any]):  # noqa: N801 - reads like the SQL function it is
    """The current time in UTC with milliseconds, plus ``milliseconds`` (a number, a bound parameter or a column)."""

    type = Instant()
    inherit_cache = True
    _traverse_internals = [  # noqa: RUF012 - SQLAlchemy's own convention
        ("milliseconds", sa.sql.visitors.InternalTraversal.dp_clauseelement),
        ("moved", sa.sql.visitors.InternalTraversal.dp_boolean),
    ]

    def __init__(self, milliseconds: Any = None) -> None:
        self.milliseconds = (
            sa.literal(0, sa.BigInteger)
            if milliseconds is None
            else milliseconds
            if isinstance(milliseconds, sa.ClauseElement)
            else sa.literal(int(milliseconds), sa.BigInteger)
        )
        self.moved = milliseconds is not None


@compiles(utcnow, "sqlite")
def _sqlite(element: utcnow, compiler: SQLCompiler, **kw: Any) -> str:
    if not element.moved:
        return SQLITE_NOW
    moved = compiler.process(element.milliseconds, **kw)
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', ({moved} / 1000.0) || ' seconds')"


@compiles(utcnow, "mssql")
def _mssql(element: utcnow, compiler: SQLCompiler, **kw: Any) -> str:
    if not element.moved:
        return "SYSUTCDATETIME()"
    # The number in DATEADD is an INT: milliseconds alone would overflow after 24 days.
    moved = compiler.process(element.milliseconds, **kw)
    minutes = f"DATEADD(MINUTE, CAST({moved} / 60000 AS INT), SYSUTCDATETIME())"
    return f"DATEADD(MILLISECOND, CAST({moved} % 60000 AS INT), {minutes})"


def current_time(conn: sa.Connection) -> datetime:
    """Return the database's current time."""
    found: datetime = conn.execute(sa.select(utcnow())).scalar_one()
    return found
