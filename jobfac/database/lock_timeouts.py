"""A lock on SQL Server that another transaction has held for too long: which one it is, and who holds it."""

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any

import sqlalchemy as sa

from jobfac.database.dialects import answers
from jobfac.errors import LOCKED, Locked

NUMBERS = frozenset({1222, 51222})
"""The numbers of these errors."""

PHRASES = ("Lock request time out", "could not be had in time")
"""Texts of the same errors."""

WITHIN = 2.0
"""Seconds for the search for the holder."""

_HOLDER = sa.text(
    "SELECT TOP 1 s.session_id, s.login_name, COALESCE(s.host_name, N'?'), COALESCE(s.program_name, N'?') "
    "FROM sys.dm_tran_locks AS l JOIN sys.dm_exec_sessions AS s ON s.session_id = l.request_session_id "
    "WHERE l.resource_database_id = DB_ID() AND l.resource_type = N'APPLICATION' AND l.request_status = N'GRANT' "
    "AND CHARINDEX(:name, l.resource_description) > 0"
).bindparams(sa.bindparam("name", type_=sa.Unicode(255)))
"""Who holds a named lock. It needs VIEW SERVER STATE. ``resource_description`` has the first 32 characters of the name
in brackets. Source: Microsoft, "sys.dm_tran_locks"."""


def note(error: sa.exc.DBAPIError, names: Sequence[str]) -> None:
    """Note at an error which of these named locks was not free in time, if it says the place of one."""
    if (found := re.search(r"Lock (\d+) could not be had in time", answers.error_parts(error)[2])) is not None:
        vars(error.orig)["lock_name"] = names[int(found[1])]


def locked(read: Callable[[], AbstractContextManager[sa.Connection]], error: Any) -> Locked | None:
    """Return the error for callers, if a lock was not free in time. ``read``: begins a transaction that reads."""
    numbers, _, text = answers.error_parts(error)
    if not (numbers & NUMBERS if numbers else any(phrase in text for phrase in PHRASES)):
        return None
    name, holder = getattr(getattr(error, "orig", None), "lock_name", None), None
    if name is not None:
        with suppress(sa.exc.SQLAlchemyError), read() as conn:  # few logins may see other sessions
            holder = _holder(conn, name)
    which = f"the lock [{name}]" if name is not None else "the lock of a row or a table"
    who = f"its holder is {holder}" if holder else "a DBA finds its holder in sys.dm_tran_locks"
    return Locked(f"{LOCKED}: {which}; {who}.")


def _holder(conn: sa.Connection, name: str) -> str | None:
    answers.give_up_after(conn.connection.driver_connection, WITHIN)
    row = conn.execute(_HOLDER, {"name": f"[{name[:32]}]"}).first()
    return None if row is None else "session {}, login {}, host {}, program {}".format(*row)
