"""Translate functions, literals and types of T-SQL to PostgreSQL. All other functions are in catalog.sql."""

import sqlglot
from sqlglot import exp

from tests.tds_server.errors import SqlError
from tests.tds_server.language.sqltypes import SqlType, parse_type

KEPT = frozenset({
    "DATEADD", "DATEDIFF", "DATEDIFF_BIG", "DATEPART", "DATENAME", "LEN", "DATALENGTH", "JSON_VALUE", "JSON_QUERY",
    "ISJSON", "CHARINDEX", "SYSDATETIME", "SYSDATETIMEOFFSET", "GETDATE", "NEWID", "COUNT_BIG", "EOMONTH",
    "REPLICATE", "PARSENAME", "FORMAT",
})  # fmt: skip
"""Functions that keep their names, because catalog.sql defines them."""

UNITS = {
    "yy": "year",
    "yyyy": "year",
    "qq": "quarter",
    "mm": "month",
    "m": "month",
    "wk": "week",
    "dd": "day",
    "d": "day",
    "hh": "hour",
    "mi": "minute",
    "n": "minute",
    "ss": "second",
    "s": "second",
    "ms": "millisecond",
    "mcs": "microsecond",
}
DATE_STYLES = {
    "23": "YYYY-MM-DD",
    "108": "HH24:MI:SS",
    "112": "YYYYMMDD",
    "120": "YYYY-MM-DD HH24:MI:SS",
    "121": "YYYY-MM-DD HH24:MI:SS.MS",
    "126": 'YYYY-MM-DD"T"HH24:MI:SS.MS',
    "127": 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"',
}
WITH_UNIT = frozenset({"DATEADD", "DATEDIFF", "DATEDIFF_BIG", "DATEPART", "DATENAME"})

_INT, _TEXT = parse_type("int"), parse_type("nvarchar(max)")
SESSION: dict[str, SqlType] = {
    "@__rowcount": _INT,
    "@__trancount": _INT,
    "@__error": _INT,
    "@__spid": _INT,
    "@__lock_timeout": _INT,
    "@__isolation": _INT,
    "@__version": _TEXT,
    "@__servername": _TEXT,
    "@__xact_state": _INT,
    "@__error_number": _INT,
    "@__error_message": _TEXT,
    "@__error_severity": _INT,
    "@__error_state": _INT,
    "@__error_line": _INT,
    "@__error_procedure": _TEXT,
}
"""Variables with the session's state."""


def apply(tree: exp.Expr) -> exp.Expr:
    """Return the tree with translated functions, literals and types."""
    return tree.transform(_replaced)


def _replaced(node: exp.Expr) -> exp.Expr:
    match node:
        case exp.National():
            return exp.Literal.string(node.name)
        case exp.HexString():
            return exp.cast(exp.Literal.string(f"\\x{node.name}"), "bytea", dialect="postgres")
        case exp.Count():
            if node.args.get("big_int"):
                return node
            return _counted(node)
        case exp.Convert():
            return _converted(node)
        case exp.SHA2():
            encoded = exp.Anonymous(this="dbo.utf16", expressions=[node.this])
            return exp.Anonymous(this="sha256", expressions=[encoded])
        case exp.SetOperation():
            for column in (node.args.get("order") or exp.Order()).find_all(exp.Column):
                column.set("table", None)  # PostgreSQL sorts a union only by column names
        case exp.TryCast():
            return _attempted(node)
        case exp.Cast():
            node.set("to", _type(node.args["to"]))
        case exp.Like() if isinstance(node.expression, exp.Binary) and not isinstance(node.parent, exp.Escape):
            # Its pattern may have ranges in brackets.
            return exp.Anonymous(this="dbo.is_like", expressions=[node.this, node.expression])
        case exp.Like() if not isinstance(node.parent, exp.Escape):
            return exp.Escape(this=node, expression=exp.Literal.string(""))
        case exp.Column() if node.name.lower() == "transaction_isolation_level":
            return exp.Parameter(this=exp.Var(this="__isolation"))
        case exp.Table() if isinstance(node.this, exp.OpenJSON) and node.this.expressions:
            return _recordset(node.this, node.alias or "found")
        case exp.Anonymous():
            return _anonymous(node)
    return node


