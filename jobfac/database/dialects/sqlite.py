"""SQLite, the embedded engine: one writer at a time, WAL mode, durable commits."""

import contextlib
import ctypes
import functools
import math
import os
import select
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from jobfac.database.dialects import (
    CLAIM_VALUES,
    CLAIMED,
    FIRST_END,
    RENEW,
    RENEW_PROMISED,
    Survey,
    WorkSignal,
    lease_clock,
    lease_notice,
    work_expression,
)
from jobfac.database.dialects.clock import SQLITE_NOW
from jobfac.database.dialects.sqlite_file import DAMAGE_CODES, DatabaseFile, damage, log_of, primary_code, set_spill
from jobfac.database.sqlite_backup import back_up
from jobfac.database.tables import run
from jobfac.errors import no_schema
from jobfac.states import RunState

BUSY_TIMEOUT = 30.0
"""Seconds that a transaction waits for another writer before SQLite reports `database is locked`."""

TURN_TIMEOUT = 5.0
"""Seconds that a thread waits for other writers of its process. After that it tries without waiting."""

OLDEST = (3, 35)
"""The first version of SQLite with RETURNING."""

TRANSIENT = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
)

OF_THE_FILE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_BUSY)
"""Errors of the disk and of other processes. After a fault, Linux makes a disk read-only without saying so."""


