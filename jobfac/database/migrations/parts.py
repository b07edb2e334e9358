"""What the migrations share. Do not change it: databases were made with it."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mssql

INSTANT = sa.DateTime().with_variant(mssql.DATETIME2(precision=3), "mssql")
BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def schema_name() -> str | None:
    """Return the schema of the tables; None: the engine has no schemas."""
    return "jobfac" if op.get_context().dialect.name == "mssql" else None


def create_index(
    name: str,
    table: str,
    columns: list[Any],
    where: str | None = None,
    unique: bool = False,
    include: tuple[str, ...] = (),
) -> None:
    """Create an index; ``include``: the columns that SQL Server keeps beside its key."""
    condition = None if where is None else sa.text(where)
    op.create_index(
        name, table, columns, unique=unique, schema=schema_name(), mssql_where=condition, sqlite_where=condition,
        mssql_include=list(include),
    )  # fmt: skip
