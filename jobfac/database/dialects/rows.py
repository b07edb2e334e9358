"""Many rows as one parameter of one statement: JSON, which both engines read as a table.

Changing them row by row is as many round trips to SQL Server, and one thing more: where a driver sends these as several
calls in one message, a deadlock's victim has lost its transaction in the middle, and the calls behind that would be
carried out, and committed, for themselves.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mssql

SEEK = "WITH (ROWLOCK, FORCESEEK)"
"""Hint for the table whose rows are changed by given ones (SQL Server): find each by its key, however small the table,
since a scan would wait for the locks of others."""


def rows_table(engine: str, **kinds: sa.types.TypeEngine[Any]) -> sa.Subquery:
    """The rows that ``handed`` has made of the statement's parameter ``rows``, as a table with these columns."""
    if engine == "sqlite":
        columns = ", ".join(f"json_extract(value, '$.{name}') AS {name}" for name in kinds)
        text = f"SELECT {columns} FROM json_each(:rows)"
    else:
        spoken = mssql.dialect()
        columns = ", ".join(f"{name} {kind.dialect_impl(spoken).compile(spoken)}" for name, kind in kinds.items())
        text = f"SELECT * FROM OPENJSON(:rows) WITH ({columns})"
    typed = sa.text(text).bindparams(sa.bindparam("rows", type_=sa.UnicodeText()))
    return typed.columns(**kinds).subquery("given")


def by_primary_key(change: sa.Update, changed: sa.Table) -> sa.Update:
    """The change of a table's rows by given ones, each found by its key."""
    return change.with_hint(SEEK, changed, "mssql")


def rows_parameter(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The parameter of a statement that reads these rows by ``given``: texts, whole numbers, moments, None for NULL."""
    named = [{name: value for name, value in row.items() if value is not None} for row in rows]
    return {"rows": json.dumps(named, ensure_ascii=False, default=_written)}


def _written(moment: datetime) -> str:
    """As SQLite keeps it, and in a form that SQL Server reads in any language."""
    whole = moment.astimezone(UTC)
    return f"{whole:%Y-%m-%d %H:%M:%S}.{whole.microsecond // 1000:03}000"
