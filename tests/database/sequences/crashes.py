"""A process that dies before a statement of a transaction."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from jobfac.database.engine import Database


class Crash(BaseException):
    """Simulates the death of the process."""


@contextmanager
def crashing(db: Database, statement: int | None) -> Iterator[None]:
    """Simulate a crash before the statement with this number."""
    count = itertools.count(1)

    def before(conn: Any, cursor: Any, sql: str, *rest: Any) -> None:
        if next(count) == statement:
            raise Crash

    sa.event.listen(db.engine, "before_cursor_execute", before)
    try:
        yield
    finally:
        sa.event.remove(db.engine, "before_cursor_execute", before)
