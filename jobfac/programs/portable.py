"""The process table on systems without /proc (macOS): the same functions as `procfs`, based on psutil."""

import os
import time
from collections.abc import Collection

import psutil

from jobfac.programs.procfs import TICKS, Entry


def now() -> int:
    """The current time on the scale of `Entry.start`."""
    return int(time.time() * TICKS)


def entry(pid: int) -> Entry | None:
    """The process with this PID, or None."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            dead = process.status() == psutil.STATUS_ZOMBIE
            start = int(process.create_time() * TICKS)
            return Entry(pid, process.ppid(), os.getpgid(pid), os.getsid(pid), start, dead)
    except (psutil.Error, OSError):
        return None


def entries() -> dict[int, Entry]:
    """Every process of this machine that this user may read, by PID."""
    return {one.pid: one for one in map(entry, psutil.pids()) if one is not None}


def markers(pids: Collection[int], known: Collection[str] = ()) -> dict[int, str]:
    """The markers in the initial environments of these processes, by PID, without those that have none.

    ``known``: has no effect here, as processes have no mark.
    """
    return {pid: found for pid in pids if (found := _marker(pid)) is not None}


def tracer_of(pid: int) -> int | None:
    """The process that traces this one. That cannot be found out here."""
    return None


def user_of(pid: int) -> int | None:
    """The real user of a process. It is not needed here, as processes have no mark."""
    return None


def mark_of(marker: str) -> str:
    """What ``markers`` returns for a process with this marker."""
    return marker


def _marker(pid: int) -> str | None:
    try:
        found: str | None = psutil.Process(pid).environ().get("JOBFAC_MARKER")
    except (psutil.Error, OSError):
        return None
    return found


def send(pid: int, start: int, number: int) -> bool:
    """Send a signal to this process; returns False if it is gone or this user may not signal it.

    The PID may be reused in the microseconds between the check and the signal. This function cannot prevent that.
    """
    found = entry(pid)
    if found is None or found.start != start:
        return False
    try:
        os.kill(pid, number)
    except OSError:
        return False
    return True
