"""Whether a SQLite file is damaged for certain, so that a role on it has to end."""

import contextlib
import sqlite3
import threading
import time
from urllib.parse import quote

from jobfac.errors import DatabaseDamaged, Unreachable

CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""The errors with which SQLite reports damage."""

PAUSE = 60.0
"""Seconds between two checks of the whole file, if the first one found nothing."""

BUSY = 5.0
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
                self._not_before = time.monotonic() + PAUSE
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
        with contextlib.closing(sqlite3.connect(where, uri=True, timeout=BUSY, isolation_level=None)) as conn:
            return bool(conn.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",))
    except sqlite3.Error as error:
        return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF in CODES
