"""The length of a value in bytes as a SQL expression. (LEN of SQL Server does not count trailing blanks.)"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction


class octets(GenericFunction[int]):  # noqa: N801 - reads like the SQL function it is
    """``octets(column)``: the length of a binary value in bytes."""

    type = sa.BigInteger()
    inherit_cache = True


@compiles(octets, "sqlite")
def _sqlite(element: octets, compiler: SQLCompiler, **kw: Any) -> str:
    return f"length{compiler.process(element.clause_expr, **kw)}"


@compiles(octets, "mssql")
def _mssql(element: octets, compiler: SQLCompiler, **kw: Any) -> str:
    return f"DATALENGTH{compiler.process(element.clause_expr, **kw)}"
