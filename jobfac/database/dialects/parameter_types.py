"""SQL Server: every parameter is declared by the type of its column, whatever its value.

SQL Server keeps a plan for each pair of a text and the declarations of its parameters. A driver that declares a value
as long as it is makes thousands of pairs of the most frequent statements. One that binds NULL has the server describe
the parameter, a round trip for each, and swallows an error of the answer: if that error has rolled the transaction
back, what comes next would go on in a new one, without what came before. And a date that is bound as a time converts
the column that it is compared with.

So every statement that SQLAlchemy has compiled tells the driver the types of all its parameters.
"""

from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import BindTyping

Declared = tuple[int, int, int]
"""ODBC's number of a type, its size (0: unbounded) and its decimal digits."""

VARCHAR, NVARCHAR = 12, -9
VARBINARY_MAX: Declared = (-3, 0, 0)
NVARCHAR_MAX: Declared = (NVARCHAR, 0, 0)
BIT: Declared = (-7, 1, 0)
BIGINT: Declared = (-5, 19, 0)  # for every whole number: a comparison with an INT column seeks all the same
DOUBLE: Declared = (8, 15, 0)
DATE: Declared = (91, 10, 0)
TIMESTAMP: Declared = (93, 23, 3)
LONGEST = 4000
"""Characters of the longest text that is not NVARCHAR(max). The texts of all columns that hold no more are declared so
long: a value that is longer than its column is compared as it is, and refused by the server, not cut by the driver."""


def declared(kind: sa.types.TypeEngine[Any], values: Sequence[Any]) -> Declared:
    """What a parameter is to ODBC: as its column is; by its values only where SQLAlchemy knows no type, and where a
    text has more than ``LONGEST`` characters that belongs to a column of fewer."""
    while isinstance(kind, sa.types.TypeDecorator):
        kind = kind.impl_instance
    match kind:
        case sa.String():
            return _text(kind, values)
        case sa.LargeBinary() | sa.VARBINARY():
            return VARBINARY_MAX
        case sa.Boolean():
            return BIT
        case sa.Integer():
            return BIGINT
        case sa.Float():
            return DOUBLE
        case sa.DateTime():
            return TIMESTAMP
        case sa.Date():
            return DATE
    return _of_value(next((value for value in values if value is not None), None))


def _of_value(value: Any) -> Declared:
    match value:
        case bytes():
            return VARBINARY_MAX
        case bool():
            return BIT
        case int():
            return BIGINT
        case float():
            return DOUBLE
        case datetime():
            return TIMESTAMP
        case date():
            return DATE
    return NVARCHAR_MAX


def _text(kind: sa.String, values: Sequence[Any]) -> Declared:
    room = kind.length
    if not isinstance(room, int) or room > LONGEST:
        return NVARCHAR_MAX
    if any(isinstance(value, str) and 2 * len(value) > LONGEST and _is_too_long(value) for value in values):
        return NVARCHAR_MAX
    return NVARCHAR if isinstance(kind, sa.Unicode | sa.UnicodeText) else VARCHAR, LONGEST, 0


def _is_too_long(text: str) -> bool:
    return len(text.encode("utf-16-le", "surrogatepass")) > 2 * LONGEST


def declare_types(engine: sa.Engine) -> None:
    """Have the engine tell its driver the types of every statement's parameters."""
    usual = engine.dialect.do_set_input_sizes if engine.dialect.bind_typing is BindTyping.SETINPUTSIZES else None
    engine.dialect.bind_typing = BindTyping.SETINPUTSIZES

    def note(cursor: Any, kinds: list[tuple[str, Any, sa.types.TypeEngine[Any]]], context: Any) -> None:
        context.kinds = [kind for _, _, kind in kinds]
        if usual is not None:
            usual(cursor, kinds, context)

    engine.dialect.do_set_input_sizes = note  # type: ignore[method-assign, assignment]
    sa.event.listen(engine, "before_cursor_execute", _binding(_null(engine.dialect)), retval=True)


def _null(dialect: sa.Dialect) -> Any:
    """What the driver takes for a NULL whose type it has been told."""
    if dialect.driver != "pyodbc":
        return None
    import pyodbc

    return pyodbc.BinaryNull  # for None it would ask all the same


def _binding(null: Any) -> Callable[..., tuple[str, Any]]:
    def bind(
        conn: sa.Connection, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
    ) -> tuple[str, Any]:
        kinds = getattr(context, "kinds", None) or _of_text(getattr(context, "compiled", None))
        rows = parameters if isinstance(parameters, list) else [parameters]  # many rows in one INSERT are one
        if not kinds or not rows or not rows[0]:
            return statement, parameters
        columns = list(zip(kinds, zip(*rows, strict=True), strict=True))
        types = [declared(kind, values) for kind, values in columns]
        cursor.setinputsizes(types)
        bound = [tuple(_bound(value, kind, null) for value, kind in zip(row, types, strict=True)) for row in rows]
        return statement, bound if rows is parameters else bound[0]

    return bind


def _of_text(compiled: Any) -> list[sa.types.TypeEngine[Any]] | None:
    """The types of a ``text()``'s parameters, for which SQLAlchemy asks no driver; None: they cannot be told."""
    keys = getattr(compiled, "positiontup", None)
    if not keys:  # a text that is given to the driver as it is
        return None
    binds = [compiled.binds[key] for key in keys if compiled.binds[key] not in compiled.literal_execute_params]
    return None if any(bind.expanding for bind in binds) else [bind.type for bind in binds]


def _bound(value: Any, kind: Declared, null: Any) -> Any:
    """The value in the form that goes with its declaration.

    SQLAlchemy makes a time of a date and a number of a boolean; mssql-python takes only objects of the type declared.
    """
    if value is None:
        return null
    if kind == DATE and isinstance(value, datetime):
        return value.date()
    return bool(value) if kind == BIT else float(value) if kind == DOUBLE else value
