"""The databases that a chaos run uses, and how each becomes unreachable."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.database.tables import metadata
from scripts.chaos.proxy import Proxy

Cut = Callable[[float], None]
"""Makes the database unreachable for the given seconds, and returns afterwards."""


class Means(NamedTuple):
    """An empty database, and what can be done to it. ``kill_sessions``: None on an engine without sessions."""

    url: str
    cut: Cut
    kill_sessions: Callable[[], object] | None = None


def open_site(engine: str, folder: Path, seed: int, url: str = "") -> AbstractContextManager[Means]:
    """A database of an engine: ``sqlite``, ``mssql`` or ``mssqlpython``; or that of a URL, which is emptied."""
    if url:
        return _real(url)
    if engine == "sqlite":
        return _sqlite(folder)
    return _mssql({"mssql": "pyodbc"}.get(engine, engine), seed)


@contextmanager
def _sqlite(folder: Path) -> Iterator[Means]:
    """A SQLite file. In an outage another connection holds its write lock."""
    path = folder / "jobfac.db"

    def cut(seconds: float) -> None:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=60)) as other:
            with suppress(sqlite3.OperationalError):  # the DBA and frozen processes held the lock: an outage, too
                other.execute("BEGIN EXCLUSIVE")
            time.sleep(seconds)

    yield Means(f"sqlite:///{path}", cut)


@contextmanager
def _mssql(driver: str, seed: int) -> Iterator[Means]:
    """The TDS test server. Besides the outages, it makes deadlock victims, kills sessions, and loses answers around
    commits."""
    from tests.tds_server import harness

    with harness.running() as server, server.database("chaos") as name:
        url = harness.url(server.port, driver, name).render_as_string(hide_password=False)
        db = Database(url)
        db.upgrade()
        db.close()
        rules = [
            "error 1205 chance 0.002",
            "drop before commit chance 0.001",
            "drop after commit chance 0.001",
            "kill chance 0.0005",
            "kill commit chance 0.001",
        ]
        server.faults(*rules, seed=seed)

        def cut(seconds: float) -> None:
            server.command(failover=seconds)
            time.sleep(seconds)

        yield Means(url, cut, lambda: server.command(cut=""))


@contextmanager
def _real(url: str) -> Iterator[Means]:
    """A SQL Server. Workers, schedulers and the DBA reach it through a proxy, which is cut in an outage."""
    parts = sa.make_url(url)
    db = Database(url)
    db.upgrade()
    with db.begin() as conn:
        for table in metadata.sorted_tables:
            conn.execute(table.delete())
    db.close()
    proxy = Proxy((parts.host or "localhost", parts.port or 1433))
    through = parts.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
    try:
        yield Means(through, proxy.cut, proxy.kill)
    finally:
        proxy.close()
