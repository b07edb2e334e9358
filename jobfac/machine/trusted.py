"""Opens folders and files without following the symbolic links of other users.

A folder is opened one path component at a time. A symbolic link is followed only if root or this process's user owns
it, so an administrator can move a log folder to another disk and leave a link. ``open_regular`` follows no link.
"""

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LINKS = 40
"""Maximum number of symbolic links in one path, as in the kernel."""

LEASE = 0.5
"""Seconds to wait for another process to return its lease on a file. The first attempt to open the file asks for it."""

# O_PATH also opens a folder that may be entered but not read.
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class ForeignLink(OSError):
    """A symbolic link in the path belongs to a user other than root and this process's user."""


def trusted_owners() -> frozenset[int]:
    """The ids of the users whose symbolic links are followed: root and this process's user."""
    return frozenset({0, os.geteuid()})


@contextmanager
def folder(path: Path, make: int | None = None) -> Iterator[int]:
    """Open the folder ``path`` and yield its descriptor, which is closed at the end of the ``with``.

    Args:
        make: mode of missing folders, which are created; None: a missing folder is an error.

    Raises:
        ForeignLink: the path contains another user's symbolic link.
        OSError: the folder cannot be opened or created.
    """
    # The path is joined but not resolved: `..` is opened relative to the current folder, as in the kernel. That folder
    # may be gone, as after a deployment, which is no fault of an absolute path.
    start = "" if path.is_absolute() else os.getcwd()  # noqa: PTH109
    parts = list(reversed(os.path.join(start, path).split("/")))  # noqa: PTH118
    at = os.open("/", _FOLDER)
    links = 0
    try:
        while parts:
            part = parts.pop()
            if part in ("", "."):
                continue
            step = _enter(at, part, make)
            if step is None:
                links += 1
                if links > LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
                target = _target(at, part, path)
                if target.startswith("/"):
                    os.close(at)
                    at = os.open("/", _FOLDER)
                parts.extend(reversed(target.split("/")))
            else:
                os.close(at)
                at = step
        yield at
    finally:
        os.close(at)


def _enter(at: int, part: str, make: int | None) -> int | None:
    """Open the folder ``part`` in the folder ``at``; returns its descriptor, or None if ``part`` is a symbolic link."""
    for missing in (True, False):
        try:
            return os.open(part, _FOLDER, dir_fd=at)
        except FileNotFoundError:
            if make is None or not missing:
                raise
            with contextlib.suppress(FileExistsError):  # another run created it first
                os.mkdir(part, make, dir_fd=at)
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            if not stat.S_ISLNK(os.stat(part, dir_fd=at, follow_symlinks=False).st_mode):
                raise
            return None
    raise AssertionError  # the second iteration returns or raises


def _target(at: int, part: str, path: Path) -> str:
    """Return the target of the symbolic link ``part``. With O_PATH, owner and target are read from the same link."""
    if not hasattr(os, "O_PATH"):
        owner, target = os.stat(part, dir_fd=at, follow_symlinks=False).st_uid, os.readlink(part, dir_fd=at)
    else:
        link = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
        try:
            owner, target = os.fstat(link).st_uid, os.readlink("", dir_fd=link)
        finally:
            os.close(link)
    if owner not in trusted_owners():
        raise ForeignLink(errno.ELOOP, f"'{part}' in its path is another user's symbolic link", str(path))
    return target


def open_regular(name: str, at: int, flags: int, mode: int = 0o600) -> int:
    """Open the regular file ``name`` in the folder ``at``.

    Refuses symbolic links, hard links that another user could have created, FIFOs and devices.

    Raises:
        OSError: it is not a regular file (EINVAL), a symbolic link (ELOOP), a refused hard link (EMLINK), or it cannot
            be opened.
    """
    with contextlib.suppress(FileNotFoundError):
        _check(os.stat(name, dir_fd=at, follow_symlinks=False), at, name)
    handle = _open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode, at)
    try:
        _check(os.fstat(handle), at, name)  # check again what was actually opened
    except OSError:
        os.close(handle)
        raise
    os.set_blocking(handle, True)
    return handle


def open_trusted(path: Path) -> int:
    """Open a regular file to read it, and follow the symbolic links of root and of this process's user.

    Raises:
        ForeignLink: the path contains another user's symbolic link.
        OSError: the file cannot be opened, or is not a regular one.
    """
    for _ in range(LINKS):
        with folder(path.parent) as at:
            if not stat.S_ISLNK(os.stat(path.name, dir_fd=at, follow_symlinks=False).st_mode):
                return open_regular(path.name, at, os.O_RDONLY)
            target = _target(at, path.name, path)
        path = path.parent / target
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def _open(name: str, flags: int, mode: int, at: int) -> int:
    """Open a file. If another process has a lease on it, as file servers do, give it a moment to return the lease."""
    end = time.monotonic() + LEASE
    while True:
        try:
            return os.open(name, flags, mode, dir_fd=at)
        except BlockingIOError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def _check(found: os.stat_result, at: int, name: str) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise OSError(errno.ELOOP, "it is a symbolic link, which is not followed", name)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", name)
    if found.st_nlink > 1:
        parent = os.fstat(at)
        if parent.st_uid not in trusted_owners() or parent.st_mode & 0o022:
            raise OSError(errno.EMLINK, "it has a second name, in a folder that other users may change", name)
