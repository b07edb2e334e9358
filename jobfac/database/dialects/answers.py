"""SQL Server: answers that do not come.

A connection whose packets vanish on the way is found broken by TCP after a quarter of an hour. Until then whoever waits
for an answer would wait, so a driver gives up before. What it then knows of the connection is nothing: it is thrown
away, with all others of its pool.
"""

import math
from typing import Any

import sqlalchemy as sa

LOCKS = 20.0
"""Seconds that a statement waits for a lock."""

LONGEST_WAIT = 20.0
"""Seconds that one wait for work inside the server lasts at most."""

ANSWER = max(LOCKS, LONGEST_WAIT) + 10.0
"""Seconds after which an answer is given up. (A server that does not even confirm that gets four more.)"""

CONNECTION_TIMEOUT = 113
"""ODBC's number of the attribute that bounds what is no statement, as a commit."""


def bound(engine: sa.Engine) -> None:
    """Have the engine's connections give up after ``ANSWER``."""
    sa.event.listen(engine, "checkout", lambda connection, record, proxy: give_up_after(connection, ANSWER))
    sa.event.listen(engine, "handle_error", _throw_away)


def give_up_after(connection: Any, seconds: float) -> None:
    """Let a driver's connection give up an answer after so many whole seconds, until somebody says otherwise; 0: never.

    Costs no round trip.
    """
    whole = math.ceil(seconds)
    connection.timeout = whole
    if hasattr(connection, "set_attr"):  # mssql-python; pyodbc does both at once
        connection.set_attr(CONNECTION_TIMEOUT, whole)


def _throw_away(context: sa.ExceptionContext) -> None:
    if "timeout expired" in str(context.original_exception).lower():
        context.is_disconnect = True
