"""Column types, constraints and indexes for the definitions of tables, the same for both engines."""

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mssql

from jobfac.errors import Invalid


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

    def result_processor(self, dialect: sa.Dialect, coltype: Any) -> Callable[[Any], datetime | None] | None:
        """Return what reads a value. Of SQLite's text in one step, because pages and claims read thousands of times."""
        if dialect.name != "sqlite":
            return super().result_processor(dialect, coltype)
        read = datetime.fromisoformat
        return lambda text: None if text is None else read(text + "+00:00")


BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Blob = sa.LargeBinary().with_variant(mssql.VARBINARY("max"), "mssql")
Long = sa.Unicode()  # NVARCHAR(max)
NAME_LENGTH = 128
Name = sa.Unicode(NAME_LENGTH)
Word = sa.String(16)  # a state or another fixed ASCII word


LONGEST_SOUGHT = 1000
"""Characters of a text that is looked for. SQL Server's patterns have 4,000 at most, SQLite's 50,000."""


def contains(engine: str, column: sa.ColumnElement[Any], text: str) -> sa.ColumnElement[bool]:
    """The column contains the text, in any case. On SQLite ``LIKE`` ignores the case of ASCII letters, as ``lower``.

    Raises:
        Invalid: the text is longer than ``LONGEST_SOUGHT``.
    """
    if len(text) > LONGEST_SOUGHT:
        raise Invalid(f"A text to look for may have {LONGEST_SOUGHT:,} characters, not {len(text):,}.")
    if engine == "sqlite":
        literal = re.sub("[%_/]", r"/\g<0>", text)
        return column.like(f"%{literal}%", escape="/")
    return column.icontains(text, autoescape=True)


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
