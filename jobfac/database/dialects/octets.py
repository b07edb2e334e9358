"""The length of a value in bytes or characters, and a text unless it is too long, as SQL expressions.

(LEN of SQL Server does not count trailing blanks.)
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction


class octets(GenericFunction[int]):  # noqa: N801 - reads like the SQL function it is
    """``octets(column)``: the length of a binary value in bytes."""

    type = sa.BigInteger()
    inherit_cache = True


@compiles(octets, "mssql")
def _mssql(element: octets, compiler: SQLCompiler, **kw: Any) -> str:
    return f"DATALENGTH{compiler.process(element.clause_expr, **kw)}"


class characters(GenericFunction[int]):  # noqa: N801 - reads like the SQL function it is
    """``characters(column)``: the length of a text. SQL Server counts a character beyond U+FFFF as two."""

    type = sa.BigInteger()
    inherit_cache = True


@compiles(octets, "sqlite")
@compiles(characters, "sqlite")
def _sqlite(element: octets | characters, compiler: SQLCompiler, **kw: Any) -> str:
    return f"length{compiler.process(element.clause_expr, **kw)}"


@compiles(characters, "mssql")
def _characters_mssql(element: characters, compiler: SQLCompiler, **kw: Any) -> str:
    return f"DATALENGTH{compiler.process(element.clause_expr, **kw)} / 2"


class unless_longer(GenericFunction[str]):  # noqa: N801 - reads like the SQL function it is
    """``unless_longer(column, limit)``: the text, or some text of ``limit + 1`` characters if it is longer.

    Not its beginning: SQL Server would cut a character beyond U+FFFF in its middle, which the drivers cannot read.
    """

    type = sa.Text()
    inherit_cache = True


@compiles(unless_longer, "sqlite")
def _unless_longer_sqlite(element: unless_longer, compiler: SQLCompiler, **kw: Any) -> str:
    column, limit = element.clauses
    return f"substr({compiler.process(column, **kw)}, 1, {compiler.process(limit, **kw)} + 1)"


@compiles(unless_longer, "mssql")
def _unless_longer_mssql(element: unless_longer, compiler: SQLCompiler, **kw: Any) -> str:
    column, limit = (compiler.process(one, **kw) for one in element.clauses)
    return f"CASE WHEN DATALENGTH({column}) > 2 * {limit} THEN REPLICATE(N'.', {limit} + 1) ELSE {column} END"
