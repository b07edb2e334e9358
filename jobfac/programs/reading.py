"""Reads about other processes that end within seconds, even if a process is stuck in the kernel.

While a process waits for a drive that does not answer, the kernel may hold a lock on its memory, and whoever reads its
environment waits, too. Only that reader waits here: a thread of its own. The guardian runs this module, so it imports
little.
"""

import _thread
import errno
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

T = TypeVar("T")

PATIENCE = 1.0
"""Seconds without progress after which a process counts as stuck. Nothing waits for it again until its reader ends."""

BEGINS = 1.0
"""Seconds within which a thread has to begin. One without memory ends before it begins, without an error."""

_stuck: dict[int, "_Reader[Any]"] = {}


def read_each(read: Callable[[int], T], pids: Iterable[int]) -> dict[int, T]:
    """Return what ``read`` returns for each process, without those that are stuck.

    Raises:
        OSError: ``read`` has raised it.
    """
    for pid in [pid for pid, reader in list(_stuck.items()) if reader.is_over]:
        _stuck.pop(pid, None)
    waiting = [pid for pid in pids if pid not in _stuck]
    found: dict[int, T] = {}
    number = 1
    while waiting:
        readers = [_Reader(read, waiting[first::number]) for first in range(min(number, len(waiting)))]
        waiting = [pid for reader in readers for pid in reader.wait()]
        for reader in readers:
            found |= dict(reader.found)
            if reader.error is not None:
                raise reader.error
        number *= 2  # where one is stuck, there may be many: twice as many readers find them in fewer turns
    return found


class _Reader(Generic[T]):
    """A thread that reads some processes, one after the other. Only the thread writes, except ``_is_left``."""

    def __init__(self, read: Callable[[int], T], pids: Sequence[int]) -> None:
        self.found: list[tuple[int, T]] = []
        self.error: OSError | None = None
        self.is_over = False
        self._is_left = False
        self._read = read
        self._pids = pids
        self._at = 0
        self._begun = _thread.allocate_lock()  # taken by the thread that reads
        self._ended = _thread.allocate_lock()
        self._ended.acquire()
        try:
            _thread.start_new_thread(self._begin, ())
        except RuntimeError:  # the machine has no thread for it
            self._begin()

    def wait(self) -> Sequence[int]:
        """Wait for the end, or until there is no progress; returns the processes that are still to be read."""
        before, waits, end = -1, 0, time.monotonic() + BEGINS
        while not self._ended.acquire(timeout=PATIENCE / 2):
            if not self._begun.locked():
                if time.monotonic() >= end:
                    self._begin()
                continue
            # Two waits: after this process or the machine was suspended, the first one may end at once.
            waits = waits + 1 if self._at == before else 0
            before = self._at
            if waits == 2:
                self._is_left = True
                _stuck[self._pids[before]] = self
                return self._pids[before + 1 :]
        return ()

    def _begin(self) -> None:
        if self._begun.acquire(blocking=False):
            self._run()

    def _run(self) -> None:
        try:
            for at, pid in enumerate(self._pids):
                self._at = at
                self.found.append((pid, self._read(pid)))
                if self._is_left:
                    return
        except OSError as error:
            self.error = error
        except MemoryError:  # otherwise the rest would count as gone
            self.error = OSError(errno.ENOMEM, "out of memory")
        finally:
            self.is_over = True
            self._ended.release()
