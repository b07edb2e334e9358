"""Where the experiments take place, and what they answer."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects.mssql import Mssql
from jobfac.database.engine import Database
from jobfac.database.tables import metadata
from jobfac.errors import JobfacError

SEEN_AFTER = 2.0
"""Seconds that a statement of an experiment waits for a lock: longer is an answer, too."""


class Finding(NamedTuple):
    """One answer. ``is_trouble``: jobfac is wrong about this server, so the report should become an issue."""

    question: str
    answer: str
    is_trouble: bool = False


@dataclass(frozen=True)
class Place:
    """A database for tests, which is emptied.

    Attributes:
        folder: for the files of roles and programs.
        seconds: how long each observation lasts.
        sizes: numbers of old runs with which plans are read.
        workers: idle workers whose statements are counted.
    """

    db: Database
    folder: Path
    seconds: float
    sizes: tuple[int, ...]
    workers: int

    def ask(self, question: str, work: Callable[[sa.Connection], Finding | str]) -> Finding:
        """The answer to a question in one transaction; what the server refuses is the answer."""
        try:
            with self.db.begin() as conn:
                found = work(conn)
        except (sa.exc.SQLAlchemyError, JobfacError) as error:
            return Finding(question, f"not answered: {reason(error)}")
        return Finding(question, found) if isinstance(found, str) else found

    def empty(self) -> None:
        """Delete every row."""
        with self.db.begin() as conn:
            for table in metadata.sorted_tables:
                conn.execute(table.delete())

    @contextmanager
    def session(self) -> Iterator[sa.Connection]:
        """A DBA's session with a transaction, which is rolled back at the end."""
        engine = Mssql().engine(sa.make_url(self.db.url))
        try:
            with engine.connect() as conn:
                conn.exec_driver_sql(f"SET LOCK_TIMEOUT {SEEN_AFTER * 1000:.0f}")
                yield conn
                conn.rollback()
        finally:
            engine.dispose()

    def set_snapshot(self, on: bool) -> bool:
        """Switch READ_COMMITTED_SNAPSHOT; False: this login or server does not allow it."""
        self.db.engine.dispose()
        option = f"READ_COMMITTED_SNAPSHOT {'ON' if on else 'OFF'} WITH ROLLBACK IMMEDIATE"
        try:
            with self.db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
                conn.exec_driver_sql(f"ALTER DATABASE CURRENT SET {option}")
        except sa.exc.DBAPIError:
            return False
        finally:
            self.db.engine.dispose()
        return True

    def has_snapshot(self) -> bool | None:
        """Whether READ_COMMITTED_SNAPSHOT is on; None: this login may not know."""
        text = "SELECT is_read_committed_snapshot_on FROM sys.databases WHERE name = DB_NAME()"
        try:
            with self.db.read() as conn:
                return bool(conn.exec_driver_sql(text).scalar_one())
        except sa.exc.DBAPIError:
            return None

    def each_snapshot(self) -> Iterator[str]:
        """Yield "RCSI on" and "RCSI off", switched so, and restore the option at the end."""
        before = self.has_snapshot()
        try:
            for on in (True, False):
                if on == before or self.set_snapshot(on):
                    yield f"RCSI {'on' if on else 'off'}"
        finally:
            if before is not None:
                self.set_snapshot(before)


def reason(error: Exception) -> str:
    """The server's own sentence, without the driver's decoration and SQLAlchemy's statement."""
    text = str(getattr(error, "orig", None) or error)
    sentence = text.rsplit("[SQL Server]", maxsplit=1)[-1].replace("\n", " ")
    return re.sub(r" \(SQL\w+\).*$", "", sentence).strip("'\") ")[:300]


def scalar(conn: sa.Connection, text: str) -> Any:
    """The first value of a query."""
    return conn.exec_driver_sql(text).scalar_one()
