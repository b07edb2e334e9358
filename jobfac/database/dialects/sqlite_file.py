"""The file of a SQLite database: create it, open it, and detect that it was removed, replaced or damaged."""

import contextlib
import errno
import os
import re
import sqlite3
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from jobfac.errors import DatabaseDamaged, DatabaseReplaced, Unreachable, no_schema
from jobfac.machine.disk import clause, why_not_seen, why_not_written
from jobfac.machine.file_locks import writer_of

Inode = tuple[int, int]  # device and number
MOUNTS = Path("/proc/self/mountinfo")
LOCKS = Path("/proc/locks")

SHARED = "1073741826"
"""The first byte of the lock that a connection in WAL mode shares. Source: SQLite's os.h, SHARED_FIRST."""

WRITE_LOCK = 120
"""The byte of the log's index that a writer locks. Source: SQLite's walformat, "Locks"."""

OPENING = 1.0
"""Seconds that a process has to open or to close the database."""

ROOM = 1 << 16
"""Free bytes below which a failed write is explained by a full disk: two pages of the log's index."""

REMOVED = "; stop every jobfac process that uses it and start them again: what was written since may be lost"


def primary_code(error: BaseException) -> int:
    """SQLite's primary error code; 0: it is no error of SQLite."""
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    return (getattr(cause, "sqlite_errorcode", None) or 0) & 0xFF


def damage(why: str) -> str:
    """The clause for a damaged file, with the remedy."""
    return (
        f"its file is damaged ({why}), as after a copy was written over it while it was in use, or its disk fails (see "
        "dmesg, and repair that first: the file may be whole); stop every jobfac process that uses it, move the file, "
        "its -wal and its -shm away, and put a backup in their place"
    )


def log_of(path: str) -> str:
    """The path of a file's write-ahead log. SQLite puts it beside the file itself, not beside a link to it."""
    return f"{os.path.realpath(path)}-wal"


def index_of(path: str) -> str:
    """The path of the log's index, which holds the locks of all processes, too."""
    return f"{os.path.realpath(path)}-shm"


_SPILL = "spill"
"""The place in a connection's ``info`` of whether it keeps in memory what it needs for one statement."""


def set_spill(conn: sa.Connection, in_memory: bool) -> None:
    """Choose where SQLite keeps what it needs for one statement: in memory or in files. For outside of transactions.

    A statement that changes many pages keeps a journal, by default in a folder that any user may fill, such as
    /var/tmp. Ours change few enough for memory. What a report sorts may be large; only the report fails without room.
    """
    if conn.info.get(_SPILL) != in_memory:
        connection = conn.connection.driver_connection
        assert connection is not None
        connection.execute(f"PRAGMA temp_store = {'MEMORY' if in_memory else 'DEFAULT'}")
        conn.info[_SPILL] = in_memory


