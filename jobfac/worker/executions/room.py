"""What the files of one execution take on the disk of the spool. The program of another user may write to them, and
must not fill the disk of everybody."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from threading import Lock

from jobfac.programs import Spool, shorten
from jobfac.programs.files.room import Use
from jobfac.programs.files.spool import FLOOD
from jobfac.worker.executions.report import Report


class Room:
    """Looks at the files, and frees what nobody needs. Each look may wait for the program, so the loop has none.

    Attributes:
        excess: a sentence that at two looks in a row a file took too much of the disk; None: none did.
        floods: whether the program wrote so much between the last two looks that the next one should come soon.
    """

    def __init__(self, lock: Lock, spools: Mapping[str, Spool], report: Report, given: Mapping[str, int]) -> None:
        """
        Args:
            lock: guards the spools. It is never held while a look waits.
            given: by path, the bytes of the files that were written for the program.
        """
        self.excess: str | None = None
        self.floods = False
        self._size = 0
        self._lock = lock
        self._spools = spools
        self._report = report
        self._given = given
        self._was_excessive = False
        self._is_left: bool | None = None
        self._is_over = False
        self._looking = Lock()

    def program_ended(self, is_left: bool) -> None:
        """Let the next look, the last one, free all that is not needed: a full disk may keep the outcome from being
        stored. ``is_left``: the program may have left processes that still write to its output."""
        self._is_left = is_left

    def look(self) -> bool:
        """Free what nobody needs; returns whether the program has to be ended (see ``excess``).

        Does nothing while another thread looks, and after the last look.
        """
        if self._is_over or not self._looking.acquire(blocking=False):
            return False
        try:
            is_left = self._is_left
            uses = list(self._uses(is_left))
            size = sum(use.size for _, use in uses)
            self.floods, self._size = size - self._size >= FLOOD, size
            found = [f"its {name} takes {_sentence(use)}" for name, use in uses if use.is_excessive]
            self._is_over = is_left is not None
            if found and self._was_excessive and not self._is_over:
                self.excess = self.excess or found[0]
            self._was_excessive = bool(found)
            return self.excess is not None
        finally:
            self._looking.release()

    def _uses(self, is_left: bool | None) -> Iterator[tuple[str, Use]]:
        with self._lock:
            spools = dict(self._spools)
        for stream, spool in spools.items():
            with contextlib.suppress(OSError):  # of a failing disk
                yield stream, self._free(spool, is_left)
        yield from self._further(self._report.path, "report", self._report.limit + 1, is_left)
        for path, size in self._given.items():
            yield from self._further(path, f"{path.rpartition('.')[2]} file", size, is_left)

    def _free(self, spool: Spool, is_left: bool | None) -> Use:
        with self._lock:
            space = spool.space()
        try:
            use = space.free()
            if is_left is not None and (use.is_excessive if is_left else use.is_wasteful):
                os.ftruncate(space.fd, use.size)
        finally:
            os.close(space.fd)
        with self._lock:
            spool.was_freed(space)
        return use

    def _further(self, path: str, name: str, most: int, is_left: bool | None) -> Iterator[tuple[str, Use]]:
        """Yield what another file takes. ``most``: the bytes of it that are needed, at most."""
        try:
            found = os.lstat(path)
        except OSError:  # it is missing
            return
        needed = min(most, found.st_size)
        use = Use(found.st_blocks * 512, needed, needed)
        # The thread that reads reports may be waiting for the database. A report may grow for days.
        if path == self._report.path and found.st_size > most:
            shorten(path, most)
        if is_left is not None and use.is_wasteful:
            shorten(path, most, frees=True)
        yield name, use


def _sentence(use: Use) -> str:
    return f"{use.taken >> 20:,} MiB of the spool's disk, but {use.needed:,} bytes of it are needed"
