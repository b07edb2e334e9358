"""Translate statements that read or change data to PostgreSQL.

Hints become row locks. OUTPUT becomes RETURNING. A write to a common table expression becomes a write to its table by
row
address. Parameters become numbered parameters with their declared types.
"""

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import sqlglot
from sqlglot import exp
from sqlglot.dialects.tsql import TSQL
from sqlglot.errors import ErrorLevel, ParseError, SqlglotError, TokenError
from sqlglot.parsers.tsql import TSQLParser

from tests.tds_server.errors import SqlError
from tests.tds_server.language.remembered import remembered
from tests.tds_server.language.sqltypes import SqlType
from tests.tds_server.translation import functions
from tests.tds_server.translation.functions import SESSION
from tests.tds_server.translation.rewrite import rewrite

TARGET, KEY = "target_", "key_"
"""Aliases of the written table, and of the address of a row that a common table expression selects."""

LOCKING = frozenset({"UPDLOCK", "XLOCK"})
SERIAL = frozenset({"HOLDLOCK", "SERIALIZABLE", "TABLOCKX"})


def _but_kept(parsers: dict[str, Any]) -> dict[str, Any]:
    return {name: parser for name, parser in parsers.items() if name not in functions.KEPT}


class Dialect(TSQL):
    """T-SQL whose functions stay unchanged. ``functions`` and the catalog translate them."""

    class Parser(TSQLParser):
        FUNCTIONS: ClassVar = _but_kept(TSQLParser.FUNCTIONS)
        FUNCTION_PARSERS: ClassVar = _but_kept(TSQLParser.FUNCTION_PARSERS)


class Translated(NamedTuple):
    """A translated statement.

    Attributes:
        parameters: the variables in the order of ``$1``, ``$2``, ...
        names: the names of the columns as they were written; None: the database's.
        assigned: the variables to which the row's values are assigned.
        serial: the tables under HOLDLOCK.
        writes: the statement has a number of affected rows.
    """

    sql: str
    parameters: tuple[str, ...]
    names: tuple[str, ...] | None
    assigned: tuple[str, ...]
    serial: tuple[str, ...]
    writes: bool


@remembered
def translate(text: str, types: tuple[tuple[str, SqlType], ...], most: int = 0) -> Translated:
    """Translate one statement. ``types``: the types of its variables. ``most``: SET ROWCOUNT; 0: without a limit.

    Raises:
        SqlError: 102 for a syntax error, 137 for an undeclared variable.
    """
    try:
        tree = sqlglot.parse_one(rewrite(text), read=Dialect)
    except ParseError as error:
        first = error.errors[0]
        raise SqlError(102, f"Incorrect syntax near '{first['highlight']}': {first['description']}", 15) from None
    except TokenError as error:
        raise SqlError(105, f"Unclosed quotation mark: {error}", 15) from None
    tree = functions.apply(tree)
    if most:
        _stop_after(tree, most)
    names = _names(tree)
    assigned = _assignments(tree)
    serial = tuple(_lock_rows(tree))
    tree = _write_through(tree)
    for identifier in tree.find_all(exp.Identifier):
        identifier.set("this", identifier.name.lower())
        identifier.set("quoted", identifier.name not in ("new", "old", "ctid"))
    parameters = _number_parameters(tree, dict(types))
    writes = isinstance(tree, exp.Insert | exp.Update | exp.Delete | exp.Merge)
    try:
        sql = _with_output_into(tree)
    except SqlglotError as error:
        raise SqlError(102, f"There is no translation: {error} in: {text[:500]}", 15) from None
    return Translated(sql, parameters, names, assigned, serial, writes)


def _stop_after(tree: exp.Expr, most: int) -> None:
    """SET ROWCOUNT: a query without a smaller TOP stops after so many rows, and so does a write without TOP."""
    query = tree.expression if isinstance(tree, exp.Insert) else tree
    if isinstance(query, exp.Query):
        limit = query.args.get("limit")
        if limit is None or (query is tree and _is_more(limit, most)):
            query.set("limit", exp.Limit(expression=exp.Literal.number(most)))
    elif isinstance(tree, exp.Update | exp.Delete) and isinstance(tree.this, exp.Table) and not _has_sources(tree):
        table = tree.this.copy()
        table.set("hints", None)
        rows = exp.select("ctid").from_(table).limit(most)
        if where := tree.args.get("where"):
            rows.set("where", where.copy())
        tree.set("where", exp.Where(this=exp.In(this=exp.column("ctid"), query=rows.subquery())))


