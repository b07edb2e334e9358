"""Faults of a disk: by which errors it shows, and why it does not take what is written, in words."""

import contextlib
import errno
import os
import resource
from collections.abc import Iterable
from pathlib import Path

FAILING: frozenset[int] = frozenset(
    getattr(errno, name)
    for name in (
        "EIO", "ENODATA", "EUCLEAN", "EBADMSG", "EREMOTEIO",  # a bad sector, a damaged file system or checksum
        "ENXIO", "ENODEV", "ESTALE", "ENOTCONN", "ETIMEDOUT", "EHOSTDOWN",  # the device or the server is gone
    )
    if hasattr(errno, name)
)  # fmt: skip
"""Errors of a disk, or of the server of a file system, that fails: no program and no definition causes them."""

PROBE = 1 << 16
"""Bytes that are written to learn the error."""


def why_not_seen(folder: Path) -> str | None:
    """Return why a look at a folder fails, as a clause with the remedy; None: its disk answers."""
    try:
        os.stat(folder)  # noqa: PTH116
    except OSError as error:
        return clause(folder, error.errno) if error.errno in FAILING else None
    return None


def why_not_written(folder: Path, files: Iterable[Path], known: str | None) -> str | None:
    """Return why a write to one of these files fails although the disk has room, as a clause with the remedy.

    SQLite reports one error for many reasons. So this writes to a nameless file on the same disk.

    Args:
        known: the error that was reported for the disk; None: none was. Then this returns None if the write succeeds.
    """
    most, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    for path in files if most != resource.RLIM_INFINITY else ():
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size + PROBE > most:
                return (
                    f"{path} has reached the limit of {most:,} bytes that this process may write to a file; raise it "
                    "(ulimit -f, LimitFSIZE= of a unit)"
                )
    import tempfile

    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            file.write(bytes(PROBE))
    except OSError as error:
        return clause(folder, error.errno or 0)
    return None if known is None else _faulty(folder, known)


def clause(folder: Path, number: int) -> str:
    """The clause for this error of a file in the folder. Pure."""
    if number == errno.EDQUOT:
        return f"this user's quota on the disk of {folder} is used up; free some space there, or raise it"
    if number == errno.ENOSPC:
        return f"the disk of {folder} is full; make room there"
    return _faulty(folder, os.strerror(number))


def _faulty(folder: Path, what: str) -> str:
    return f"the disk of {folder} reports an error ({what}); the kernel's log (dmesg) has the details; repair the disk"
