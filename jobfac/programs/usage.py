"""What a program used, by the kernel's accounting: CPU seconds and peak memory of its tree."""

import contextlib
import os
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

MAXRSS = 1 if sys.platform == "darwin" else 1024
"""Bytes of the unit of ``ru_maxrss``."""

FIRST_SAMPLE = 0.25
"""Seconds after its start at which a program's memory is sampled first. The time doubles with each sample."""


class Usage(NamedTuple):
    """CPU seconds of a tree, and the peak memory in bytes.

    ``peak_memory``: of the largest process of the tree, or of the whole tree if it had a cgroup; None: not known.
    """

    cpu_seconds: float
    peak_memory: int | None


class Meter:
    """Adds up what the processes of one tree used. The holder of ``children.lock`` calls it.

    The kernel reports usage when a process is reaped: its own, and that of the descendants which it has waited for.
    Descendants that nobody waited for are adopted and reaped by the worker, and added here.

    The reported peak of the main program has a flaw: until its exec it shares the memory of the worker, so the peak is
    never below the worker's own. A smaller peak is sampled while the program runs.
    """

    def __init__(self) -> None:
        self._cpu = 0.0
        self._peak: int | None = None
        self._sample_at = FIRST_SAMPLE

    def add_main(self, used: resource.struct_rusage) -> None:
        """The main program was reaped."""
        self._cpu += used.ru_utime + used.ru_stime
        if used.ru_maxrss > _own_peak(used.ru_maxrss):
            self.note_peak(used.ru_maxrss * MAXRSS)

    def add_orphan(self, used: resource.struct_rusage) -> None:
        """A process that the main program left behind was reaped."""
        self._cpu += used.ru_utime + used.ru_stime
        self.note_peak(used.ru_maxrss * MAXRSS)

    def sample(self, pid: int, age: float) -> None:
        """Sample the memory of the living main program when it is time. ``age``: seconds since its start."""
        if age < self._sample_at:
            return
        self._sample_at = 2 * age
        with contextlib.suppress(OSError, ValueError):
            self.note_peak(peak_of(Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")))

    def note_peak(self, size: int) -> None:
        """A peak in bytes; the largest counts."""
        self._peak = max(size, self._peak or 0)

    def usage(self) -> Usage:
        """The sum so far."""
        return Usage(round(self._cpu, 6), self._peak)


_known_peak = 0


def _own_peak(enough: int) -> int:
    """The peak of this process, in units of ``ru_maxrss``. It never falls: a known one that is ``enough`` will do."""
    global _known_peak
    if _known_peak < enough:
        _known_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return _known_peak


def peak_of(status: str) -> int:
    """The bytes of VmHWM in the content of ``/proc/PID/status``.

    Raises:
        ValueError: there is none, because the process has ended.
    """
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise ValueError("no VmHWM")


@dataclass(frozen=True)
class Exit:
    """The end of the main program: its exit code or signal (both None: unknown), and the time (monotonic seconds)."""

    code: int | None
    signal: int | None
    at: float


def reap(pid: int, meter: Meter) -> Exit | None:
    """Reap a program if it has ended, and add what it has used. Never blocks."""
    try:
        done, status, used = os.wait4(pid, os.WNOHANG)
    except ChildProcessError:  # already reaped elsewhere
        return Exit(None, None, time.monotonic())
    if done == 0:
        return None
    meter.add_main(used)
    code = os.waitstatus_to_exitcode(status)
    return Exit(code if code >= 0 else None, -code if code < 0 else None, time.monotonic())
