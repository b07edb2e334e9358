"""What the files of one execution take on the disk of the spool. The program of another user may write to them, and
must not fill the disk of everybody."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from threading import Lock

from jobfac.programs import Spool, shorten
from jobfac.programs.files.room import Use
from jobfac.worker.executions.report import Report

INTERVAL = 0.5
"""Seconds between two looks. All executions have them at the same moments, so that the loop wakes once for all."""


class Room:
    """Looks at the files. Only the worker's loop uses it.

    Attributes:
        look_at: when to look again (monotonic seconds); None: never.
        excess: a sentence that a file takes too much of the disk; None: none does.
    """

    def __init__(self, lock: Lock, spools: Mapping[str, Spool], report: Report, given: Mapping[str, int]) -> None:
        """
        Args:
            lock: guards the spools.
            given: by path, the bytes of the files that were written for the program.
        """
        self.look_at: float | None = 0.0
        self.excess: str | None = None
        self._lock = lock
        self._spools = spools
        self._report = report
        self._given = given
        self._was_excessive = False

    def is_exceeded(self, now: float) -> bool:
        """Whether the program has to be ended: at two looks in a row, a file takes too much of the disk.

        The first look cuts a report behind its limit: the thread that reads reports may be waiting for the database.
        """
        if self.look_at is None or now < self.look_at:
            return False
        self.look_at = (now // INTERVAL + 1) * INTERVAL
        found = next((f"its {name} takes {_sentence(use)}" for name, use in self._uses() if use.is_excessive), None)
        is_exceeded = found is not None and self._was_excessive
        self._was_excessive = found is not None
        if is_exceeded:
            self.excess = self.excess or found
        return is_exceeded

    def trim(self, is_left: bool) -> None:
        """Free what is not needed, after the program's end: a full disk may keep its outcome from being stored.

        Args:
            is_left: the program may have left processes that still write to its output.
        """
        if self.look_at is None:
            return
        self.look_at = None
        with self._lock, contextlib.suppress(OSError):  # of a failing disk
            for spool in self._spools.values():
                spool.trim(is_left)
        for path, _, size in self._files():
            if (use := _use_of(path, size)) and use.is_wasteful:
                shorten(path, None, size, frees=True)

    def _files(self) -> Iterator[tuple[str, str, int]]:
        """Yield the path of each further file, its name, and how many bytes of it are needed at most."""
        yield self._report.path, "report", self._report.limit + 1
        for path, size in self._given.items():
            yield path, f"{path.rpartition('.')[2]} file", size

    def _uses(self) -> Iterator[tuple[str, Use]]:
        if self._lock.acquire(blocking=False):  # otherwise their output is being read, and the next look sees them
            try:
                for stream, spool in self._spools.items():
                    with contextlib.suppress(OSError):  # of a failing disk
                        yield stream, spool.use()
            finally:
                self._lock.release()
        for path, name, size in self._files():
            if use := _use_of(path, size):
                if use.is_excessive and path == self._report.path:
                    shorten(path, None, size)
                yield name, use


def _use_of(path: str, most: int) -> Use | None:
    """Return what a file takes on the disk; None: it is missing. ``most``: the bytes of it that are needed, at most."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    needed = min(most, found.st_size)
    return Use(found.st_blocks * 512, needed, needed)


def _sentence(use: Use) -> str:
    return f"{use.taken >> 20:,} MiB of the spool's disk, but {use.needed:,} bytes of it are needed"
