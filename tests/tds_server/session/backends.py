"""Idle connections to PostgreSQL for the next sessions of a database: a new one costs more than a login."""

import contextlib
import select
import threading

import psycopg
from psycopg.pq import TransactionStatus

from tests.tds_server.session.storage import WatchedConnection

CLEAN = """
RESET ALL; DISCARD SEQUENCES; SELECT pg_advisory_unlock_all();
SELECT NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = pg_my_temp_schema())
"""
"""Ends what a session leaves: settings, the last identity value and its locks. Says whether it left no table."""


class Backends:
    """Opens connections, and keeps those of databases that ``keep`` has named until ``forget``."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._idle: dict[str, list[WatchedConnection]] = {}
        self._lock = threading.Lock()

    def keep(self, database: str) -> None:
        """Keep the connections of a database from now on."""
        with self._lock:
            self._idle.setdefault(database, [])

    def forget(self, database: str) -> None:
        """Close the idle connections of a database, and keep no others."""
        with self._lock:
            idle = self._idle.pop(database, [])
        for connection in idle:
            connection.close()

    def take(self, database: str) -> WatchedConnection:
        """Return a connection that is in the state of a new one. Raises psycopg.OperationalError."""
        while (connection := self._any(database)) is not None:
            if not select.select([connection.fileno()], [], [], 0)[0]:
                return connection
            connection.close()  # PostgreSQL has said something: that it ended it
        made = WatchedConnection.connect(
            f"{self.dsn} dbname={database}", autocommit=True, cursor_factory=psycopg.RawCursor
        )
        assert isinstance(made, WatchedConnection)
        return made

    def _any(self, database: str) -> WatchedConnection | None:
        with self._lock:
            idle = self._idle.get(database)
            return idle.pop() if idle else None

    def give(self, database: str, connection: WatchedConnection) -> None:
        """Take back the connection of a session that has ended. One with an open transaction is closed."""
        with self._lock:
            kept = database in self._idle
        connection.interrupted = _never
        if kept and connection.info.transaction_status == TransactionStatus.IDLE and _is_clean(connection):
            with self._lock:
                if database in self._idle:
                    self._idle[database].append(connection)
                    return
        connection.close()


def _never() -> bool:
    return False


def _is_clean(connection: WatchedConnection) -> bool:
    with contextlib.suppress(psycopg.Error):
        cursor = connection.execute(CLEAN)
        while cursor.nextset():
            pass
        row = cursor.fetchone()
        return bool(row and row[0])
    return False