def _recordset(node: exp.OpenJSON, name: str) -> exp.Expr:
    """Translate OPENJSON ... WITH (...) of an array.

    Without paths its elements are objects, and missing members are NULL. With one column and the path '$' they are
    values.
    """
    paths = [column.args.get("path") for column in node.expressions]
    if not node.args.get("path") and len(paths) == 1 and paths[0] is not None and paths[0].name == "$":
        return _values(node, name)
    if node.args.get("path") or any(column.args.get("path") for column in node.expressions):
        raise SqlError(102, "OPENJSON with paths is not played here.", 15)
    columns = ", ".join(f"{column.name} {_type(column.args['kind']).sql('postgres')}" for column in node.expressions)
    text = f"SELECT 1 FROM jsonb_to_recordset(NULL::jsonb) AS {name}({columns})"
    found: exp.Expr = sqlglot.parse_one(text, read="postgres").args["from_"].this
    null = found.find(exp.Null)
    assert null is not None
    null.replace(node.this)
    return found


def _values(node: exp.OpenJSON, name: str) -> exp.Expr:
    column = node.expressions[0]
    kind = _type(column.args["kind"]).sql("postgres")
    text = f"SELECT CAST(one AS {kind}) AS {column.name} FROM jsonb_array_elements_text(NULL::jsonb) AS one"
    found: exp.Expr = sqlglot.parse_one(text, read="postgres")
    null = found.find(exp.Null)
    assert null is not None
    null.replace(node.this)
    return exp.Subquery(this=found, alias=exp.TableAlias(this=exp.to_identifier(name)))


def _type(declared: exp.DataType) -> exp.DataType:
    """Return the type of a conversion. A text without a size has 30 characters."""
    kind = parse_type(declared.sql("tsql"))
    if kind.name in ("varchar", "nvarchar") and not kind.sizes:
        kind = kind._replace(sizes=("30",))
    return exp.DataType.build(kind.postgres, dialect="postgres")


def _converted(node: exp.Convert) -> exp.Expr:
    """CONVERT, to a text in one of the known styles of a date, or of bytes in hexadecimal digits (2)."""
    style = node.args.get("style")
    if style and style.name == "2":
        octets = node.expression.copy().transform(_replaced)
        digits = exp.Anonymous(this="ENCODE", expressions=[octets, exp.Literal.string("hex")])
        return exp.Upper(this=digits)
    if style and style.name in DATE_STYLES:
        style_format = exp.Literal.string(DATE_STYLES[style.name])
        return exp.Anonymous(this="TO_CHAR", expressions=[node.expression, style_format])
    return exp.Cast(this=node.expression, to=_type(node.this))


def _counted(node: exp.Count) -> exp.Expr:
    """Return COUNT as an INT."""
    if isinstance(node.parent, exp.Window) or node.meta.get("counted"):
        return node
    node.meta["counted"] = True
    return exp.cast(node, "int", dialect="postgres")


def _attempted(node: exp.TryCast) -> exp.Expr:
    """Translate TRY_CAST: NULL for a value that cannot be converted."""
    target = _type(node.args["to"])
    text = exp.cast(node.this, "text", dialect="postgres")
    valid = exp.func("pg_input_is_valid", text, exp.Literal.string(target.sql("postgres")))
    return exp.Cast(this=exp.Case(ifs=[exp.If(this=valid, true=text.copy())]), to=target)


def _anonymous(node: exp.Anonymous) -> exp.Expr:
    name = node.name.upper()
    if name in ("JSON_VALUE", "JSON_QUERY"):  # PostgreSQL's own function writes booleans as t and f
        node.set("this", f"dbo.{name.lower()}")
        return node
    if name == "NCHAR":  # A type to PostgreSQL without the schema
        node.set("this", "dbo.nchar")
        return node
    if name == "COUNT_BIG":
        return exp.Count(this=node.expressions[0] if node.expressions else exp.Star(), big_int=True)
    if name in WITH_UNIT:
        unit = node.expressions[0]
        if not isinstance(unit, exp.Literal):
            word = unit.name.lower()
            # In place, so the inner expressions are visited too.
            unit.replace(exp.Literal.string(UNITS.get(word, word)))
    if f"@__{name.lower()}" in SESSION:
        return exp.Parameter(this=exp.Var(this=f"__{name.lower()}"))
    return node