def _is_more(limit: exp.Expr, most: int) -> bool:
    number = limit.args.get("expression")
    return isinstance(number, exp.Literal) and int(number.this) > most


def _has_sources(tree: exp.Expr) -> bool:
    return any(tree.args.get(part) for part in ("from_", "with_", "using", "limit"))


def _generate(tree: exp.Expr) -> str:
    return tree.sql("postgres", unsupported_level=ErrorLevel.RAISE)


# Results


def _names(tree: exp.Expr) -> tuple[str, ...] | None:
    output = tree if isinstance(tree, exp.Query) else tree.args.get("returning")
    if output is None:
        return None
    selected = output.selects if isinstance(output, exp.Query) else output.expressions
    if any(item.is_star for item in selected):
        return None
    return tuple("" if isinstance(item, exp.Func) else item.alias_or_name for item in selected)


def _assignments(tree: exp.Expr) -> tuple[str, ...]:
    """Translate SELECT @a = x, @b = y to SELECT x, y; returns the variables."""
    if not isinstance(tree, exp.Select):
        return ()
    assigned = []
    for item in list(tree.expressions):
        if isinstance(item, exp.EQ) and isinstance(item.this, exp.Parameter):
            assigned.append(f"@{item.this.name.lower()}")
            item.replace(item.expression)
    return tuple(assigned)


def _with_output_into(tree: exp.Expr) -> str:
    """Translate OUTPUT ... INTO: insert the written rows into another table."""
    returning = tree.args.get("returning")
    if returning is None or not returning.args.get("into"):
        return _generate(tree)
    into = returning.args["into"]
    returning.set("into", None)
    return f"WITH written AS ({_generate(tree)}) INSERT INTO {_generate(into)} SELECT * FROM written"


# Locks


def _hints(table: exp.Table) -> set[str]:
    hints = {word.name.upper() for hint in table.args.get("hints") or () for word in hint.expressions}
    table.set("hints", None)
    return hints


def _lock_rows(tree: exp.Expr) -> Iterator[str]:
    """Translate hints to row locks; yields the tables whose ranges only one statement at a time may read."""
    for table in list(tree.find_all(exp.Table)):
        hints = _hints(table)
        if hints & SERIAL:
            yield table.sql("postgres").lower()
        select = table.find_ancestor(exp.Select)
        if hints & LOCKING and select is not None:
            wait = False if "READPAST" in hints else True if "NOWAIT" in hints else None
            _add_lock(_lockable(select, table), table, wait)


def _add_lock(select: exp.Select, table: exp.Table, wait: bool | None) -> None:
    """Lock rows. ``wait``: False skips locked rows, True fails at once, None waits."""
    lock = exp.Lock(update=True, expressions=[exp.to_identifier(table.alias_or_name)], wait=wait)
    select.set("locks", [lock])


def _lockable(select: exp.Select, table: exp.Table) -> exp.Select:
    """Move the rows into a subquery if the query aggregates them, because aggregated rows cannot be locked."""
    summed = (
        select.args.get("group")
        or select.args.get("distinct")
        or any(select.find_all(exp.AggFunc, exp.Window, bfs=True))
    )
    if not summed:
        return select
    inner = exp.select("*").from_(table.copy())
    if (where := select.args.get("where")) and not select.args.get("joins"):
        inner.set("where", where.pop())
    table.replace(inner.subquery(table.alias_or_name))
    return inner


# Writes


def _write_through(tree: exp.Expr) -> exp.Expr:
    if isinstance(tree, exp.Update | exp.Delete):
        target = _chosen_by(tree)
        if target is None and isinstance(tree, exp.Update):
            _update_joined(tree)
        for item in tree.expressions:
            if isinstance(item, exp.EQ) and isinstance(item.this, exp.Column):
                item.this.set("table", None)
                item.this.set("db", None)
        if isinstance(tree, exp.Delete) and target is None and not tree.this:
            tree.set("this", tree.args["tables"].pop())
    returning = tree.args.get("returning")
    for column in returning.find_all(exp.Column) if returning else ():
        if column.table.lower() in ("inserted", "deleted"):
            column.set("table", exp.to_identifier("new" if column.table.lower() == "inserted" else "old"))
    return tree


