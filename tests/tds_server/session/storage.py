"""The PostgreSQL connection of one session: transactions that survive a failed statement, and mapped errors."""

import contextlib
from collections.abc import Callable, Generator, Sequence
from typing import Any

import psycopg
from psycopg import errors as pg

from tests.tds_server.errors import CancelledError, SqlError, from_postgres

Cursor = psycopg.Cursor[Any]
STATEMENT = "the statement"  # the savepoint around each statement inside a transaction
POSTGRES_ISOLATION = {"READ UNCOMMITTED": "READ COMMITTED", "SNAPSHOT": "REPEATABLE READ"}


class WatchedConnection(psycopg.Connection[Any]):
    """Checks during a long statement whether the client still waits for it, and cancels the statement if not."""

    interrupted: Callable[[], bool]

    def wait(self, gen: Any, interval: float = 0.05, timeout: float | None = None) -> Any:
        return super().wait(self._watched(gen), interval, timeout)

    def _watched(self, gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        cancelled, ready = False, None
        while True:
            try:
                ready = yield gen.send(ready)
            except StopIteration as end:
                return end.value
            if not ready and not cancelled and self.is_abandoned():
                self.cancel_safe()
                cancelled = True

    def is_abandoned(self) -> bool:
        """Whether the client has cancelled its request or disconnected."""
        try:
            return self.interrupted()
        except OSError:  # the client has disconnected; the session detects this when it answers
            return True


class Storage:
    """Executes statements, inside the transaction if there is one.

    PostgreSQL's transaction begins with the first statement. Every later statement has its own savepoint, because on
    SQL Server a failed statement does not end a transaction, unless ``is_ended_by_error`` says that it does.
    """

    def __init__(self, connection: WatchedConnection, interrupted: Callable[[], bool]) -> None:
        self.connection = connection
        self.connection.interrupted = interrupted
        self.is_ended_by_error: Callable[[], bool] = lambda: False
        self.spid = self.connection.info.backend_pid
        self.depth = 0  # @@TRANCOUNT
        self.isolation = "READ COMMITTED"
        self.lock_timeout = -1
        self.ended_by = ""  # how the last transaction ended: COMMIT or ROLLBACK
        self._begun = False
        self._saved: set[str] = set()  # the client's savepoints
        self._constraints: dict[str, str] = {}

    def close(self) -> None:
        self.connection.close()

    # Statements

    def run(self, sql: str, arguments: Sequence[Any] = (), survived: bool = False) -> Cursor:
        """Execute one statement. ``survived``: the transaction continues after an error in any case.

        Raises:
            SqlError: the statement failed. If the error ends the transaction, it is rolled back.
            CancelledError: the client cancelled or disconnected.
        """
        try:
            if not self.depth:
                return self.connection.execute(sql, arguments)
            return self._run_within(sql, arguments, survived)
        except pg.QueryCanceled:
            raise CancelledError from None
        except psycopg.Error as error:
            raise self._translated(error, sql) from None

    def _run_within(self, sql: str, arguments: Sequence[Any], survived: bool) -> Cursor:
        saves = self._begun and (survived or not self.is_ended_by_error())
        try:
            if self._begun and not saves:
                return self.connection.execute(sql, arguments)
            with self.connection.pipeline():
                self.connection.execute(f'SAVEPOINT "{STATEMENT}"' if saves else self._begin())
                cursor = self.connection.execute(sql, arguments)
                if saves:
                    self.connection.execute(f'RELEASE SAVEPOINT "{STATEMENT}"')
        except psycopg.Error as error:
            if isinstance(error, pg.DeadlockDetected | pg.SerializationFailure) and not survived:
                self._begun = True  # perhaps with this statement
                self.rollback()
            elif saves:
                self.connection.execute(f'ROLLBACK TO SAVEPOINT "{STATEMENT}"; RELEASE SAVEPOINT "{STATEMENT}"')
            elif self._begun:
                self._finish("ROLLBACK")  # the depth stays until the session has processed the error
            elif not self.connection.closed:
                self.connection.execute("ROLLBACK")
            raise
        self._begun = True
        return cursor

    def _begin(self) -> str:
        return f"BEGIN ISOLATION LEVEL {POSTGRES_ISOLATION.get(self.isolation, self.isolation)}"

    def _translated(self, error: psycopg.Error, sql: str) -> SqlError:
        if self.connection.broken:
            return SqlError(596, "Cannot continue the execution because the session is in the kill state.", 21)
        name = error.diag.constraint_name
        key = self._key(name) if isinstance(error, pg.UniqueViolation) and name else ""
        return from_postgres(error, self.spid, key, sql)

    def _key(self, name: str) -> str:
        """Return the kind of a unique index: PRIMARY KEY, UNIQUE KEY, or "" if it belongs to no constraint."""
        if name not in self._constraints:
            query = "SELECT contype FROM pg_constraint WHERE conname = $1 AND contype IN ('p', 'u')"
            found = self.connection.execute(query, [name]).fetchone()
            self._constraints[name] = "" if found is None else "PRIMARY KEY" if found[0] == "p" else "UNIQUE KEY"
        return self._constraints[name]

    # Transactions

    def begin(self) -> None:
        self.depth += 1

    def commit(self) -> None:
        """Commit one level. Raises SqlError 3902 outside a transaction."""
        if not self.depth:
            raise SqlError(3902, "The COMMIT TRANSACTION request has no corresponding BEGIN TRANSACTION.")
        self.depth -= 1
        if not self.depth:
            self._finish("COMMIT")

    def rollback(self) -> None:
        """Roll back all levels. Raises SqlError 3903 outside a transaction."""
        if not self.depth:
            raise SqlError(3903, "The ROLLBACK TRANSACTION request has no corresponding BEGIN TRANSACTION.")
        self.depth = 0
        self._finish("ROLLBACK")

    def _finish(self, how: str) -> None:
        self.ended_by = how
        begun, self._begun = self._begun, False
        self._saved.clear()
        if not begun:
            return
        try:
            self.connection.execute(how)
        except psycopg.Error as error:
            raise self._translated(error, how) from None
        if how == "ROLLBACK" and self.lock_timeout >= 0:  # PostgreSQL has rolled back the setting too
            self.run(f"SET lock_timeout = {_lock_timeout(self.lock_timeout)}")

    def save(self, name: str) -> None:
        """Create a savepoint of the client. Raises SqlError 628 outside a transaction."""
        if not self.depth:
            raise SqlError(628, "Cannot issue SAVE TRANSACTION when there is no active transaction.")
        if not self._begun:
            self.connection.execute(self._begin())
            self._begun = True
        self.connection.execute(f'SAVEPOINT "{name}"')
        self._saved.add(name)

    def rollback_to(self, name: str) -> None:
        """Roll back to a savepoint. Raises SqlError 6401 for an unknown savepoint; the transaction continues."""
        if name not in self._saved:
            raise SqlError(6401, f"Cannot roll back {name}. No transaction or savepoint of that name was found.")
        self.connection.execute(f'ROLLBACK TO SAVEPOINT "{name}"')

    # Settings and locks

    def reset(self) -> None:
        """Reset the connection for the next user of a pool."""
        if self.depth:
            self.rollback()
        self.isolation = "READ COMMITTED"
        self.set_lock_timeout(-1)
        self.run("SELECT pg_advisory_unlock_all()")

    def set_lock_timeout(self, milliseconds: int) -> None:
        """Set the lock timeout: -1 waits forever, 0 does not wait."""
        if milliseconds != self.lock_timeout:
            self.run(f"SET lock_timeout = {_lock_timeout(milliseconds)}")
            self.lock_timeout = milliseconds

    def lock(self, resource: str, shared: bool, whole_session: bool, milliseconds: int) -> int:
        """Take an application lock. Returns 0: granted; -1: timed out; -3: deadlock victim.

        Neither ends the transaction. Source: Microsoft, "sp_getapplock".
        """
        if not self.depth and not whole_session:
            return -999
        usual = self.lock_timeout
        suffix = ("" if whole_session else "_xact") + "_lock" + ("_shared" if shared else "")
        self.set_lock_timeout(milliseconds)
        try:
            self.run(f"SELECT pg_advisory{suffix}(hashtextextended($1, 0))", [resource], survived=True)
        except SqlError as error:
            if error.number not in (1222, 1205):
                raise
            return -1 if error.number == 1222 else -3
        finally:
            with contextlib.suppress(SqlError):
                self.set_lock_timeout(usual)
        return 0

    def unlock(self, resource: str) -> bool:
        """Release a session's application lock; returns whether it was held."""
        return bool(self.run("SELECT pg_advisory_unlock(hashtextextended($1, 0))", [resource]).fetchone()[0])  # type: ignore[index]


def _lock_timeout(milliseconds: int) -> int:
    return 0 if milliseconds < 0 else max(milliseconds, 1)
