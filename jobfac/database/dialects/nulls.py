"""NULLs with a type, for drivers that would ask the server for it.

A driver that binds NULL has the server describe the parameter. That is a round trip for each NULL, and worse: drivers
swallow an error of the answer. If that error has rolled the transaction back, what comes next would go on in a new one,
without what came before. So a statement with NULLs tells the driver the types of all its parameters.

So does a statement that is handed many rows as one text (see ``rows``): a driver that declares a text as long as it is
would have the server compile the statement anew for every length.
"""

from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import BindTyping

Described = tuple[int, int, int]
"""ODBC's number of a type, its size (0: unbounded) and its decimal digits."""

VARCHAR, NVARCHAR, VARBINARY = 12, -9, -3
BIGINT: Described = (-5, 19, 0)
DOUBLE: Described = (8, 15, 0)
DATE: Described = (91, 10, 0)
TIMESTAMP: Described = (93, 23, 3)
LONGEST = 4000
"""Characters of the longest text that is not NVARCHAR(max)."""


def described(kind: sa.types.TypeEngine[Any], values: Sequence[Any]) -> Described:
    """What a parameter is to ODBC: as its values are, and if all of them are NULL as its column is.

    Raises:
        TypeError: neither says what it is.
    """
    while isinstance(kind, sa.types.TypeDecorator):
        kind = kind.impl_instance
    given = next((value for value in values if value is not None), None)
    match given, kind:
        case (str(), _) | (None, sa.String()):
            return _text(kind, max((len(value) for value in values if value is not None), default=0))
        case (bytes(), _) | (None, sa.LargeBinary() | sa.VARBINARY()):
            return VARBINARY, 0, 0
        case (int(), _) | (None, sa.Boolean() | sa.Integer()):
            return BIGINT
        case (float(), _) | (None, sa.Float()):
            return DOUBLE
        case (datetime(), _) | (None, sa.DateTime()):
            return TIMESTAMP
        case (date(), _) | (None, sa.Date()):
            return DATE
    raise TypeError(f"a parameter of type {kind!r} with the value {given!r} has no type here")


def _text(kind: sa.types.TypeEngine[Any], longest: int) -> Described:
    narrow = isinstance(kind, sa.String) and not isinstance(kind, sa.Unicode | sa.UnicodeText)
    room = getattr(kind, "length", None)
    fits = isinstance(room, int) and longest <= room <= LONGEST
    return VARCHAR if narrow else NVARCHAR, room if fits and room else 0, 0


def give_types(engine: sa.Engine) -> None:
    """Have the engine tell its driver the types of every statement in which a NULL or a text of rows is bound."""
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
        kinds = getattr(context, "kinds", None)  # a text of SQL has none
        rows = parameters if isinstance(parameters, list) else [parameters]  # many rows in one INSERT are one
        if not kinds or not (any(None in row for row in rows) or any(isinstance(k, sa.UnicodeText) for k in kinds)):
            return statement, parameters
        columns = zip(kinds, zip(*rows, strict=True), strict=True)
        cursor.setinputsizes([described(kind, values) for kind, values in columns])
        typed = [tuple(null if value is None else value for value in row) for row in rows]
        return statement, typed if rows is parameters else typed[0]

    return bind
