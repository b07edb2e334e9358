"""Pass a list of ids or names to a statement as one parameter: a JSON array, which both engines read as a table.

The statement's text, and so SQL Server's plan for it, is the same for every length of the list. ``rows`` does the same
for rows of several columns.
"""

import json
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from jobfac.database.tables import job
from jobfac.database.types import BigId

NAMES = 400
"""The maximum length of a name in a list, in characters: no column with which names are compared is longer."""


class _Ids(FunctionElement[Any]):
    inherit_cache = True


class _Names(FunctionElement[Any]):
    inherit_cache = True


@compiles(_Ids, "sqlite")
@compiles(_Names, "sqlite")
def _sqlite(element: _Ids | _Names, compiler: SQLCompiler, **kw: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **kw)})"


@compiles(_Ids, "mssql")
def _mssql_ids(element: _Ids, compiler: SQLCompiler, **kw: Any) -> str:
    return f"OPENJSON({compiler.process(element.clauses, **kw)}) WITH (value BIGINT '$')"


@compiles(_Names, "mssql")
def _mssql_names(element: _Names, compiler: SQLCompiler, **kw: Any) -> str:
    return f"OPENJSON({compiler.process(element.clauses, **kw)}) WITH (value NVARCHAR({NAMES}) '$')"


def ids(parameter: str = "ids") -> sa.TableValuedAlias:
    """Return the statement's parameter, made by ``as_list`` of ids, as a table with the column ``value``."""
    return _Ids(_bind(parameter)).table_valued(sa.column("value", BigId), name=f"given_{parameter}")


def names(parameter: str = "names") -> sa.TableValuedAlias:
    """Return the statement's parameter, made by ``as_list`` of names, as a table with the column ``value``."""
    return _Names(_bind(parameter)).table_valued(sa.column("value", sa.Unicode(NAMES)), name=f"given_{parameter}")


def _bind(parameter: str) -> sa.BindParameter[str]:
    return sa.bindparam(parameter, type_=sa.UnicodeText())


def as_list(values: Iterable[int] | Iterable[str]) -> str:
    """Return the parameter for ``ids`` or ``names``: the distinct values in order, so rows are locked in this order."""
    return json.dumps(sorted(set(values)), ensure_ascii=False)


def by_id(column: sa.ColumnElement[int], values: Iterable[int]) -> sa.ColumnElement[bool]:
    """Condition: the column has one of these ids. It joins the list, so the statement can seek a row for each id.

    A statement may have one such condition for each column name.
    """
    given = _Ids(sa.bindparam(f"{column.key}_list", as_list(values), type_=sa.UnicodeText()))
    return column == given.table_valued(sa.column("value", BigId), name=f"given_{column.key}").c.value


def among_ids(column: sa.ColumnElement[int], name: str, values: Iterable[int]) -> sa.ColumnElement[bool]:
    """Condition: the column has one of these ids. It is no join, so it may be part of another condition.

    ``name``: that of the list, once in a statement.
    """
    given = _Ids(sa.bindparam(f"{name}_list", as_list(values), type_=sa.UnicodeText()))
    return column.in_(sa.select(given.table_valued(sa.column("value", BigId), name=f"given_{name}").c.value))


def among(column: sa.ColumnElement[Any], values: Iterable[str]) -> sa.ColumnElement[bool]:
    """Condition: the column has one of these names.

    A statement may have one such condition for each column name. It is not a join, because two names that differ in
    case may be equal for the database.
    """
    given = _Names(sa.bindparam(f"{column.key}_list", as_list(values), type_=sa.UnicodeText()))
    table = given.table_valued(sa.column("value", sa.Unicode(NAMES)), name=f"given_{column.key}")
    return column.in_(sa.select(table.c.value))


def of_categories(jobs: sa.ColumnElement[Any], categories: Iterable[str] | None) -> list[sa.ColumnElement[bool]]:
    """Conditions on a column of job ids: the jobs have one of these categories; None: there are no conditions."""
    return [] if categories is None else [jobs.in_(sa.select(job.c.id).where(among(job.c.category, categories)))]
