"""Pass many rows to a statement as one parameter: JSON, which both engines read as a table.

Changing them row by row costs one round trip to SQL Server for each. It is also unsafe where a driver sends several
calls in one message: a deadlock victim loses its transaction in the middle, and the server would execute and commit
the remaining calls on their own.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mssql

SEEK = "WITH (ROWLOCK, FORCESEEK)"
"""Hint for the table that a statement changes (SQL Server): find each row by its key, even in a small table.

A scan would wait for the locks of other transactions."""


def rows_table(engine: str, **kinds: sa.types.TypeEngine[Any]) -> sa.Subquery:
    """Return the statement's parameter ``rows``, made by ``rows_parameter``, as a table with these columns."""
    if engine == "sqlite":
        columns = ", ".join(f"json_extract(value, '$.{name}') AS {name}" for name in kinds)
        text = f"SELECT {columns} FROM json_each(:rows)"
    else:
        dialect = mssql.dialect()
        columns = ", ".join(f"{name} {kind.dialect_impl(dialect).compile(dialect)}" for name, kind in kinds.items())
        text = f"SELECT * FROM OPENJSON(:rows) WITH ({columns})"
    typed = sa.text(text).bindparams(sa.bindparam("rows", type_=sa.UnicodeText()))
    return typed.columns(**kinds).subquery("input_rows")


def by_primary_key(change: sa.Update, changed: sa.Table) -> sa.Update:
    """Add the hint to find each changed row by its primary key."""
    return change.with_hint(SEEK, changed, "mssql")


def rows_parameter(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the parameter for a statement with ``rows_table``. Values: text, integers, datetimes, None for NULL."""
    named = [{name: value for name, value in row.items() if value is not None} for row in rows]
    return {"rows": json.dumps(named, ensure_ascii=False, default=_written)}


def _written(moment: datetime) -> str:
    """Return a time in the format that SQLite stores and that SQL Server reads under any language setting."""
    whole = moment.astimezone(UTC)
    return f"{whole:%Y-%m-%d %H:%M:%S}.{whole.microsecond // 1000:03}000"
