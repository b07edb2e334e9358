"""SQLite: the embedded engine. One writer at a time, WAL, every commit durable."""

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

from jobfac.database.dialects import CLAIM_VALUES, CLAIMED, FIRST_END, FITS, RENEW, Found, Survey, lease_clock, look
from jobfac.database.dialects.clock import SQLITE_NOW
from jobfac.database.dialects.sqlite_file import DatabaseFile, back_up
from jobfac.database.tables import run
from jobfac.errors import no_schema
from jobfac.states import RunState

BUSY_TIMEOUT = 30.0
"""Seconds a transaction waits for another writer before SQLite says `database is locked`."""

TURN = 5.0
"""Seconds that a thread waits at most for the other writers of its own process before it tries regardless."""

OLDEST = (3, 35)
"""SQLite's first version with RETURNING."""

TRANSIENT = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
)


class Sqlite:
    """See ``Dialect``."""

    name = "sqlite"
    breath = 0.12  # a writer that waits looks every tenth of a second
    look_interval = 1.0

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._file: DatabaseFile | None = None
        self._clock_is_ready = False  # set by any writer; twice does no harm

    def engine(self, url: sa.URL, isolation_level: str = "READ COMMITTED") -> sa.Engine:
        engine = sa.create_engine(
            url,
            connect_args={"timeout": BUSY_TIMEOUT, "check_same_thread": False},
            pool_size=20,
            max_overflow=100,
            pool_use_lifo=True,  # the last one back is the next one out: so few connections as possible fill up
        )
        self._file = self._file or DatabaseFile(os.path.abspath(str(url.database)))  # noqa: PTH100
        self._file.attach(engine)
        sa.event.listen(engine, "connect", _on_connect)
        sa.event.listen(engine, "begin", self._on_begin)
        return engine

    def _on_begin(self, conn: sa.Connection) -> None:
        # IMMEDIATE: a transaction that will write takes the lock first and waits for it, instead of failing half way.
        if not conn.get_execution_options().get("write", False):
            conn.exec_driver_sql("BEGIN")
            return
        if self._file is not None:
            self._file.check()
        conn.exec_driver_sql("BEGIN IMMEDIATE")
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
            raise no_schema()
        back_up(os.path.abspath(str(url.database)), target)  # noqa: PTH100

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        # SQLite has no queue: who finds the file locked sleeps, longer and longer, and whoever wakes at the right
        # moment is next, so a heartbeat among busy writers may starve for seconds. What excludes writers is still
        # BEGIN IMMEDIATE; this keeps the threads of one process from sleeping past each other.
        taken = self._turn.acquire(timeout=TURN)
        try:
            yield
        finally:
            if taken:
                self._turn.release()

    def claim(self, limit: int, fits: bool = False) -> sa.Executable:
        return _claim(limit, fits)

    def renew(
        self, conn: sa.Connection, worker_id: int, milliseconds: int, pressure: float | None, memory: int | None
    ) -> Any:
        lease_clock.follow(conn)
        values = {"p_id": worker_id, "p_lease": milliseconds, "p_pressure": pressure, "p_memory": memory}
        renewed = conn.execute(RENEW, values).rowcount
        return conn.execute(FIRST_END).one() if renewed else None

    def lock_names(self, conn: sa.Connection, names: Sequence[str], wait: bool) -> None:
        """Nothing to do: a write transaction already excludes every other."""

    def lock_free_names(self, conn: sa.Connection, names: Sequence[str]) -> Sequence[str]:
        return names

    def is_transient(self, error: BaseException) -> bool:
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        code = getattr(cause, "sqlite_errorcode", None)
        return code is not None and code & 0xFF in TRANSIENT and self.lasting_fault(error) is None

    def lasting_fault(self, error: BaseException) -> str | None:
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        code = (getattr(cause, "sqlite_errorcode", None) or 0) & 0xFF
        if self._file is None or code not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            return None
        return self._file.fault()

    def unmet_requirement(self, conn: sa.Connection) -> str | None:
        if sqlite3.sqlite_version_info >= OLDEST:
            return None
        needed = ".".join(map(str, OLDEST))
        return f"SQLite {sqlite3.sqlite_version} is too old, jobfac needs {needed}; use a Python with a newer one."

    def give_up_after(self, conn: sa.Connection, seconds: float) -> None:
        """A file does not vanish on the way."""

    def named(self, url: sa.URL, program: str) -> sa.URL:
        return url

    def waiter(self, engine: sa.Engine, how: str) -> "FileWaiter":
        return FileWaiter(engine)


