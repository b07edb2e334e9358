"""How much room a disk has left, and how large SQLite's write-ahead log is."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from jobfac.doctor.finding import Finding, State

LOW_SPACE, TOO_LOW_SPACE = 1 << 30, 100 << 20
"""Free bytes on a disk below which it is a warning, and a problem."""

LARGE_LOG = 256 << 20
"""Bytes of a write-ahead log above which it is a warning."""

MIN_FREE_FILES = 1000
"""Files that a file system must have room for."""


def disk_space(check: str, path: Path, remedy: str) -> Finding:
    """Check the free bytes and the free files of the file system that holds ``path``."""
    disk = os.statvfs(path)
    free = disk.f_bavail * disk.f_frsize
    if disk.f_files and disk.f_favail < MIN_FREE_FILES:
        return Finding(check, State.PROBLEM, f"{path} has room for {disk.f_favail} more files only", remedy)
    state = State.PROBLEM if free < TOO_LOW_SPACE else State.WARNING if free < LOW_SPACE else State.OK
    return Finding(check, state, f"{path} has {_size(free)} left", "" if state is State.OK else remedy)


def log_size(check: str, path: Path) -> Iterator[Finding]:
    """Check that nobody keeps SQLite from emptying the write-ahead log of the database ``path``."""
    log = Path(f"{path.resolve()}-wal")
    with contextlib.suppress(OSError):  # there is none
        if (size := log.stat().st_size) > LARGE_LOG:
            remedy = (
                f"A program keeps a transaction open in which it reads: `lsof {path}` names those that use the file. "
                "End the transaction; the log becomes smaller with the next commits."
            )
            yield Finding(check, State.WARNING, f"{log} has {_size(size)}", remedy)


def _size(number: int) -> str:
    return f"{number / (1 << 30):,.1f} GiB" if number >= 1 << 30 else f"{number / (1 << 20):,.0f} MiB"
