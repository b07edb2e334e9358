"""Records what every transaction of the tests locks on SQL Server, and in which order (see ``jobfac.database.locks``).

A breach is written into a file, since it may happen in a role that runs as a process of its own; the session's end
fails with what is in it.
"""

import os
import re
import traceback
from pathlib import Path
from typing import Any

import sqlalchemy as sa

import jobfac
from jobfac.database.locks import ORDER

_ROWS = re.compile(r"^\s*(?:WITH |UPDATE |DELETE |INSERT |MERGE )|UPDLOCK", re.IGNORECASE)
_WAITS = re.compile(r"sp_getapplock (?:(?!@LockTimeout|;).)*;", re.DOTALL)  # without a timeout of its own
_TABLE = re.compile(r"(?:UPDATE|DELETE FROM|FROM) jobfac\.(\w+)(?: AS \w+)? WITH \([^)]*UPDLOCK|UPDATE jobfac\.(\w+)")


class Order:
    """The locks of one transaction so far."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.rows = ""
        self.rank = 0

    def breach(self, statement: str, names: list[str]) -> str | None:
        """What is wrong with the next statement, which takes these named locks; it is recorded."""
        if names:
            told = None
            if _WAITS.search(statement):
                if self.rows:
                    told = f"waits for the named locks {names} after {self.rows!r}"
                elif names != sorted(names) or (self.names and names[0] < self.names[-1]):
                    told = f"waits for the named locks {names} after {self.names}"
            self.names += names
            return told
        # A receipt in the audit is the row of this operation alone, which no other transaction waits for.
        if not _ROWS.search(statement) or "FROM jobfac.audit WITH" in statement:
            return None
        self.rows = self.rows or statement[:120]
        table = _TABLE.search(statement)
        name = (table[1] or table[2]) if table else ""
        if name not in ORDER:
            return None
        rank = ORDER.index(name)
        if rank < self.rank and name != "worker":  # whose row is changed last by its expiry, which has locked it first
            return f"locks {name} after {ORDER[self.rank]}: {statement[:200]!r}"
        self.rank = max(self.rank, rank)
        return None


PACKAGE = str(Path(jobfac.__file__).parent)


def watch(folder: Path) -> Path:
    """Record from now on, in this process and in those that are forked from it; returns the file of the breaches."""
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
            frames = [frame for frame in traceback.extract_stack(limit=40) if frame.filename.startswith(PACKAGE)]
            if not frames:  # a test's own statement
                return
            calls = "".join(traceback.format_list(frames))
            path.parent.mkdir(parents=True, exist_ok=True)  # other sessions tidy temporary folders up
            with path.open("a", encoding="utf-8") as file:
                file.write(f"A transaction {told}\n{calls}\n")

    sa.event.listen(sa.Engine, "begin", begin)
    sa.event.listen(sa.Engine, "before_cursor_execute", listen)
    return path
