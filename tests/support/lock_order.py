"""Records the order of locks in every transaction of the tests on SQL Server (see ``jobfac.database.locks``).

A violation is written to a file, because it may happen in a role that runs as a separate process. The test session
fails at its end with the content of the file.
"""

import os
import re
import traceback
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from jobfac.database.locks import ORDER

_ROWS = re.compile(r"^\s*(?:WITH |UPDATE |DELETE |INSERT |MERGE )|UPDLOCK", re.IGNORECASE)
_WAITS = re.compile(r"sp_getapplock (?:(?!sp_getapplock).)*@LockTimeout = (?!0;)", re.DOTALL)
_TABLE = re.compile(r"(?:UPDATE|DELETE FROM|FROM) jobfac\.(\w+)(?: AS \w+)? WITH \([^)]*UPDLOCK|UPDATE jobfac\.(\w+)")


class Order:
    """The locks of one transaction so far."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.rows = ""
        self.rank = 0

    def breach(self, statement: str, names: list[str]) -> str | None:
        """Record the next statement, which takes the named locks ``names``; returns its violation, or None."""
        if names:
            told = None
            if _WAITS.search(statement):
                if self.rows:
                    told = f"waits for the named locks {names} after {self.rows!r}"
                elif names != sorted(names) or (self.names and names[0] < self.names[-1]):
                    told = f"waits for the named locks {names} after {self.names}"
            self.names += names
            return told
        # A receipt in the audit is a row of this operation only. No other transaction waits for it.
        if not _ROWS.search(statement) or "FROM jobfac.audit WITH" in statement:
            return None
        self.rows = self.rows or statement[:120]
        table = _TABLE.search(statement)
        name = (table[1] or table[2]) if table else ""
        if name not in ORDER:
            return None
        rank = ORDER.index(name)
        if rank < self.rank and name != "worker":  # an expiry locks the worker's row first and changes it last
            return f"locks {name} after {ORDER[self.rank]}: {statement[:200]!r}"
        self.rank = max(self.rank, rank)
        return None


def watch(folder: Path) -> Path:
    """Start recording in this process and in processes forked from it; returns the path of the file of violations."""
    path = folder / f"lock-order-{os.getpid()}"
    orders: dict[int, Order] = {}

    def begin(conn: sa.Connection) -> None:
        orders[id(conn)] = Order()

    def listen(conn: sa.Connection, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        order = orders.get(id(conn))
        if conn.dialect.name != "mssql" or order is None:
            return
        names = [str(one) for one in parameters] if "sp_getapplock" in statement else []
        if told := order.breach(statement, names):
            calls = "".join(line for line in traceback.format_stack(limit=25) if "/jobfac/" in line)
            path.parent.mkdir(parents=True, exist_ok=True)  # other test sessions clean up temporary folders
            with path.open("a", encoding="utf-8") as file:
                file.write(f"A transaction {told}\n{calls}\n")

    sa.event.listen(sa.Engine, "begin", begin)
    sa.event.listen(sa.Engine, "before_cursor_execute", listen)
    return path
