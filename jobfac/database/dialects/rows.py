"""Pass many rows to a statement as one parameter: JSON, which both engines read as a table.

Changing them row by row costs one round trip to SQL Server for each. It is also unsafe where a driver sends several
calls in one message: a deadlock victim loses its transaction in the middle, and the server would execute and commit
the remaining calls on their own.
"""

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
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
        columns = ", ".join(f"{name} {kind.compile(dialect)}" for name, kind in kinds.items())
        text = f"SELECT * FROM OPENJSON(:rows) WITH ({columns})"
    typed = sa.text(text).bindparams(sa.bindparam("rows", type_=sa.UnicodeText()))
    return typed.columns(**kinds).subquery("input_rows")


def by_primary_key(change: sa.Update, changed: sa.Table) -> sa.Update:
    """Add the hint to find each changed row by its primary key."""
    return change.with_hint(SEEK, changed, "mssql")


@functools.cache
def deletion(engine: str, table: sa.Table, *columns: sa.Column[Any]) -> sa.Delete:
    """Return the statement that deletes the rows whose keys are in the parameter ``rows``.

    ``columns``: columns with which an index begins; none: those of the primary key.
    """
    key = columns or tuple(table.primary_key.columns)
    given = rows_table(engine, **{column.name: column.type for column in key})
    if engine == "sqlite":  # it knows no joined DELETE
        return table.delete().where(sa.tuple_(*key).in_(sa.select(given)))
    return table.delete().where(*(column == given.c[column.name] for column in key)).with_hint(SEEK, table, "mssql")


def delete(conn: sa.Connection, table: sa.Table, keys: Sequence[Mapping[str, Any]] | Sequence[sa.RowMapping]) -> int:
    """Delete the rows of ``table`` with these primary keys. Returns the number of keys."""
    if keys:
        conn.execute(deletion(conn.dialect.name, table), rows_parameter(dict(key) for key in keys))
    return len(keys)


def rows_parameter(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The parameter for a statement that uses ``rows_table``. Values: text, integers, datetimes, None for NULL."""
    return {"rows": _encode([{name: value for name, value in row.items() if value is not None} for row in rows])}


def members(row: Mapping[str, Any]) -> str:
    """Values of a row as they stand in the parameter, for ``joined``. They can be computed before a transaction."""
    named = {name: value for name, value in row.items() if value is not None}
    return _encode(named)[1:-1]


def joined(rows: Iterable[str]) -> dict[str, str]:
    """The parameter, of rows whose values ``members`` has written; a row's parts are joined by commas."""
    return {"rows": f"[{', '.join(f'{{{row}}}' for row in rows)}]"}


def _written(moment: datetime) -> str:
    """Return a time in the format that SQLite stores and that SQL Server reads under any language setting."""
    whole = moment.astimezone(UTC)
    return f"{whole:%Y-%m-%d %H:%M:%S}.{whole.microsecond // 1000:03}000"


_encode = json.JSONEncoder(ensure_ascii=False, default=_written).encode
