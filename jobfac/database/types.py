"""Column types, constraints and indexes for the definitions of tables, the same for both engines."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mssql


class Instant(sa.types.TypeDecorator[datetime]):
    """A moment in UTC with milliseconds: aware in Python, ``DATETIME2(3)`` on SQL Server, text on SQLite."""

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        return dialect.type_descriptor(mssql.DATETIME2(precision=3) if dialect.name == "mssql" else sa.DateTime())

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        whole = value.astimezone(UTC).replace(tzinfo=None)
        return whole.replace(microsecond=whole.microsecond // 1000 * 1000)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Blob = sa.LargeBinary().with_variant(mssql.VARBINARY("max"), "mssql")
Long = sa.Unicode()  # NVARCHAR(max)
Name = sa.Unicode(128)
Word = sa.String(16)  # a state or another fixed ASCII word


def sql_literals(words: Iterable[str]) -> str:
    """Return the words as SQL literals in a stable order, such as ``'a', 'b'``."""
    return ", ".join(f"'{word}'" for word in sorted(words))


def truncate_utf16(text: str, most: int) -> str:
    """Truncate the text to a column of ``most`` characters. SQL Server counts a character beyond U+FFFF as two."""
    return text.encode("utf-16-le", "surrogatepass")[: 2 * most].decode("utf-16-le", "ignore")


def one_of(column: str, words: Iterable[str], name: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(f"{column} IN ({sql_literals(words)})", name=name)


def flag(condition: sa.ColumnElement[bool]) -> sa.Case[int]:
    """A condition as a column: 1 or 0."""
    return sa.case((condition, sa.literal_column("1")), else_=sa.literal_column("0"))


def index(name: str, *columns: Any, where: str | None = None, unique: bool = False, include: Any = ()) -> sa.Index:
    condition = None if where is None else sa.text(where)
    return sa.Index(
        name, *columns, unique=unique, mssql_where=condition, sqlite_where=condition, mssql_include=list(include)
    )


def identity() -> sa.Column[int]:
    return sa.Column("id", BigId, sa.Identity(start=1), primary_key=True)
