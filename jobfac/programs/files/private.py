"""Private folders and files of the worker, which no other user may change or read."""

import contextlib
import os
import pwd
import stat
from pathlib import Path

from jobfac.errors import Refused
from jobfac.machine.trusted import ForeignLink, folder
from jobfac.programs.failures import StartError, explain_file
from jobfac.programs.files.identity import other_user
from jobfac.settings import state_folder

ENTER = 0o011
"""Mode bits that let others open a file by name inside a folder, without the right to list the folder."""


class UnsafeFolder(StartError, Refused):
    """A folder that other users may change or read. The message names the folder and the remedy."""


def open_private(path: Path, purpose: str) -> int:
    """Open the folder ``path``, and create it with mode 0700 if it is missing; returns its descriptor.

    Args:
        purpose: a name of the folder for messages, as in 'the spool'.

    Raises:
        UnsafeFolder: it is a file, or other users may change or read it, or replace a folder above it.
        OSError: it cannot be opened or created.
    """
    before = os.path.lexists(path)
    try:
        with folder(path, make=0o700) as at:
            handle = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=at)
    except ForeignLink as error:
        raise UnsafeFolder(f"{purpose} {str(path)!r} is not used: {error.strerror}; choose another folder") from None
    except (NotADirectoryError, FileExistsError):
        raise UnsafeFolder(f"{purpose} {str(path)!r} is not used: {file_in_the_way(path)}") from None
    try:
        if not before:
            os.fchmod(handle, 0o700)  # a strict umask may have removed this user's own rights
        fault = _fault(os.fstat(handle)) or _fault_above(path)
    except BaseException:
        os.close(handle)
        raise
    if fault:
        os.close(handle)
        raise UnsafeFolder(f"{purpose} {str(path)!r} is not used: {fault}")
    return handle


def file_in_the_way(path: Path) -> str:
    """Return a clause with the remedy that names the file in the place of a folder or of one above it."""
    file = next((str(one) for one in (path, *path.parents) if os.path.lexists(one)), str(path))
    return f"{file!r} is not a folder; move it away, or choose another folder"


def private_fault(path: Path) -> str | None:
    """Return what makes a folder unsafe, even before it exists, as a clause with the remedy; None: it is safe."""
    return (_fault(path.stat()) if path.is_dir() else None) or _fault_above(path)


def _fault(found: os.stat_result) -> str | None:
    if found.st_uid != os.geteuid():
        return f"it belongs to {_user(found.st_uid)}, not to {_user(os.geteuid())}; choose another folder"
    if found.st_mode & 0o066:
        return f"its mode {stat.S_IMODE(found.st_mode):04o} lets other users in; `chmod 700` it, or choose another"
    return None


def _fault_above(path: Path) -> str | None:
    """Find a folder above that every user may write to. In it, any user could replace the folder below it.

    Nobody else reaches what lies in a folder that only this user may enter. A volume of Kubernetes needs that, because
    everybody may write to an ``emptyDir``.
    """
    found = None
    for above in (one for one in Path(os.path.realpath(path)).parents if one.is_dir()):
        info = above.stat()
        if info.st_uid == os.geteuid() and not info.st_mode & 0o033:
            found = None
        elif info.st_mode & 0o002 and not info.st_mode & stat.S_ISVTX:
            found = f"anybody may change {str(above)!r}, in which it lies; choose another folder"
    return found


def _user(number: int) -> str:
    try:
        return f"user {pwd.getpwuid(number).pw_name!r}"
    except KeyError:
        return f"user {number}"


def write_private(path: Path, data: bytes, user: str | None) -> None:
    """Write a file that only this process's user can read. With ``user``, that user becomes its owner instead.

    Raises:
        StartError: only root may change the owner of a file, or the user does not exist.
        OSError: the file cannot be written.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(handle, "wb") as file:  # noqa: PTH123 (a descriptor)
        os.fchmod(handle, 0o600)
        file.write(data)
        file.flush()
        identity = other_user(user)
        if identity is not None:
            try:
                os.fchown(handle, identity["user"], identity["group"])
            except PermissionError:
                message = f"this worker may not switch to user {user!r}; run it as root or as that user"
                raise StartError(message) from None
            _allow_entry(path.parent)


def open_own(path: str | Path) -> tuple[int, bool]:
    """Open a spool file for this worker and its program. Returns it, and whether it is new.

    An existing one must be a file of this worker's own.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
    try:
        return os.open(path, flags | os.O_EXCL, 0o600), True
    except FileExistsError:  # a worker that died has left it, or another user has put something in its place
        pass
    except OSError as error:
        raise StartError(explain_file("the spool file", Path(path), error)) from error
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise StartError(explain_file("the spool file", Path(path), error)) from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink != 1:
        os.close(descriptor)
        raise StartError(f"the spool file {str(path)!r} is not a file of this worker's own; remove it")
    os.set_blocking(descriptor, True)
    return descriptor, False


def _allow_entry(folder: Path) -> None:
    """Let other users open their files by name in the folder of an execution. They cannot list or change the folder.

    In the state folder the ones above it belong to the worker, too, which has created them for itself alone.
    """
    state = state_folder()
    spool = folder.parent.parent
    for path in (folder, folder.parent, spool, *(one for one in spool.parents if one.is_relative_to(state))):
        found = path.stat()
        if found.st_uid == os.geteuid() and not found.st_mode & 0o001:
            path.chmod(stat.S_IMODE(found.st_mode) | ENTER)


def shorten(path: str, size: int, frees: bool = False) -> None:
    """Cut a file that a program writes to ``size`` bytes, if it is longer and can be opened.

    A program that appends goes on at the new end, and another one leaves a gap that takes no space. A file that has
    another name, too, is left alone: the program may have linked somebody else's file here.

    Args:
        frees: free the blocks behind the end of a shorter one, too. What is appended meanwhile is lost.
    """
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = os.fstat(handle)
            if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and (frees or found.st_size > size):
                os.ftruncate(handle, min(size, found.st_size))
        finally:
            os.close(handle)
