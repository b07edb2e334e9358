"""The engine, transactions, and the retry of whole transactions."""

import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from jobfac.database import dialects, locks, sql_files
from jobfac.database.dialects.lease_clock import forward_steps
from jobfac.database.dialects.sqlite_file import DamageWatch
from jobfac.database.sequence_memory import Faulty, SequenceMemory
from jobfac.database.tables import SCHEMA
from jobfac.database.upgrading import refuse_while_workers_live, upgrading_alone
from jobfac.definitions.parameters.matching import Pending, inside_transaction
from jobfac.errors import DatabaseDamaged, Refused, Unreachable, WrongSchema, incomplete_schema, no_schema
from jobfac.settings.database_url import read_url
from jobfac.settings.passwords import without_password

T = TypeVar("T")

MIGRATIONS = Path(__file__).parent / "migrations"

logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL + 1)
# It logs a traceback whenever it closes a broken connection. Commands and roles report an outage in one sentence.

SEQUENCE_LIMIT = 10_000
"""By default one sequence run has at most so many visits of steps, and so many runs of jobs."""


class Database:
    """One engine and its dialect. Shared by all threads of a process."""

    def __init__(
        self, url: str, program: str = "", lock_wait: float | None = None, sequence_limit: int = SEQUENCE_LIMIT
    ) -> None:
        """Connects lazily.

        Args:
            sequence_limit: how many visits of steps, and how many runs of jobs, one sequence run may have.
            program: what a DBA sees in the list of sessions, such as "jobfac worker w1".
            lock_wait: seconds that a statement waits for a lock; None: as long as is usual for the engine.

        Raises:
            Unreachable: jobfac cannot use the URL.
        """
        try:
            self.url = read_url(url)
            self.dialect = dialects.dialect_for(self.url)
            if program:
                self.url = self.dialect.with_program_name(self.url, program)
            self._lock_wait = lock_wait
            self.engine = self.dialect.engine(self.url, lock_wait=lock_wait)
            self.sequences = SequenceMemory()
            self.damage = DamageWatch(str(self.url.database))
            self.engine.update_execution_options(sequence_limit=sequence_limit, sequence_memory=self.sequences)
        except (sa.exc.ArgumentError, ValueError) as error:
            raise Unreachable(f"JOBFAC_DATABASE_URL cannot be used: {error}") from None
        except ImportError as error:
            raise Unreachable(
                f"The driver for {url.split(':', 1)[0]} cannot be loaded ({error}); install jobfac[mssql] or "
                "jobfac[mssql-python], and for pyodbc the system package libodbc2 (unixODBC)."
            ) from None
        self.on_retry: list[Callable[[], None]] = []
        """Called before each retry of a transaction, from any thread."""

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """One transaction that may write, tried once. SQLite: excludes every other writer from its first moment."""
        with inside_transaction(), self.dialect.write_turn(), self.engine.begin() as conn:
            self.dialect.begin(conn, write=True)
            yield conn

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """One transaction that only reads."""
        with self.engine.connect() as conn:
            self.dialect.begin(conn, write=False)
            yield conn

    def transact(self, work: Callable[..., T], *arguments: Any, retry_for: float = 15.0, **named: Any) -> T:
        """Run ``work(conn, *arguments, **named)`` in a transaction; on a transient error, retry the whole transaction.

        ``work`` must be safe to repeat: it may run again after a commit whose answer was lost.

        Args:
            retry_for: seconds after which to stop retrying; 0 tries once.

        Raises:
            Unreachable: the error persisted until ``retry_for`` ended.
        """

        def once() -> T:
            while True:
                try:
                    with self.begin() as conn:
                        return work(conn, *arguments, **named)
                except (Pending, Faulty) as obstacle:  # the locks are free now
                    obstacle.resolve()

        return self.retrying(once, retry_for)

    def single(self, work: Callable[..., T], *arguments: Any, within: float | None = None) -> T:
        """Do the same as ``transact``, without retries, for one statement. SQL Server then needs no commit round trip.

        Args:
            within: timeout in seconds for SQL Server's answer, if it is shorter than the default.

        Raises:
            Unreachable: a transient error.
        """

        def once() -> T:
            if self.dialect.name == "sqlite":
                with self.begin() as conn:
                    return work(conn, *arguments)
            with self.singles.connect() as conn:
                if within is not None:
                    self.dialect.give_up_after(conn, within)
                return work(conn, *arguments)

        return self.retrying(once, 0)

    @cached_property
    def singles(self) -> sa.Engine:
        """An engine whose connections commit each statement. Kept apart: switching a connection costs a round trip."""
        return self.dialect.engine(self.url, "AUTOCOMMIT", self._lock_wait)

    @cached_property
    def _migrating(self) -> sa.Engine:
        """The engine of migrations: Alembic begins several transactions on one connection."""
        engine = self.engine.execution_options()
        sa.event.listen(engine, "begin", partial(self.dialect.begin, write=True))
        return engine

    def query(self, work: Callable[..., T], *arguments: Any, retry_for: float = 15.0, **named: Any) -> T:
        """Do the same as ``transact`` for work that only reads."""

        def once() -> T:
            with self.read() as conn:
                return work(conn, *arguments, **named)

        return self.retrying(once, retry_for)

    def retrying(self, once: Callable[[], T], retry_for: float, waits: float = 0.0) -> T:
        """Call ``once``, and again after passing errors for ``retry_for`` seconds. ``waits``: see ``ForwardSteps``."""
        watched = partial(forward_steps(self.engine.url).watch, once, waits)
        try:
            try:
                return watched()
            except sa.exc.SQLAlchemyError as error:
                if not retry_for or not self.is_transient(error):
                    raise
            return self._retry(watched, retry_for)
        except sa.exc.ResourceClosedError as error:
            raise self._unreachable(error) from error
        except sa.exc.DBAPIError as error:
            if self.dialect.lasting_fault(error) or self.is_transient(error) or _says(error, UNUSABLE):
                raise self._unreachable(error) from error
            if _says(error, MISSING_PART):
                self.check_schema()
                raise incomplete_schema(error.orig) from error
            raise

    def _retry(self, once: Callable[[], T], retry_for: float) -> T:
        import tenacity

        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(self.is_transient),
            wait=tenacity.wait_random_exponential(multiplier=0.02, max=1.0),
            stop=tenacity.stop_after_delay(retry_for),
            before=self._before_retry,
            reraise=True,
        )(once)

    def _before_retry(self, state: Any) -> None:
        for callback in self.on_retry:
            callback()

    def is_transient(self, error: BaseException) -> bool:
        """Whether a retry of the whole transaction may succeed."""
        if isinstance(error, sa.exc.ResourceClosedError):
            return True  # the connection broke while SQLAlchemy initialised it
        return isinstance(error, sa.exc.DBAPIError) and self.dialect.is_transient(error)

    def _unreachable(self, error: sa.exc.DBAPIError | sa.exc.ResourceClosedError) -> Unreachable:
        locked = locks.timed_out(self.read, error)
        kind = DatabaseDamaged if self.dialect.is_damaged(error) else Unreachable
        why = str(getattr(error, "orig", error)).strip().rstrip(".") + ". Check JOBFAC_DATABASE_URL and the server"
        fault = self.dialect.lasting_fault(error) or self.dialect.passing_fault(error) or why
        return locked or self.damage.note(kind(f"The database {self._shown()} cannot be reached: {fault}."))

    def _shown(self) -> str:
        return without_password(self.url.render_as_string(hide_password=True))

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()
        if "singles" in self.__dict__:
            self.singles.dispose()

    def back_up(self, target: Path) -> None:
        """Copy a SQLite database into a new file while it is in use.

        Raises:
            Refused: the engine is SQL Server, which has its own backups, or the file cannot be written.
            Unreachable: the database cannot be read.
        """
        try:
            self.dialect.back_up(self.url, target)
        except FileExistsError:
            raise Refused(f"There is a file {target} already; name another, or remove it.") from None
        except OSError as error:
            raise Refused(f"The backup {target} cannot be written: {error.strerror}.") from None
        except sqlite3.Error as error:
            raise Unreachable(f"The database {self._shown()} was not backed up: {error}.") from error

    # The schema

    def head(self) -> str:
        """Return the schema version that this program needs: that of the last migration.

        It is read from the file names, because importing Alembic costs 12 MB of memory and 0.1 s.
        """
        return max(versions())

    def version(self) -> str | None:
        """Return the schema version of the database, or None if it has no schema.

        Raises:
            Unreachable: the database cannot be reached.
        """
        if self.dialect.is_missing():
            return None
        known = sa.table("alembic_version", sa.column("version_num"), schema=_schema(self.dialect.name))

        def once() -> str | None:
            with self.read() as conn:
                if not sa.inspect(conn).has_table(known.name, schema=known.schema):
                    return None
                return conn.execute(sa.select(known.c.version_num)).scalar()

        try:
            return self.retrying(once, 5.0)
        except sa.exc.DBAPIError as error:
            raise self._unreachable(error) from error

    def check_schema(self) -> None:
        """Check that the schema has the version that this program needs.

        Raises:
            WrongSchema: it is missing, older or newer; the text says which and the remedy.
            Unreachable: the engine itself is too old.
        """
        self._check_engine()
        found, needed = self.version(), self.head()
        if found == needed:
            return
        if found is None:
            raise no_schema(str(self.url.database) if self.dialect.is_missing() else None)
        raise WrongSchema(
            f"The database's schema is version {found} and this program needs {needed}; run `jobfac db upgrade` "
            "if the database is older, or a newer jobfac if it is ahead."
        )

    def _check_engine(self) -> None:
        if unmet := self.query(self.dialect.unmet_requirement, retry_for=5.0):
            raise Unreachable(unmet)

    def upgrade(self) -> None:
        """Upgrade the schema to the version that this program needs, and recreate the views and procedures.

        Raises:
            WrongSchema: the schema belongs to a newer program.
            Refused: the schema is older, and workers of its version are alive.
            Unreachable: the database cannot be reached, or the user may not change its schema.
        """
        from alembic import command

        self.dialect.create()
        self._check_engine()
        if (found := self.version()) is not None and found not in versions():
            raise WrongSchema(
                f"The database's schema is version {found}, which this program does not know; it needs {self.head()}. "
                "Use the newer jobfac that made it."
            )
        try:
            with self._migrating.connect() as conn, upgrading_alone(conn):
                # Another process may have upgraded it meanwhile.
                if (found := self.version()) is not None and found != (needed := self.head()):
                    refuse_while_workers_live(conn, found, needed)
                self.dialect.give_up_after(conn, 0)  # building an index on a large table takes long
                config = _config(self.dialect.name)
                config.attributes["connection"] = conn
                command.upgrade(config, "head")
                sql_files.install(conn)
                conn.commit()
        except sa.exc.DBAPIError as error:
            raise self._unreachable(error) from error


