"""Back up a SQLite database, safely even into a folder that another user may write.

Such a user could put a link in place of a file between two of our steps. So SQLite, which opens files by name, is
allowed to write only after it was seen that it has opened the file that was created here, and the finished file gets
its name through its descriptor.
"""

import contextlib
import errno
import os
import secrets
import sqlite3
from pathlib import Path
from urllib.parse import quote

from jobfac.database.dialects.sqlite_file import refuse_mounted_alone, refuse_without_index

DESCRIPTORS = Path("/proc/self/fd")

REPLACED = "somebody else has replaced it; choose a folder that only you may write"

_VERSIONS = 18
"""The place of the two bytes of a database's header that say whether it has a write-ahead log (2) or none (1)."""


def back_up(source: str, target: Path) -> None:
    """Copy the database, log included, into a new file by SQLite's backup API, while it is in use.

    The copy is a consistent snapshot that only this user can read. It gets its name only when complete and checked.

    Raises:
        FileExistsError: the target exists.
        OSError, sqlite3.Error: the database cannot be read, or the copy cannot be written.
        Unreachable: the log cannot be seen: the database is mounted without its folder, or somebody has removed the log
            under processes that use it.
    """
    refuse_mounted_alone(source)
    refuse_without_index(source)
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    part = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(part, flags, 0o600)
    try:
        os.fchmod(handle, 0o600)  # a strict umask may have removed this user's own rights
        with (
            contextlib.closing(sqlite3.connect(f"file:{quote(source)}?mode=rw", uri=True, timeout=30)) as original,
            contextlib.closing(_connected(part, handle, "mode=rw")) as copy,
        ):
            copy.execute("PRAGMA journal_mode = OFF")  # a journal would be a second file, opened by its name
            original.backup(copy)  # in one step: with several, each commit in between would restart it
        os.pwrite(handle, b"\1\1", _VERSIONS)  # the copy has no log, so it is one file
        with contextlib.closing(_connected(part, handle, "mode=ro&immutable=1")) as copy:
            found = copy.execute("PRAGMA quick_check").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(f"the copy is damaged: {found}")
        os.fsync(handle)
        _name(part, handle, target)
        _keep_name(target)
    finally:
        os.close(handle)
        part.unlink(missing_ok=True)


def _connected(part: Path, handle: int, options: str) -> sqlite3.Connection:
    """Connect to the file that is open as ``handle``, and not to one that has taken its name.

    Raises:
        OSError: another file has its name.
    """
    before = _open_files()
    connection = sqlite3.connect(f"file:{quote(str(part))}?{options}", uri=True, isolation_level=None)
    try:
        # A number may be that of a file that another thread has closed meanwhile.
        after = _open_files()
        fresh = [one for at, one in after.items() if at not in before or not os.path.samestat(one, before[at])]
        _check(os.fstat(handle), fresh, part)
    except OSError:
        connection.close()
        raise
    return connection


def _open_files() -> dict[str, os.stat_result]:
    """Return the open files of this process by descriptor. Without /proc there is none to see."""
    found = {}
    for number in os.listdir(DESCRIPTORS) if DESCRIPTORS.is_dir() else ():  # noqa: PTH208
        with contextlib.suppress(OSError):  # the descriptor of the listing itself
            found[number] = os.fstat(int(number))
    return found


def _check(mine: os.stat_result, others: list[os.stat_result], part: Path) -> None:
    """Check that one of ``others`` is our file; where none can be seen, that our file has its name.

    Raises:
        OSError: it is not.
    """
    known = others if DESCRIPTORS.is_dir() else [part.lstat()]
    if not any(os.path.samestat(mine, one) for one in known):
        raise OSError(errno.ESTALE, REPLACED)


def _name(part: Path, handle: int, target: Path) -> None:
    """Give the finished file its name without replacing or following what may have this name by now."""
    try:
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.link(DESCRIPTORS / str(handle), target.name, dst_dir_fd=folder, follow_symlinks=True)
        finally:
            os.close(folder)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links, or a system without /proc
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        part.rename(target)
        if not os.path.samestat(os.fstat(handle), target.lstat()):
            raise OSError(errno.ESTALE, REPLACED) from None


def _keep_name(target: Path) -> None:
    """Make the file's name, too, survive a loss of power, where the file system knows how."""
    with contextlib.suppress(OSError):  # the folder may also be one that this user may only write to
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