def _chosen_by(tree: exp.Update | exp.Delete) -> exp.CTE | None:
    """Translate a write to a common table expression: select and lock its rows, then write them by their address."""
    tables = tree.args.get("tables")
    written = tree.this or (tables[0] if tables else None)
    common = tree.args.get("with_")
    ctes = common.expressions if common else ()
    cte: exp.CTE | None = next((cte for cte in ctes if written and cte.alias.lower() == written.name.lower()), None)
    if cte is None:
        return None
    select = cte.this
    star = next((item.table for item in select.expressions if isinstance(item, exp.Column) and item.is_star), "")
    sources = [select.args["from_"].this, *(join.this for join in select.args.get("joins") or ())]
    base = next(source for source in sources if not star or source.alias_or_name.lower() == star.lower())
    computed = [item for item in select.expressions if isinstance(item, exp.Alias) and not item.this.name]
    computed_names = {item.alias.lower() for item in computed}
    key = exp.alias_(exp.column("ctid", table=base.alias_or_name), KEY)
    select.set("expressions", [*computed, key])
    if not select.args.get("locks") and not computed:
        _add_lock(select, base, None)
    for column in list(tree.find_all(exp.Column)):
        outside = column.find_ancestor(exp.CTE) is None
        if outside and column.table.lower() == cte.alias.lower() and column.name.lower() not in computed_names:
            column.set("table", exp.to_identifier(TARGET))
    target = exp.alias_(exp.table_(base.name, db=base.db or None), TARGET, table=True)
    tree.set("this", target)
    tree.set("tables", None)
    chosen = exp.to_table(cte.alias)
    if isinstance(tree, exp.Update):
        tree.set("from_", exp.From(this=chosen))
    else:
        tree.set("using", [chosen])
    same_row = exp.EQ(this=exp.column("ctid", table=TARGET), expression=exp.column(KEY, table=cte.alias))
    where = tree.args.get("where")
    tree.set("where", exp.Where(this=exp.and_(where.this, same_row) if where else same_row))
    return cte


def _update_joined(tree: exp.Update) -> None:
    """Translate UPDATE r ... FROM t AS r JOIN ...: PostgreSQL does not repeat the target among the sources."""
    source = tree.args.get("from_")
    if source is None:
        return
    first = source.this
    joins = first.args.get("joins") or source.args.get("joins") or []
    sources = [first, *(join.this for join in joins)]
    named = next((one for one in sources if isinstance(one, exp.Table) and _is_same(tree.this, one)), None)
    if named is None:
        return
    conditions = [join.args["on"] for join in joins if join.args.get("on")]
    if any(join.side or not isinstance(join.this, exp.Table) for join in joins):
        target = exp.alias_(exp.table_(named.name, db=named.db or None), TARGET, table=True)
        tree.set("this", target)
        address = exp.column("ctid", table=named.alias_or_name)
        conditions = [exp.EQ(this=exp.column("ctid", table=TARGET), expression=address)]
    else:
        first.set("joins", None)
        tree.set("this", named.copy())
        others = [one.copy() for one in sources if one is not named]
        if others:
            others[0].set("joins", [exp.Join(this=other) for other in others[1:]])
        tree.set("from_", exp.From(this=others[0]) if others else None)
    where = tree.args.get("where")
    condition = exp.and_(*conditions, *([where.this] if where else []))
    tree.set("where", exp.Where(this=condition) if conditions or where else None)


def _is_same(target: exp.Table, source: exp.Table) -> bool:
    name = target.name.lower()
    if source.alias:
        return not target.db and source.alias.lower() == name
    return source.name.lower() == name and (not target.db or source.db.lower() == target.db.lower())


# Parameters


def _number_parameters(tree: exp.Expr, types: dict[str, SqlType]) -> tuple[str, ...]:
    numbered: dict[str, int] = {}
    for parameter in list(tree.find_all(exp.Parameter)):
        name = f"@{parameter.name.lower()}"
        if isinstance(parameter.parent, exp.Table | exp.Returning):  # a table variable
            parameter.replace(exp.to_identifier(name, quoted=True))
            continue
        kind = types.get(name) or SESSION.get(name)
        if kind is None:
            raise SqlError(137, f'Must declare the scalar variable "{name}".', 15)
        number = numbered.setdefault(name, len(numbered) + 1)
        placeholder = exp.Parameter(this=exp.Literal.number(number))
        bare = kind.parameter == "text" and _meets_column(parameter)
        parameter.replace(placeholder if bare else exp.cast(placeholder, kind.parameter, dialect="postgres"))
    return tuple(numbered)


def _meets_column(parameter: exp.Parameter) -> bool:
    """Whether the parameter is compared with a column. A text then takes the column's type."""
    parent = parameter.parent
    if isinstance(parent, exp.In):
        return isinstance(parent.this, exp.Column)
    return isinstance(parent, exp.Predicate) and any(
        isinstance(side, exp.Column) for side in (parent.args.get("this"), parent.args.get("expression"))
    )
