"""The file of a SQLite database: how it is made, opened, and watched for somebody who removes or replaces it."""

import contextlib
import errno
import os
import sqlite3
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from jobfac.errors import DatabaseReplaced, no_schema

Inode = tuple[int, int]  # device and number

REMOVED = "; stop every jobfac that uses it, then start anew: what was written since may be lost"


class DatabaseFile:
    """One database file as this process knows it. Attached to an engine, whose connections it counts.

    A process that goes on with a file that was deleted or replaced writes what nobody else sees, and claims runs that
    others claim, too. SQLite does not notice; the inodes tell.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.log = f"{path}-wal"
        self._known: Inode | None = None
        self._log_known: Inode | None = None  # of the write-ahead log, while a connection is open
        self._open = 0  # written by the threads that connect; the pool calls in turn

    def attach(self, engine: sa.Engine) -> None:
        """Open the file by these rules from now on."""
        sa.event.listen(engine, "do_connect", self._before_connect)
        sa.event.listen(engine, "connect", self._connected)
        sa.event.listen(engine, "close", self._closed)

    def create(self) -> None:
        """Make an empty file, readable and writable by this user alone, if there is none.

        SQLite gives its write-ahead log the mode of the file.
        """
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError:  # it exists, or cannot be made: opening it says why
            return
        try:
            os.fchmod(handle, 0o600)  # a strict umask may have taken our own rights
        finally:
            os.close(handle)

    def is_missing(self) -> bool:
        """Whether it is not there, and this process never saw it: a file that was moved away may come back."""
        return self._known is None and os.path.isdir(os.path.dirname(self.path)) and not os.path.exists(self.path)  # noqa: PTH110, PTH112, PTH120

    def check(self) -> None:
        """Make sure that the open file is still the one that has its name. A file that was moved away may come back.

        Raises:
            DatabaseReplaced: another file has its place, or its write-ahead log was deleted.
        """
        found = _inode(self.path)
        if found is not None and self._known is not None and found != self._known:
            raise DatabaseReplaced(f"The database file {self.path} was replaced while it was in use{REMOVED}.")
        if self._log_known is None:
            self._log_known = _inode(self.log) if self._open else None
        elif self._open and _inode(self.log) != self._log_known and self._is_deleted(self.log):
            raise DatabaseReplaced(f"The write-ahead log {self.log} was deleted while it was in use{REMOVED}.")

    def fault(self) -> str | None:
        """Why a file that could not be opened or written stays so, as a sentence; None: it may change by itself."""
        path = Path(self.path)
        if not path.parent.is_dir():
            return f"there is no folder {path.parent}; create it, or correct JOBFAC_DATABASE_URL"
        if not path.exists():
            return None
        if _is_read_only(path):
            return f"{path} lies on a file system that is mounted read-only; mount it writable, or move the file"
        for place, right in ((path, os.R_OK), (path, os.W_OK), (path.parent, os.W_OK | os.X_OK)):
            if not os.access(place, right):
                what = "read" if right == os.R_OK else "write"
                return f"this user may not {what} {place}; grant the right (SQLite writes beside the file, too)"
        return None

    def _before_connect(self, dialect: Any, record: Any, arguments: list[Any], named: dict[str, Any]) -> None:
        self.check()
        if self.is_missing():
            raise no_schema()
        if not str(arguments[0]).startswith("file:"):
            # Never make the file on the way: an empty one in the place of one that was moved away would be a new
            # database, open to other users.
            arguments[0] = f"file:{quote(str(arguments[0]))}?mode=rw"
            named["uri"] = True

    def _connected(self, connection: sqlite3.Connection, record: Any) -> None:
        self._open += 1
        if self._known is None:
            self._known = _inode(self.path)

    def _closed(self, connection: sqlite3.Connection, record: Any) -> None:
        self._open -= 1
        if self._open == 0:  # whoever closes last deletes the log
            self._log_known = None

    def _is_deleted(self, path: str) -> bool:
        """Whether this process holds a file open that was deleted under this name."""
        if sys.platform != "linux":
            return True
        gone = f"{os.path.realpath(path)} (deleted)"
        return any(_link(number) == gone for number in os.listdir("/proc/self/fd"))  # noqa: PTH208


def back_up(source: str, target: Path) -> None:
    """Copy the database, log included, into a new file by SQLite's backup API, while it is in use.

    The copy is of one moment, readable by this user alone, complete and checked when it has its name.

    Raises:
        FileExistsError: there is a file of that name.
        OSError, sqlite3.Error: it cannot be read or written.
    """
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    part = target.with_name(f"{target.name}.part-{os.getpid()}")
    handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(handle, 0o600)
        with (
            contextlib.closing(sqlite3.connect(f"file:{quote(source)}?mode=rw", uri=True, timeout=30)) as original,
            contextlib.closing(sqlite3.connect(part)) as copy,
        ):
            original.backup(copy)  # in one step: in several, every commit meanwhile would begin it anew
            copy.execute("PRAGMA journal_mode = DELETE")  # so that the copy is this one file
            found = copy.execute("PRAGMA quick_check").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(f"the copy is damaged: {found}")
        os.fsync(handle)
        _name(part, target)
    finally:
        os.close(handle)
        part.unlink(missing_ok=True)


def _name(part: Path, target: Path) -> None:
    """Give the finished file its name without replacing another."""
    try:
        os.link(part, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        part.rename(target)


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