def write_script(engine: str, out: Any, since: str | None = None) -> None:
    """Write the SQL of an upgrade to ``out``; ``engine`` is mssql or sqlite. Needs no driver.

    ``since``: the version from which to upgrade; None: from nothing.
    """
    from alembic import command

    tables = StringIO()
    config = _config(engine)
    config.output_buffer = tables
    command.upgrade(config, "head" if since is None else f"{since}:head", sql=True)
    if since is None:
        out.write(sql_files.script(engine, tables.getvalue(), max(versions())))
    else:
        out.write(sql_files.upgrade_script(engine, tables.getvalue(), since, max(versions())))


def _config(engine: str) -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["engine"] = engine
    config.attributes["schema"] = _schema(engine)
    return config


def versions() -> set[str]:
    """Return the schema versions of this program's migrations."""
    return {path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py")}


def _schema(engine: str) -> str | None:
    return SCHEMA if engine == "mssql" else None


UNUSABLE = ("file is not a database", "disk image is malformed", "permission was denied", "Data source name not found")
"""Texts of errors: of SQLite for no database, of SQL Server for a missing permission, of ODBC for an unknown source."""

MISSING_PART = ("no such table", "no such column", "has no column named", "Invalid object name", "Invalid column name")


def _says(error: sa.exc.DBAPIError, phrases: Sequence[str]) -> bool:
    return any(phrase in str(error.orig) for phrase in phrases)
