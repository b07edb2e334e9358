"""What the files of one execution take on the disk of the spool. The program of another user may write to them, and
must not fill the disk of everybody."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Lock

from jobfac.programs import Spool, shorten
from jobfac.programs.files.room import Use
from jobfac.programs.files.spool import FLOOD
from jobfac.worker.executions.report import Report

HOLD = 2.0
"""Seconds for which a file takes too much of the disk before its program is ended, all together: a program may give
space back for a moment. Meanwhile the file is freed or cut, if nobody writes to it."""

LOOKS = 4
"""Looks, at least, that find that: this process may have stood still for longer."""


class Room:
    """Looks at the files, and frees what nobody needs. A look waits for nothing; to free may wait for the program.

    Attributes:
        excess: a sentence that a file takes too much of the disk; None: none does.
        taken: how many bytes of the disk the files took when they were looked at last.
        floods: whether the program wrote so much between the last two looks that the next one should come soon.
    """

    def __init__(
        self,
        lock: Lock,
        spools: Mapping[str, Spool],
        report: Report,
        given: Mapping[str, int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            lock: guards the spools. It is never held by who waits for the program.
            given: by path, the bytes of the files that were written for the program.
        """
        self.excess: str | None = None
        self.floods = False
        self.taken = 0
        self._lock = lock
        self._spools = spools
        self._report = report
        self._given = given
        self._folder = os.path.dirname(report.path)  # noqa: PTH120 (each start makes one)
        self._clock = clock
        self._size = 0
        self._judged_at = clock()
        self._excessive_for = 0.0
        self._refills: dict[str, int] = {}
        self._is_left: bool | None = None
        self._is_over = False
        self._freeing = Lock()

    def program_ended(self, is_left: bool) -> None:
        """Let ``free`` free all that is not needed: a full disk may keep the outcome from being stored.

        Args:
            is_left: the program may have left processes that still write to its output.
        """
        self._is_left = is_left
        self.floods = False

    def look(self) -> bool:
        """Return whether the program has to be ended (see ``excess``). One thread calls it, again and again."""
        if (uses := self._uses()) is not None:
            self.taken = sum(use.taken for _, use in uses)
            if self._is_left is None:
                self._judge(uses)
        return self.excess is not None

    def _judge(self, uses: Sequence[tuple[str, Use]]) -> None:
        size = sum(use.size for _, use in uses)
        self.floods, self._size = size - self._size >= FLOOD, size
        found = next((f"its {name} takes {_sentence(use)}" for name, use in uses if self._is_excessive(use)), None)
        now = self._clock()
        passed, self._judged_at = min(now - self._judged_at, HOLD / LOOKS), now
        if found is not None:
            self._excessive_for += passed
            if self._excessive_for >= HOLD:
                self.excess = self.excess or found

    def free(self) -> None:
        """Free what nobody needs: for the last time after the program's end, unless it has left something that writes.

        Does nothing while another thread does it.
        """
        if self._is_over or not self._freeing.acquire(blocking=False):
            return
        try:
            is_left = self._is_left
            with self._lock:
                streams = list(self._spools)
            has_failed = False
            for stream in streams:
                try:
                    self._free(stream, is_left)
                except OSError:  # of a failing disk, or for want of a descriptor
                    has_failed = True
            for path, _, most in self._further():
                # The thread that reads reports may be waiting for the database. A report may grow for days.
                if path == self._report.path:
                    shorten(path, most)
                if is_left is not None and (use := _use_of(path, most)) and use.is_wasteful:
                    shorten(path, most, frees=True)
            self._is_over = is_left is False and not has_failed
        finally:
            self._freeing.release()

    def _free(self, stream: str, is_left: bool | None) -> None:
        with self._lock:
            if (spool := self._spools.get(stream)) is None:  # the execution is over
                return
            space = spool.space()
        try:
            use = space.free()
            if is_left is not None and (self._is_excessive(use) if is_left else use.is_wasteful):
                os.ftruncate(space.fd, use.size)
        finally:
            os.close(space.fd)
        with self._lock:
            spool.was_freed(space)
        # Only a program that means to take the disk fills what was freed, and then fills it again.
        self._refills[stream] = self._refills.get(stream, 0) + 1 if space.is_refilled else 0
        if self._refills[stream] == 2:
            self.excess = self.excess or f"its {stream} takes {_sentence(use)}"

    def _is_excessive(self, use: Use) -> bool:
        return use.is_excessive(self._folder)

    def _uses(self) -> list[tuple[str, Use]] | None:
        """Return what each file takes; None: the output is being read, so the next look has to tell it."""
        if not self._lock.acquire(blocking=False):
            return None
        found = []
        try:
            for stream, spool in list(self._spools.items()):
                with contextlib.suppress(OSError):  # of a failing disk
                    found.append((stream, spool.use()))
        finally:
            self._lock.release()
        return found + [(name, use) for path, name, most in self._further() if (use := _use_of(path, most))]

    def _further(self) -> Iterator[tuple[str, str, int]]:
        """Yield the path of each further file, its name, and how many bytes of it are needed at most.

        Of a report it is a byte more than is read: it tells a reader that the rest was cut.
        """
        yield self._report.path, "report", self._report.limit + 1
        for path, size in list(self._given.items()):
            yield path, f"{path.rpartition('.')[2]} file", size


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
