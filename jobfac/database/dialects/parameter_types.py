"""SQL Server: declare every parameter by the type of its column, independent of its value.

By default a driver derives the declaration from the value, which has three disadvantages:

- SQL Server caches one plan for each pair of a statement's text and its declarations. If each text value is declared
  with its own length, frequent statements get thousands of plans.
- For NULL the driver queries the server for the parameter's type: one more round trip for each. It ignores an error of
  that query. If the error has rolled back the transaction, the next statement would run in a new transaction.
- A date that is bound as a datetime makes the server convert the column in a comparison.

So for every statement that SQLAlchemy compiles, the driver gets the types of all parameters.
"""

from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import BindTyping

Declared = tuple[int, int, int]
"""The ODBC type, its size (0: unbounded) and its number of decimal digits."""

VARCHAR, NVARCHAR = 12, -9
VARBINARY_MAX: Declared = (-3, 0, 0)
NVARCHAR_MAX: Declared = (NVARCHAR, 0, 0)
BIT: Declared = (-7, 1, 0)
BIGINT: Declared = (-5, 19, 0)  # for all integers: a comparison with an INT column still seeks an index
DOUBLE: Declared = (8, 15, 0)
DATE: Declared = (91, 10, 0)
TIMESTAMP: Declared = (93, 23, 3)
LONGEST = 4000
"""The maximum length of a text that is not NVARCHAR(max). All texts of shorter columns are declared with this length.
So the driver does not truncate a value that is longer than its column. The server compares it, or refuses to store
it."""


def declared(kind: sa.types.TypeEngine[Any], values: Sequence[Any]) -> Declared:
    """Return the declaration of a parameter, according to the type of its column.

    The values matter only if SQLAlchemy knows no type, or if a text is longer than ``LONGEST``.
    """
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
    length = kind.length
    if not isinstance(length, int) or length > LONGEST:
        return NVARCHAR_MAX
    if any(isinstance(value, str) and 2 * len(value) > LONGEST and _is_too_long(value) for value in values):
        return NVARCHAR_MAX
    return NVARCHAR if isinstance(kind, sa.Unicode | sa.UnicodeText) else VARCHAR, LONGEST, 0


def _is_too_long(text: str) -> bool:
    return len(text.encode("utf-16-le", "surrogatepass")) > 2 * LONGEST


def declare_types(engine: sa.Engine) -> None:
    """Make the engine pass the types of every statement's parameters to its driver."""
    original = engine.dialect.do_set_input_sizes if engine.dialect.bind_typing is BindTyping.SETINPUTSIZES else None
    engine.dialect.bind_typing = BindTyping.SETINPUTSIZES

    def keep_types(cursor: Any, kinds: list[tuple[str, Any, sa.types.TypeEngine[Any]]], context: Any) -> None:
        context.kinds = [kind for _, _, kind in kinds]
        if original is not None:
            original(cursor, kinds, context)

    engine.dialect.do_set_input_sizes = keep_types  # type: ignore[method-assign, assignment]
    sa.event.listen(engine, "before_cursor_execute", _binding(_null(engine.dialect)), retval=True)
    sa.event.listen(engine, "do_executemany", _one_by_one)


def _null(dialect: sa.Dialect) -> Any:
    """Return the value with which the driver binds NULL without querying its type."""
    if dialect.driver != "pyodbc":
        return None
    import pyodbc

    return pyodbc.BinaryNull  # for None it would query the type despite the declaration


def _binding(null: Any) -> Callable[..., tuple[str, Any]]:
    def bind(
        conn: sa.Connection, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
    ) -> tuple[str, Any]:
        kinds = getattr(context, "kinds", None) or _of_text(getattr(context, "compiled", None))
        rows = parameters if isinstance(parameters, list) else [parameters]  # an INSERT of many rows is one tuple
        if not kinds or not rows or not rows[0]:
            return statement, parameters
        columns = list(zip(kinds, zip(*rows, strict=True), strict=True))
        types = context.declared = [declared(kind, values) for kind, values in columns]
        cursor.setinputsizes(types)
        bound = [tuple(_bound(value, kind, null) for value, kind in zip(row, types, strict=True)) for row in rows]
        return statement, bound if rows is parameters else bound[0]

    return bind


def _one_by_one(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
    """Send each row of parameters in a message of its own, as pyodbc does.

    mssql-python sends all of them in one message. If one fails, XACT_ABORT rolls the transaction back, but the server
    executes the next ones on their own and commits them. A retry of the transaction would do them again.
    """
    types = getattr(context, "declared", None)
    for row in parameters:
        if types is not None:
            cursor.setinputsizes(types)  # mssql-python forgets them after each message
        cursor.execute(statement, row)
    return True


def _of_text(compiled: Any) -> list[sa.types.TypeEngine[Any]] | None:
    """Return the types of the parameters of a ``text()``, which SQLAlchemy does not pass on; None: they are unknown."""
    keys = getattr(compiled, "positiontup", None)
    if not keys:  # a text that is not compiled
        return None
    binds = [compiled.binds[key] for key in keys if compiled.binds[key] not in compiled.literal_execute_params]
    return None if any(bind.expanding for bind in binds) else [bind.type for bind in binds]


def _bound(value: Any, kind: Declared, null: Any) -> Any:
    """Convert a value to the Python type that its declaration requires.

    SQLAlchemy passes dates as datetimes and booleans as integers. mssql-python accepts only the declared type.
    """
    if value is None:
        return null
    if kind == DATE and isinstance(value, datetime):
        return value.date()
    return bool(value) if kind == BIT else float(value) if kind == DOUBLE else value