class DatabaseFile:
    """One database file, attached to an engine; it counts the engine's connections.

    After the file was deleted or replaced, this process would write rows that no other process sees, and claim runs
    that others claim too. SQLite does not detect this, so this class compares inodes.
    """

    def __init__(self, path: str) -> None:
        """Raises ``ValueError`` if jobfac cannot name the file."""
        try:
            path.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{os.fsencode(path)!r} is not UTF-8; choose a folder whose name is") from None
        self.path = path
        self._beside = {log_of(path): "write-ahead log", index_of(path): "index of the write-ahead log"}
        self._known: Inode | None = None
        self._beside_known: dict[str, Inode] = {}  # of the files beside it, while a connection is open
        self._open = 0  # written by the threads that connect; the pool serialises the calls

    def attach(self, engine: sa.Engine) -> None:
        """Check the file whenever the engine opens a connection, and count its connections."""
        sa.event.listen(engine, "do_connect", self._before_connect)
        sa.event.listen(engine, "connect", self._connected)
        sa.event.listen(engine, "close", self._closed)

    def create(self) -> None:
        """Create an empty file that only this user can read and write, unless the file exists.

        SQLite gives its write-ahead log the mode of the file.

        Raises:
            Unreachable: it cannot be created in its folder. Opening it reports a folder that does not exist.
        """
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if self.is_missing():
                raise Unreachable(
                    f"The database {self.path} cannot be created: {error.strerror}; choose a folder that this user may "
                    "write, by changing to it or with JOBFAC_DATABASE_URL."
                ) from None
            return
        try:
            os.fchmod(handle, 0o600)  # a strict umask may have removed this user's own rights
        finally:
            os.close(handle)

    def is_missing(self) -> bool:
        """Whether the file is missing and this process never opened it: a file that was moved away may come back."""
        return self._known is None and os.path.isdir(os.path.dirname(self.path)) and not os.path.exists(self.path)  # noqa: PTH110, PTH112, PTH120

    def check(self) -> None:
        """Check that the path still names the open file. A file that was moved away is no error: it may come back.

        Raises:
            DatabaseReplaced: another file has taken its path, or its write-ahead log or the log's index was deleted.
        """
        found = _inode(self.path)
        if found is not None and self._known is not None and found != self._known:
            raise DatabaseReplaced(f"The database file {self.path} was replaced while it was in use{REMOVED}.")
        for path, name in self._beside.items() if self._open else ():
            found = _inode(path)
            if found is not None and path not in self._beside_known:
                self._beside_known[path] = found
            elif found != self._beside_known.get(path) and self._is_deleted(path):
                raise DatabaseReplaced(f"The {name} {path} was deleted while it was in use{REMOVED}.")

    def fault(self) -> str | None:
        """The lasting reason why the file cannot be opened or written, as a clause; None: the fault may pass."""
        path = Path(self.path)
        # Functions of os.path, because those of Path raise errors of a folder that may not be entered, or of a disk.
        if not os.path.isdir(path.parent):  # noqa: PTH112
            missing = f"there is no folder {path.parent} for this user; create it, or correct JOBFAC_DATABASE_URL"
            return why_not_seen(path.parent) or missing
        if not os.path.exists(path):  # noqa: PTH110
            return None
        if _is_read_only(path):
            return f"{path} lies on a file system that is mounted read-only; mount it writable, or move the file"
        # Another user of the file may have made those beside it, with its own group.
        beside = [(Path(one), right) for one in self._beside for right in (os.R_OK, os.W_OK)]
        for place, right in ((path, os.R_OK), (path, os.W_OK), (path.parent, os.W_OK | os.X_OK), *beside):
            if os.path.exists(place) and not os.access(place, right):  # noqa: PTH110
                what = "read" if right == os.R_OK else "write"
                return f"this user may not {what} {place}; grant the right (SQLite writes beside the file, too)"
        return None

    def passing_fault(self, error: BaseException) -> str | None:
        """Which process holds the lock, or what is wrong with the disk, as a clause with the remedy; None: nothing."""
        if primary_code(error) == sqlite3.SQLITE_BUSY:
            holder = writer_of(index_of(self.path), WRITE_LOCK) or f"another process, which `fuser {self.path}` finds"
            return f"database is locked by {holder}; if the lock stays, end its transaction"
        folder = Path(self.path).parent
        with contextlib.suppress(OSError):  # the disk fails, as below
            found = os.statvfs(folder)
            if found.f_bavail * found.f_frsize < ROOM:
                return clause(folder, errno.ENOSPC)
        if primary_code(error) != sqlite3.SQLITE_FULL:
            name = getattr(getattr(error, "orig", error), "sqlite_errorname", str(error))
            known = name if primary_code(error) == sqlite3.SQLITE_IOERR else None
            return why_not_written(folder, (Path(self.path), Path(log_of(self.path))), known)
        return "SQLite has no room for temporary files; make room in $SQLITE_TMPDIR, $TMPDIR, /var/tmp or /tmp"

    def _before_connect(self, dialect: Any, record: Any, arguments: list[Any], named: dict[str, Any]) -> None:
        self.check()
        if self.is_missing():
            raise no_schema(self.path)
        if self._known is None:
            refuse_mounted_alone(self.path)
        if not self._open:
            refuse_without_index(self.path)
        if not str(arguments[0]).startswith("file:"):
            # Never create the file here: an empty file in place of one that was moved away would be a new database,
            # open to other users.
            arguments[0] = f"file:{quote(str(arguments[0]))}?mode=rw"
            named["uri"] = True

    def _connected(self, connection: sqlite3.Connection, record: Any) -> None:
        self._open += 1
        if self._known is None:
            self._known = _inode(self.path)

    def _closed(self, connection: sqlite3.Connection, record: Any) -> None:
        self._open -= 1
        if self._open == 0:  # the last connection to close deletes the log
            self._beside_known = {}

    def _is_deleted(self, path: str) -> bool:
        """Whether this process has a deleted file of this path open. Always true on systems other than Linux."""
        if sys.platform != "linux":
            return True
        gone = f"{os.path.realpath(path)} (deleted)"
        return any(_link(number) == gone for number in os.listdir("/proc/self/fd"))  # noqa: PTH208