@functools.cache
def _claim(limit: int, fits: bool) -> sa.Executable:
    first = (
        sa.select(run.c.id)
        .where(
            sa.text(f"state = '{RunState.QUEUED}'"), run.c.queue == sa.bindparam("p_queue"), *([FITS] if fits else [])
        )
        .order_by(run.c.priority.desc(), run.c.id)
        .limit(limit)
    )
    return run.update().where(run.c.id.in_(first)).values(CLAIM_VALUES).returning(*CLAIMED)


def _on_connect(connection: sqlite3.Connection, record: Any) -> None:
    connection.isolation_level = None  # transactions are begun below, never by the driver's guess
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    lease_clock.register(connection)


@functools.cache
def _look(queues: int) -> str:
    """The SQL of a look at so many queues: what there is to do, and seconds until the next scheduled run."""
    found = look("", SQLITE_NOW).replace(":queues", f"({', '.join(f':queue{number}' for number in range(queues))})")
    return f"""\
SELECT {found} AS found,
       (SELECT CAST((julianday(min(ready_at)) - julianday('now')) * 86400.0 AS REAL)
        FROM run WHERE state = '{RunState.SCHEDULED}') AS next"""


class FileWaiter:
    """Looks when somebody has committed: inotify on the write-ahead log tells, elsewhere its size and time."""

    survey: Survey | None = None
    polls_a_second = 200.0
    busy_seconds = 0.0  # a look costs little, and a wait would end with each commit of the busy worker itself
    POLL = 0.02
    FIRST_PAUSE = 0.0003
    LAST_PAUSE = 0.25
    IN_MODIFY = 0x2

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._wal = f"{engine.url.database}-wal"
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

    def wait(self, queues: Sequence[str], worker_id: int, stopping: int, seconds: float) -> Found:
        end = time.monotonic() + seconds
        values: dict[str, Any] = {"worker_id": worker_id, "stopping": stopping}
        values |= {f"queue{number}": queue for number, queue in enumerate(queues)}
        pause = self.FIRST_PAUSE
        while True:
            # Drain, look, wait, in this order: what is written after the look ends the wait.
            watched = self._watch()
            interrupted = self._drain()
            found, until_next = self._see(_look(len(queues)), values)
            left = end - time.monotonic()
            if found or interrupted or left <= 0:
                return Found(found)
            if until_next is not None:
                left = min(left, max(until_next, 0.001))
            # The log is written before the commit can be seen: after news look again, less and less soon.
            news = self._sleep(min(left, pause), watched)
            pause = self.FIRST_PAUSE if news else pause * 2 if pause < self.LAST_PAUSE else math.inf

    def _see(self, text: str, values: dict[str, Any]) -> tuple[int, float | None]:
        """One look, past SQLAlchemy: it stands between every new run and its start."""
        pooled = self._engine.raw_connection()
        try:
            found, until_next = pooled.cursor().execute(text, values).fetchone()
        except sqlite3.Error as error:
            raise sa.exc.OperationalError(text, values, error) from error
        finally:
            pooled.close()
        return found, until_next

    def _watch(self) -> bool:
        """Keep a watch on the log's file, which is another one after the database went away and came back."""
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
        """Sleep until there is news (True) or the time is up."""
        if watched:
            if seconds < 0.001:  # for less than a millisecond poll() cannot wait
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
        """Take all news in; True if one of them was an interrupt."""
        if self._inotify >= 0:
            _empty(self._inotify)
        return _empty(self._reader)

    def interrupt(self) -> None:
        # A full pipe holds interrupts enough.
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
