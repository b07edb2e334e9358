"""What differs between databases: messages, errors, open transactions, isolation, and how a statement is cancelled."""

import hashlib
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.sqljob.scripts import Batch, ScriptError
from jobfac.sqljob.unusual import take_any_value

Say = Callable[[str], None]


class Failure(NamedTuple):
    """An error of a batch. ``line``: within the procedure if there is one, else within the script."""

    message: str
    number: str | None = None
    line: int | None = None
    procedure: str | None = None

    def __str__(self) -> str:
        where = [
            f"{'Msg' if self.number.isdigit() else 'Error'} {self.number}" if self.number else None,
            f"line {self.line}" if self.line else None,
            self.procedure,
        ]
        named = ", ".join(part for part in where if part)
        return f"{named}: {self.message}" if named else self.message


END_WITH_CLIENT = (
    "client_connection_check_interval = '1s'",  # the client's process has died, or was killed
    "tcp_keepalives_idle = 30",  # its machine has lost its power or its network, while the statement is silent,
    "tcp_keepalives_interval = 5",
    "tcp_keepalives_count = 4",
    "tcp_user_timeout = '50s'",  # and while it sends messages or rows
)
"""Settings by which PostgreSQL notices the end of a client within 50 seconds. By default it waits for two hours."""

EXCLUDED_FOR = 3600.0
"""Seconds to wait for the end of a former attempt's session. Its rollback may take as long as its statement took."""

LOOK = 0.5
"""Seconds between two attempts to take the session's lock."""

NO_ROOM = "53"
"""The class of PostgreSQL's errors for want of memory, disk or connections."""

IN_TRANSACTION = 1
"""SERVER_STATUS_IN_TRANS of the protocol of MySQL and MariaDB."""


class Server:
    """A connection to a database of any kind. Only ``cancel`` may be called from another thread.

    Attributes:
        style: the paramstyle of its driver.
        cancels: whether the driver can cancel a statement.
        sessions: where a DBA finds the session that has a lock, and how to end it.
        cursor: what executes now; written by the thread that runs the script.
    """

    cancels = False
    sessions = ""

    def __init__(self, connection: Any, dialect: sa.Dialect, say: Say) -> None:
        self.connection = connection
        self.dialect = dialect
        self.style: str = dialect.paramstyle
        self.say = say
        self.cursor: Any = None
        self._has_begun = False
        # Held while a statement is cancelled. A driver frees memory that its cancel still uses if the statement is
        # closed meanwhile.
        self._cancelling = threading.Lock()

    def prepare(self, isolation: str | None) -> None:
        """Set the isolation level."""
        if isolation is not None:
            self.execute(f"SET SESSION TRANSACTION ISOLATION LEVEL {isolation.upper()}")

    def execute(self, text: str) -> None:
        """Run a statement that is not part of the script."""
        cursor = self.connection.cursor()
        cursor.execute(text)
        cursor.close()

    def exclude_others(self, name: str, is_stopped: Callable[[], bool]) -> None:
        """Take a lock that the session keeps until its end, which the server itself sees. Wait while another session
        has it: that of a former attempt of the run, whose client the server believes to be alive because its machine
        has lost its power or its network. Where the lock cannot be had, the script runs without it.

        Args:
            name: the lock. Empty: none is needed.
            is_stopped: whether to wait no longer.

        Raises:
            ScriptError: the other session has not ended in time.
        """
        end = time.monotonic() + EXCLUDED_FOR
        is_said = False
        while name and not is_stopped():
            try:
                if self._take(name):
                    return
                waits_for = "the end of the session of a former attempt of this run"
            except self.dialect.loaded_dbapi.Error as error:
                if self.is_lost(error):
                    raise
                if not self.may_pass(error) or time.monotonic() > end:
                    self.say(f"The session's lock cannot be had, so the script runs without it: {error}")
                    return
                waits_for = f"the session's lock: {error}"
            if time.monotonic() > end:
                raise ScriptError(
                    f"the session of a former attempt of this run has not ended within {EXCLUDED_FOR / 60:.0f} minutes"
                    f"; look for it in {self.sessions} and retry the run"
                )
            if not is_said:
                self.say(f"Waiting for {waits_for.rstrip('.')}.")
                is_said = True
            time.sleep(LOOK)

    def _take(self, name: str) -> bool:
        """Try to take the session's lock, without waiting. Returns whether it is taken, or cannot be."""
        return True

    def may_pass(self, error: Exception) -> bool:
        """Return whether an error of ``_take`` may be gone in a moment."""
        return False

    def wrap(self, text: str, batch: Batch) -> str:
        """Return the batch in the form that is sent."""
        return text

    def misread(self, error: Exception) -> bool:
        """Whether the server refused a wrapped batch as a whole, so that it may be sent as it is."""
        return False

    def began(self) -> None:
        """Notice that the batch that was sent has given a first result, so it was not refused as a whole."""

    def messages(self, cursor: Any) -> bool:
        """Write the messages of the server. Returns whether there were any."""
        return False

    def cancel(self) -> None:
        """Cancel the current statement, if any."""
        with self._cancelling:
            if self.cursor is not None:
                self._cancel()

    def wait_for_cancel(self) -> None:
        """Wait until no thread is cancelling. Call it after each call of the cursor."""
        with self._cancelling:
            pass

    def _cancel(self) -> None:
        """Cancel the statement of ``cursor``."""

    def begin(self) -> None:
        """Notice that a batch begins."""

    def note(self, batch: Batch) -> None:
        """Notice that a batch has succeeded."""
        if batch.begins_transaction or batch.ends_transaction:
            self._has_begun = batch.begins_transaction

    def open_transaction(self) -> bool:
        """Return whether a transaction of the script is open: by its statements, if the driver does not say so."""
        status = getattr(self.connection, "server_status", None)  # of PyMySQL
        return self._has_begun if status is None else bool(status & IN_TRANSACTION)

    def was_undone(self) -> bool:
        """Return whether the server itself has rolled back the transaction of the batch that failed."""
        return False

    def rollback(self) -> None:
        """Roll back the open transaction."""
        self.connection.rollback()
        self._has_begun = False

    @property
    def closing(self) -> str:
        """What the server does when the connection is closed while a statement runs, in words."""
        if self.dialect.name in ("mssql", "postgresql", "sqlite"):
            return "the server rolls back what was open"
        return "the server may still finish the statement, and commit it"

    def explain(self, error: Exception, batch: Batch) -> Failure:
        """Return the error as a sentence, with its line and procedure."""
        return Failure(" ".join(str(error).split()))

    def is_lost(self, error: Exception) -> bool:
        """Return whether the connection is lost."""
        base = self.dialect.loaded_dbapi.Error
        return isinstance(error, base) and self.dialect.is_disconnect(error, self.connection, self.cursor)