class Sqlite:
    """See ``Dialect``."""

    name = "sqlite"
    pause_between_writes = property(lambda self: lease_notice.contention.pause)
    poll_interval = 1.0
    gives_notice = True

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._begun = math.inf  # when the thread whose turn it is began to write, or failed to (monotonic)
        self._file: DatabaseFile | None = None
        self._clock_is_ready = False  # set by any writer; setting it twice is harmless

    def engine(self, url: sa.URL, isolation_level: str = "READ COMMITTED", lock_wait: float | None = None) -> sa.Engine:
        engine = sa.create_engine(
            url,
            connect_args={"timeout": BUSY_TIMEOUT if lock_wait is None else lock_wait, "check_same_thread": False},
            hide_parameters=True,  # payloads and sensitive values, in errors
            pool_size=20,
            max_overflow=100,
            pool_use_lifo=True,  # reuse the most recent connection, so few connections fill their page caches
        )
        self._file = self._file or DatabaseFile(os.path.abspath(str(url.database)))  # noqa: PTH100
        self._file.attach(engine)
        sa.event.listen(engine, "connect", _on_connect)
        return engine

    def begin(self, conn: sa.Connection, write: bool) -> None:
        # IMMEDIATE: a transaction that will write takes the lock at its start, instead of failing in the middle.
        self.check_file()
        set_spill(conn, in_memory=write)
        if not write:
            _begin(conn, "BEGIN")
            return
        began = time.monotonic()
        try:
            _begin(conn, "BEGIN IMMEDIATE")
        finally:
            self._begun = lease_notice.contention.waited(began)
        if not self._clock_is_ready:
            self._clock_is_ready = lease_clock.ensure(conn)

    def create(self) -> None:
        if self._file is not None:
            self._file.create()

    def is_missing(self) -> bool:
        return self._file is not None and self._file.is_missing()

    def check_file(self) -> None:
        if self._file is not None:
            self._file.check()

    def back_up(self, url: sa.URL, target: Path) -> None:
        if self.is_missing():
            raise no_schema(str(url.database))
        back_up(os.path.abspath(str(url.database)), target)  # noqa: PTH100

    @contextlib.contextmanager
    def write_turn(self) -> Iterator[None]:
        # SQLite does not queue writers. A writer that finds the file locked sleeps for growing times, and the first one
        # that wakes at the right moment gets the lock, so a heartbeat among busy writers may starve for seconds. BEGIN
        # IMMEDIATE excludes writers; this lock only queues the threads of one process.
        began = time.monotonic()
        taken = self._turn.acquire(timeout=TURN_TIMEOUT)
        lease_notice.contention.rest(began)
        self._begun = math.inf
        try:
            yield
        finally:
            lease_notice.contention.wrote(self._begun)
            if taken:
                self._turn.release()

    def claim(self, limit: int, *conditions: sa.ColumnElement[bool]) -> sa.Executable:
        return _claim(limit, *conditions)

    def renew(
        self, conn: sa.Connection, worker_id: int, milliseconds: int, pressure: float | None, memory: int | None
    ) -> Any:
        lease_clock.follow(conn)
        lease_notice.give_early(conn)
        renew = RENEW_PROMISED if lease_notice.withdraw(conn, worker_id) else RENEW
        values = {"p_id": worker_id, "p_lease": milliseconds, "p_pressure": pressure, "p_memory": memory}
        renewed = conn.execute(renew, values).rowcount
        return conn.execute(FIRST_END).one() if renewed else None

    def require_notice(self, conn: sa.Connection, worker_id: int, milliseconds: int) -> None:
        lease_notice.require(conn, worker_id, milliseconds)

    def endable(self, conn: sa.Connection, worker_ids: Sequence[int]) -> Sequence[int]:
        return lease_notice.endable(conn, worker_ids)

    def promised(self, conn: sa.Connection, worker_id: int) -> float | None:
        return lease_notice.promised(conn, worker_id)

    def lock_names(self, conn: sa.Connection, names: Sequence[str], wait: bool) -> None:
        """Do nothing: a write transaction excludes every other one."""

    def lock_free_names(self, conn: sa.Connection, names: Sequence[str], milliseconds: int) -> Sequence[str]:
        return names

    def is_transient(self, error: BaseException) -> bool:
        return primary_code(error) in TRANSIENT and self.lasting_fault(error) is None

    def is_damaged(self, error: BaseException) -> bool:
        return primary_code(error) in DAMAGE_CODES

    def lasting_fault(self, error: BaseException) -> str | None:
        if self.is_damaged(error):
            return damage(str(getattr(error, "orig", error)))
        if self._file is None or primary_code(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            return None
        return self._file.fault()

    def passing_fault(self, error: BaseException) -> str | None:
        if self._file is None or primary_code(error) not in OF_THE_FILE:
            return None
        return self._file.passing_fault(error)

    def unmet_requirement(self, conn: sa.Connection) -> str | None:
        if sqlite3.sqlite_version_info >= OLDEST:
            return None
        needed = ".".join(map(str, OLDEST))
        return f"SQLite {sqlite3.sqlite_version} is too old, jobfac needs {needed}; use a Python with a newer one."

    def give_up_after(self, conn: sa.Connection, seconds: float) -> None:
        """Do nothing: there is no network."""

    def with_program_name(self, url: sa.URL, program: str) -> sa.URL:
        return url

    def waiter(self, engine: sa.Engine, how: str) -> "FileWaiter":
        return FileWaiter(engine)


@functools.cache
def _claim(limit: int, *conditions: sa.ColumnElement[bool]) -> sa.Executable:
    first = (
        sa.select(run.c.id)
        .where(sa.text(f"state = '{RunState.QUEUED}'"), run.c.queue == sa.bindparam("p_queue"), *conditions)
        .order_by(run.c.priority.desc(), run.c.id)
        .limit(limit)
    )
    return run.update().where(run.c.id.in_(first)).values(CLAIM_VALUES).returning(*CLAIMED)


def _begin(conn: sa.Connection, text: str) -> None:
    """Begin a transaction. It bypasses SQLAlchemy, which adds a tenth to the time of a short transaction."""
    connection = conn.connection.driver_connection
    assert connection is not None
    try:
        connection.execute(text)
    except sqlite3.Error as error:
        raise sa.exc.OperationalError(text, None, error) from error


def _on_connect(connection: sqlite3.Connection, record: Any) -> None:
    connection.isolation_level = None  # ``begin`` begins transactions, not the driver
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA journal_size_limit = 67108864")  # a log that a long read made larger becomes smaller
    lease_clock.register(connection)


@functools.cache
def _poll_query(queues: int) -> str:
    """Return the query for this number of queues: the work signal, and seconds until the next scheduled run."""
    names = ", ".join(f":queue{number}" for number in range(queues))
    signal = work_expression("", SQLITE_NOW).replace(":queues", f"({names})")
    return f"""\
SELECT {signal} AS found,
       (SELECT CAST((julianday(min(ready_at)) - julianday('now')) * 86400.0 AS REAL)
        FROM run WHERE state = '{RunState.SCHEDULED}') AS next"""


class FileWaiter:
    """Polls after each commit of any process. On Linux inotify reports writes to the write-ahead log; on other systems
    the log's size and modification time are polled."""

    survey: Survey | None = None
    polls_a_second = 200.0
    busy_seconds = 0.0  # a poll is cheap, and each commit of the busy worker itself would end a longer wait
    POLL = 0.02
    FIRST_PAUSE = 0.0003
    LAST_PAUSE = 0.25
    IN_MODIFY = 0x2

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._wal = log_of(str(engine.url.database))
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._inotify = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC) if sys.platform == "linux" else -1
        self._inode = 0
        self._ready = select.poll()  # not select(): a worker with many open files passes its limit of 1,024
        self._ready.register(self._reader, select.POLLIN)
        if self._inotify >= 0:
            self._ready.register(self._inotify, select.POLLIN)

    def wait(self, queues: Sequence[str], worker_id: int, stopping: int, seconds: float) -> WorkSignal:
        end = time.monotonic() + seconds
        values: dict[str, Any] = {"worker_id": worker_id, "stopping": stopping}
        values |= {f"queue{number}": queue for number, queue in enumerate(queues)}
        pause = self.FIRST_PAUSE
        while True:
            # Drain, poll, sleep, in this order, so a write after the poll ends the sleep.
            watched = self._watch()
            interrupted = self._drain()
            signal, until_next = self._poll(_poll_query(len(queues)), values)
            left = end - time.monotonic()
            if signal or interrupted or left <= 0:
                return WorkSignal(signal)
            if until_next is not None:
                left = min(left, max(until_next, 0.001))
            # The log is written before the commit is visible, so poll again after a write, with growing pauses.
            written = self._sleep(min(left, pause), watched)
            pause = self.FIRST_PAUSE if written else pause * 2 if pause < self.LAST_PAUSE else math.inf

    def _poll(self, text: str, values: dict[str, Any]) -> tuple[int, float | None]:
        """Poll once. It bypasses SQLAlchemy, because a poll precedes the start of every run."""
        try:
            with contextlib.closing(self._engine.raw_connection()) as pooled:
                found, until_next = pooled.cursor().execute(text, values).fetchone()
        except sqlite3.Error as error:
            raise sa.exc.OperationalError(text, values, error) from error
        return found, until_next

    def _watch(self) -> bool:
        """Watch the log's current file; returns whether it is watched. The file changes if the database was closed."""
        if self._inotify < 0:
            return False
        try:
            inode = os.stat(self._wal).st_ino  # noqa: PTH116 - called often
        except OSError:
            self._inode = 0
            return False
        if inode != self._inode:
            watch = self._libc.inotify_add_watch(self._inotify, os.fsencode(self._wal), self.IN_MODIFY)
            self._inode = inode if watch >= 0 else 0
        return self._inode != 0

    def _sleep(self, seconds: float, watched: bool) -> bool:
        """Sleep until the log is written or the wait is interrupted (True), or until the time is over (False)."""
        if watched:
            if seconds < 0.001:  # the resolution of poll() is one millisecond
                time.sleep(seconds)
                seconds = 0.0
            return bool(self._ready.poll(seconds * 1000))
        end = time.monotonic() + seconds
        seen = self._signature()
        while (left := end - time.monotonic()) > 0 and self._signature() == seen:
            if self._ready.poll(min(left, self.POLL) * 1000):
                return True
        return left > 0

    def _signature(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self._wal)  # noqa: PTH116
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _drain(self) -> bool:
        """Discard all pending events; returns whether the wait was interrupted."""
        if self._inotify >= 0:
            _empty(self._inotify)
        return _empty(self._reader)

    def interrupt(self) -> None:
        # If the pipe is full, it already contains an interrupt.
        with contextlib.suppress(BlockingIOError):
            os.write(self._writer, b"!")

    def close(self) -> None:
        for fd in (self._reader, self._writer, self._inotify):
            if fd >= 0:
                os.close(fd)


def _empty(fd: int) -> bool:
    anything = False
    with contextlib.suppress(BlockingIOError):
        while os.read(fd, 65536):
            anything = True
    return anything
