"""Output files named by a job's definition: overwritten, appended with rotation, or one file per run."""

import contextlib
import errno
import fcntl
import itertools
import os
import stat
from datetime import datetime
from pathlib import Path
from typing import Literal

from jobfac.machine.trusted import folder, open_regular, trusted_owners
from jobfac.programs.failures import StartError, explain_file

Kind = Literal["overwrite", "append", "timestamped"]

MARK = "user.jobfac"
"""The extended attribute that names the series of a file."""

ACCESS_LIST = "system.posix_acl_access"
"""The extended attribute that holds the access control list of a file."""


def destination_path(kind: Kind, pattern: str, directory: str | None, run_id: int, now: datetime) -> Path:
    """Return the path of the file that a program writes to.

    A relative `pattern` is relative to the job's `directory`. `timestamped` replaces the `*` in the name with the time
    and the run id.

    Raises:
        StartError: the name has no `*` for the time.
    """
    path = Path(directory or ".", pattern)
    if kind == "timestamped":
        if "*" not in path.name:
            raise StartError(f"the output file {pattern!r} has no '*' in its name for the time; add one")
        path = path.with_name(path.name.replace("*", f"{now:%Y%m%dT%H%M%SZ}-{run_id}"))
    return path


def open_path(kind: Kind, path: Path, rotate_at: int, keep: int, mark: str = "", who: str = "this worker") -> int:
    """Open the output file with this process's rights; returns the descriptor, which the caller closes.

    Missing folders are created. `append` first renames a file of more than `rotate_at` bytes to `.1`, the former `.1`
    to `.2`, and so on; `keep` of them are kept. The new file has the mode and the group of the renamed one. A file
    that this process may not rename, as in a folder of root, grows on. Only regular files are opened, and symbolic
    links that another user could have created are not followed.

    Args:
        mark: the series of the file (``MARK``), stored if its file system can; empty: none is stored.
        who: the user named in messages.

    Raises:
        StartError: the file cannot be opened, or it is not a regular file.
    """
    # O_APPEND, because two streams or two runs may write to the same file.
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        with folder(path.parent, make=0o777) as at:
            if kind == "append":
                _rotate(path.name, at, rotate_at, keep)
                descriptor = _open_series(path.name, at, flags)
            else:
                descriptor = open_regular(path.name, at, flags, 0o666)
        if kind == "overwrite":  # only after the check that it is a regular file
            os.ftruncate(descriptor, 0)
        if mark:
            with contextlib.suppress(OSError):
                os.setxattr(descriptor, MARK, mark.encode())
    except OSError as error:
        raise StartError(explain_file("the output file", path, error, who)) from error
    return descriptor


def _rotate(name: str, at: int, rotate_at: int, keep: int) -> None:
    """Rotate a file that is too large. Concurrent starts rotate it only once."""
    found = _stat(name, at)
    if found is None or found.st_size <= rotate_at:
        return
    try:
        file = open_regular(name, at, os.O_WRONLY)
    except FileNotFoundError:  # another start has just renamed it
        return
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # another start rotates it, or the program has locked its log
            return
        named = _stat(name, at)
        if named is None or not os.path.samestat(os.fstat(file), named) or named.st_size <= rotate_at:
            return  # another start has rotated it
        with contextlib.suppress(OSError):  # it may not be renamed: the program appends to it
            if keep:
                _make_room(name, at, keep)
                os.replace(name, f"{name}.1", src_dir_fd=at, dst_dir_fd=at)
            else:
                os.ftruncate(file, 0)
    finally:
        os.close(file)


def _make_room(name: str, at: int, keep: int) -> None:
    """Leave no file with the number 1. Only those before a gap move, so that repeated failures lose no further file.

    Raises OSError if a file cannot be looked at: it may be there.
    """
    present = itertools.takewhile(lambda number: _is_there(f"{name}.{number}", at), range(1, keep))
    for number in reversed(list(present)):
        os.replace(f"{name}.{number}", f"{name}.{number + 1}", src_dir_fd=at, dst_dir_fd=at)


def _open_series(name: str, at: int, flags: int) -> int:
    """Open a file that is rotated. A new one is as private as the one that was renamed."""
    found = _stat(name, at)
    former = found or _stat(f"{name}.1", at)  # another start may rename it before it is opened
    if former is None or not stat.S_ISREG(former.st_mode):
        return open_regular(name, at, flags, 0o666 if found is None else 0o600)
    mode = former.st_mode & 0o666 | 0o600
    entries = _access_list(name if found else f"{name}.1", at)
    # Without the access list the mode of the group would be its mask, and another group would get what this one had.
    folder_of = os.fstat(at)
    group = folder_of.st_gid if folder_of.st_mode & stat.S_ISGID else os.getegid()
    is_same = not entries and group == former.st_gid
    # Also of a file that is there with O_CREAT: only then the kernel minds fs.protected_regular.
    descriptor = open_regular(name, at, flags, mode if is_same else mode & 0o606 | (mode & 0o006) << 3)
    is_new = found is None or not os.path.samestat(found, os.fstat(descriptor))
    if is_new and former.st_uid in trusted_owners():  # another user's file may make it more private, but not less
        with contextlib.suppress(OSError):
            os.fchown(descriptor, -1, former.st_gid)
            _set_access_list(descriptor, entries)
            os.fchmod(descriptor, mode)
    return descriptor


def _is_there(name: str, at: int) -> bool:
    try:
        os.stat(name, dir_fd=at, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENAMETOOLONG):  # the number makes its name too long
            return False
        raise
    return True


def _stat(name: str, at: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=at, follow_symlinks=False)
    except OSError:  # it is missing, or the number makes its name too long
        return None


def _access_list(name: str, at: int) -> bytes:
    """Return the POSIX access control list of a file; empty: it has none. Source: acl(5)."""
    try:
        return os.getxattr(f"/proc/self/fd/{at}/{name}", ACCESS_LIST, follow_symlinks=False)
    except (OSError, AttributeError):  # AttributeError: not on Linux
        return b""


def _set_access_list(descriptor: int, entries: bytes) -> None:
    """Replace the access control list of a file, which may have one by its folder. Raises OSError."""
    if entries:
        os.setxattr(descriptor, ACCESS_LIST, entries)
    else:
        with contextlib.suppress(OSError, AttributeError):  # it has none
            os.removexattr(descriptor, ACCESS_LIST)