class Sqlite(Server):
    """A connection to SQLite."""

    cancels = True

    def __init__(self, connection: Any, dialect: sa.Dialect, say: Say) -> None:
        super().__init__(connection, dialect, say)
        self._was_open = False
        connection.text_factory = lambda data: data.decode(errors="replace")  # a text may hold any bytes

    def prepare(self, isolation: str | None) -> None:
        if isolation not in (None, "serializable"):
            raise ScriptError(f"SQLite has no isolation level '{isolation}'; leave isolation out")

    def _cancel(self) -> None:
        self.connection.interrupt()

    def begin(self) -> None:
        self._was_open = self.open_transaction()

    def open_transaction(self) -> bool:
        return bool(self.connection.in_transaction)

    def was_undone(self) -> bool:
        return self._was_open and not self.open_transaction()  # by an interrupt, a full disk or OR ROLLBACK

    def explain(self, error: Exception, batch: Batch) -> Failure:
        return Failure(str(error), getattr(error, "sqlite_errorname", None), batch.line)


class Postgres(Server):
    """A connection to PostgreSQL."""

    sessions = "pg_locks (advisory), end it (pg_terminate_backend)"

    def prepare(self, isolation: str | None) -> None:
        if isolation == "snapshot":
            raise ScriptError("PostgreSQL has no isolation level 'snapshot'; use 'repeatable read', which is one")
        for setting in END_WITH_CLIENT:
            with suppress(self.dialect.loaded_dbapi.Error):  # old versions, and those on Windows, lack some of them
                self.execute(f"SET {setting}")
        if isolation is not None:
            self.execute(f"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL {isolation.upper()}")


class Psycopg(Postgres):
    """A connection to PostgreSQL with psycopg."""

    cancels = True

    def __init__(self, connection: Any, dialect: sa.Dialect, say: Say) -> None:
        super().__init__(connection, dialect, say)
        connection.add_notice_handler(lambda diagnostic: say(diagnostic.message_primary or ""))
        take_any_value(connection)

    def _take(self, name: str) -> bool:
        # A pooler such as PgBouncer shows its clients numbers of its own. Its sessions outlive them, so they would keep
        # the lock.
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
        backend = self.connection.info.backend_pid
        query = f"SELECT CASE WHEN pg_backend_pid() = {backend} THEN pg_try_advisory_lock({key}) ELSE true END"
        [(is_taken,)] = self.connection.execute(query).fetchall()
        return bool(is_taken)

    def may_pass(self, error: Exception) -> bool:
        return str(getattr(error, "sqlstate", "")).startswith(NO_ROOM)

    def _cancel(self) -> None:
        self.connection.cancel_safe(timeout=5)

    def open_transaction(self) -> bool:
        return bool(self.connection.info.transaction_status.name != "IDLE")

    def explain(self, error: Exception, batch: Batch) -> Failure:
        found = getattr(error, "diag", None)
        if found is None or not found.message_primary:
            return super().explain(error, batch)
        context = re.search(r"(?m)^(?:PL/pgSQL|SQL) function (\S+?)\(.*?\)(?: line (\d+) at)?", found.context or "")
        if context is not None:
            line = int(context[2]) if context[2] else None
            return Failure(found.message_primary, found.sqlstate, line, context[1])
        position = int(found.statement_position) - 1 if found.statement_position else 0
        return Failure(found.message_primary, found.sqlstate, batch.line + batch.text.count("\n", 0, position))

    def is_lost(self, error: Exception) -> bool:
        return bool(self.connection.closed) or super().is_lost(error)


def server(connection: Any, dialect: sa.Dialect, say: Say) -> Server:
    """Return the ``Server`` of a DB-API connection."""
    from jobfac.sqljob.mssql import SqlServer

    known: dict[str, type[Server]] = {
        "sqlite": Sqlite, "postgresql+psycopg": Psycopg, "postgresql": Postgres, "mssql": SqlServer,
    }  # fmt: skip
    kind = known.get(f"{dialect.name}+{dialect.driver}") or known.get(dialect.name) or Server
    return kind(connection, dialect, say)
