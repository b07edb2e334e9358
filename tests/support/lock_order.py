"""Record the locks of every transaction on SQL Server, and their order (see ``jobfac.database.locks``).

A violation is written to a file, because it may happen in another process. The end of the session fails if the file is
not empty.
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
_WAITS = re.compile(r"sp_getapplock (?:(?!@LockTimeout = 0|;).)*;", re.DOTALL)  # also for a moment
_TABLE = re.compile(r"(?:UPDATE|DELETE FROM|FROM) jobfac\.(\w+)(?: AS \w+)? WITH \([^)]*UPDLOCK|UPDATE jobfac\.(\w+)")


class Order:
    """The locks that one transaction has taken so far."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.rows = ""
        self.rank = 0

    def breach(self, statement: str, names: list[str]) -> str | None:
        """Return and record the violation by the next statement, which takes these named locks; None: there is none."""
        if names:
            problem = None
            if _WAITS.search(statement):
                if self.rows:
                    problem = f"waits for the named locks {names} after {self.rows!r}"
                elif names != sorted(names) or (self.names and names[0] < self.names[-1]):
                    problem = f"waits for the named locks {names} after {self.names}"
            self.names += names
            return problem
        # A receipt in the audit is a row of this operation, for which no other transaction waits.
        if not _ROWS.search(statement) or "FROM jobfac.audit WITH" in statement or statement.startswith("CREATE "):
            return None
        self.rows = self.rows or statement[:120]
        table = _TABLE.search(statement)
        name = (table[1] or table[2]) if table else ""
        if name not in ORDER:
            return None
        rank = ORDER.index(name)
        if rank < self.rank and name != "worker":  # the expiry changes the row last, but has locked it first
            return f"locks {name} after {ORDER[self.rank]}: {statement[:200]!r}"
        self.rank = max(self.rank, rank)
        return None


PACKAGE = str(Path(jobfac.__file__).parent)


def watch(folder: Path) -> Path:
    """Record from now on, in this process and in processes forked from it; returns the file of the violations."""
    path = folder / f"lock-order-{os.getpid()}"
    orders: dict[int, Order] = {}

    def begin(conn: sa.Connection) -> None:
        orders[id(conn)] = Order()

    def listen(conn: sa.Connection, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        order = orders.get(id(conn))
        if conn.dialect.name != "mssql" or order is None:
            return
        names = [str(one) for one in parameters] if "sp_getapplock" in statement else []
        if problem := order.breach(statement, names):
            frames = [frame for frame in traceback.extract_stack(limit=40) if frame.filename.startswith(PACKAGE)]
            if not frames:  # a statement of a test
                return
            calls = "".join(traceback.format_list(frames))
            path.parent.mkdir(parents=True, exist_ok=True)  # other sessions remove old temporary folders
            with path.open("a", encoding="utf-8") as file:
                file.write(f"A transaction {problem}\n{calls}\n")

    sa.event.listen(sa.Engine, "begin", begin)
    sa.event.listen(sa.Engine, "before_cursor_execute", listen)
    return path