def refuse_mounted_alone(path: str) -> None:
    """Refuse a file that is a mount of its own, as far as the kernel tells. Format: proc_pid_mountinfo(5).

    Raises:
        Unreachable: it is one.
    """
    place = re.sub(rb"[ \t\n\\]", lambda found: b"\\%03o" % ord(found[0]), os.fsencode(os.path.realpath(path)))
    try:
        points = [line.split(b" ")[4] for line in MOUNTS.read_bytes().splitlines()]
    except (OSError, IndexError):
        return
    if place in points:
        raise Unreachable(
            f"The database file {path} is mounted without its folder, as by a container's volume of one file: "
            "processes outside would not see the write-ahead log beside it, and what was written would be lost; mount "
            "the folder instead."
        )


def refuse_without_index(path: str) -> None:
    """Refuse a file that other processes use without the log or the index that they use.

    SQLite would make new ones, and exclude none of them: the file would be damaged. Format: proc_locks(5).

    Raises:
        Unreachable: one of these files is missing.
    """
    until = time.monotonic() + OPENING
    while missing := next((one for one in (log_of(path), index_of(path)) if not os.path.exists(one)), None):  # noqa: PTH110
        if not _is_used(path):
            return
        if time.monotonic() >= until:
            raise Unreachable(f"The file {missing} was removed while other processes use the database{REMOVED}.")
        time.sleep(0.01)  # another process is just opening or closing the database


def _is_used(path: str) -> bool:
    """Whether a process has opened the database, as far as the kernel tells: each one shares a lock on the file."""
    found = _inode(path)
    if found is None:
        return False
    place = f"{os.major(found[0]):02x}:{os.minor(found[0]):02x}:{found[1]}"
    try:
        held = [line.split() for line in LOCKS.read_text().splitlines()]
    except OSError:
        return False
    return any(one[1:4] == ["POSIX", "ADVISORY", "READ"] and one[5] == place and one[6] == SHARED for one in held)


def _inode(path: str) -> Inode | None:
    try:
        found = os.stat(path)  # noqa: PTH116 (hot)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _link(number: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115 (hot)
    except OSError:
        return ""


def _is_read_only(path: Path) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


DAMAGE_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""The errors with which SQLite reports damage."""

DAMAGE_PAUSE = 60.0
"""Seconds between two checks of the whole file, if the first one found nothing."""

DAMAGE_BUSY = 5.0
"""Seconds that the check waits for other users of the file."""


class DamageWatch:
    """Remembers that a statement found damage, and confirms it once. Used by all threads of a process.

    One error may be due to a page that another process was just overwriting. So a new connection, without the pages
    that the others remember, checks the whole file.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._suspected: DatabaseDamaged | None = None  # set by any thread that saw an error
        self._certain: DatabaseDamaged | None = None  # set by the holder of the lock, never reset
        self._checking = threading.Lock()
        self._not_before = 0.0

    def note(self, error: Unreachable) -> Unreachable:
        """Remember the error if it reports damage. Returns the error."""
        if isinstance(error, DatabaseDamaged):
            self._suspected = error
        return error

    @property
    def is_suspected(self) -> bool:
        """Whether ``certain`` may have to read the whole file."""
        return self._suspected is not None

    def certain(self) -> DatabaseDamaged | None:
        """Return the error if the file is damaged for certain. It stays so. May read the whole file."""
        if self._suspected is None or self._certain is not None or not self._checking.acquire(blocking=False):
            return self._certain
        try:
            if time.monotonic() >= self._not_before:
                suspected, self._suspected = self._suspected, None
                if is_damaged(self._path):
                    self._suspected = self._certain = suspected
                self._not_before = time.monotonic() + DAMAGE_PAUSE
        finally:
            self._checking.release()
        return self._certain

    def check(self) -> None:
        """Check that the file is not known to be damaged.

        Raises:
            DatabaseDamaged: it is damaged for certain.
        """
        if (error := self.certain()) is not None:
            raise error.with_traceback(None)


def is_damaged(path: str) -> bool:
    """Whether SQLite's own check finds damage, up to the first fault. False if the file cannot be opened."""
    try:
        where = f"file:{quote(path)}?mode=rw"
        with contextlib.closing(sqlite3.connect(where, uri=True, timeout=DAMAGE_BUSY, isolation_level=None)) as conn:
            return bool(conn.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",))
    except sqlite3.Error as error:
        return primary_code(error) in DAMAGE_CODES
