"""SQL Server: a time limit for answers.

When the network drops a connection's packets, TCP reports the broken connection only after a quarter of an hour. The
driver therefore gives up earlier. The state of the connection is then unknown, so it is discarded together with all
other connections of its pool.
"""

import math
from typing import Any

import sqlalchemy as sa

LOCKS = 20.0
"""Seconds that a statement waits for a lock."""

LONGEST_WAIT = 20.0
"""The longest wait for work inside the server, in seconds."""

ANSWER = max(LOCKS, LONGEST_WAIT) + 10.0
"""Timeout in seconds for an answer. It is four seconds longer if the server does not confirm the cancellation."""

CONNECTION_TIMEOUT = 113
"""The ODBC attribute for the timeout of calls other than statements, such as a commit."""


def set_time_limit(engine: sa.Engine) -> None:
    """Make the engine's connections give up an answer after ``ANSWER`` seconds."""
    sa.event.listen(engine, "checkout", lambda connection, record, proxy: give_up_after(connection, ANSWER))
    sa.event.listen(engine, "handle_error", _discard_after_timeout)


def give_up_after(connection: Any, seconds: float) -> None:
    """Make a driver's connection give up an answer after ``seconds``, rounded up, until the next call; 0: never.

    It costs no round trip.
    """
    whole = math.ceil(seconds)
    connection.timeout = whole
    if hasattr(connection, "set_attr"):  # mssql-python; pyodbc sets both limits at once
        connection.set_attr(CONNECTION_TIMEOUT, whole)


def _discard_after_timeout(context: sa.ExceptionContext) -> None:
    if "timeout expired" in str(context.original_exception).lower():
        context.is_disconnect = True
