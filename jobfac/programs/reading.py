"""Reads about other processes that end within two seconds, even if a process is stuck in the kernel, and that take a
small part of the time.

To read the environment of a process, the kernel needs the lock on its memory. A drive that does not answer, or the
user of the process, may hold that lock for any time. So threads read, one for each user: within a call no user delays
the reads about processes of others. What is not read is known by its mark alone (``procfs.mark_of``). The guardian
runs this module, so it imports little.
"""

import _thread
import errno
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

T = TypeVar("T")

LIMIT = 2.0
"""Seconds of one call at most."""

PATIENCE = 0.5
"""Seconds without progress after which a process counts as stuck. Nothing waits for it again until its reader ends."""

BEGINS = 0.5
"""Seconds within which a thread has to begin. One without memory ends before it begins, without an error."""

PART = 10
"""Reads take at most one part in so many of the time, apart from the first ``LIMIT`` seconds."""

MOST_STUCK = 16
"""Stuck processes of one user at most. Each has a thread."""

MOST_USERS = 64
"""Users at most whose processes are read. One user may own thousands of user IDs, which are the highest ones."""

_stuck: dict[int, "_Reader[Any]"] = {}


class Budget:
    """The time that reads may take. Many calls in a row, each as slow as somebody likes, would stop the worker's loop
    for longer than its lease."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._paid_until = -math.inf

    def left(self) -> float:
        """Return the seconds that the next call may take; 0 if none are left."""
        return max(0.0, min(LIMIT, (self._clock() - self._paid_until) / PART))

    @contextmanager
    def spent(self) -> Iterator[None]:
        """Count the time inside the block."""
        began = self._clock()
        self._paid_until = max(self._paid_until, began - LIMIT * PART)
        try:
            yield
        finally:
            self._paid_until += PART * min(self._clock() - began, LIMIT)  # more if this process has stood still


budget = Budget()


def read_each(read: Callable[[int], T], user_of: Callable[[int], int | None], pids: Iterable[int]) -> dict[int, T]:
    """Return what ``read`` returns for each process, without those that are stuck, or that the time is too short for.

    Raises:
        OSError: ``read`` or ``user_of`` has raised it.
    """
    waiting = _by_user(user_of, pids)
    with budget.spent():
        return _read_each(read, waiting, time.monotonic() + budget.left())


def _read_each(read: Callable[[int], T], waiting: dict[int, list[int]], end: float) -> dict[int, T]:
    found: dict[int, T] = {}
    number = 1
    has_threads = True
    while waiting and has_threads and time.monotonic() < end:
        readers = [
            _Reader(read, user, its[first::number], end)
            for user, its in waiting.items()
            for first in range(min(number, len(its)))
        ]
        waiting = {}
        for reader in readers:
            waiting.setdefault(reader.user, []).extend(reader.wait())
        for reader in readers:
            found |= dict(reader.found)
            if reader.error is not None:
                raise reader.error
        waiting = {user: its for user, its in waiting.items() if its}
        has_threads = any(reader.has_begun for reader in readers)
        number *= 2  # where one is stuck, there may be many: twice as many readers find them in fewer turns
    return found


def _by_user(user_of: Callable[[int], int | None], pids: Iterable[int]) -> dict[int, list[int]]:
    """Return the processes of each user whose processes are to be read now, without those that are stuck."""
    for pid in [pid for pid, reader in list(_stuck.items()) if reader.is_over]:
        _stuck.pop(pid, None)
    stuck = Counter(reader.user for reader in list(_stuck.values()))
    found: dict[int, list[int]] = {}
    for pid in pids:
        its_user = None if pid in _stuck else user_of(pid)
        if its_user is not None and stuck[its_user] < MOST_STUCK:
            found.setdefault(its_user, []).append(pid)
    own = os.geteuid()
    return {user: found[user] for user in sorted(found, key=lambda user: (user != own, user))[:MOST_USERS]}


class _Reader(Generic[T]):
    """A thread that reads some processes, one after the other. Only the thread writes, except ``_is_left``.

    This thread reads nothing if that one cannot begin: it could not leave what is stuck.
    """

    def __init__(self, read: Callable[[int], T], user: int, pids: Sequence[int], end: float) -> None:
        self.found: list[tuple[int, T]] = []
        self.error: OSError | None = None
        self.is_over = False
        self.has_begun = False
        self.user = user
        self._is_left = False
        self._read = read
        self._pids = pids
        self._end = end
        self._begins = min(time.monotonic() + BEGINS, end)
        self._at = 0
        self._decided = _thread.allocate_lock()  # taken by the first of the two to act
        self._ended = _thread.allocate_lock()
        self._ended.acquire()
        try:
            _thread.start_new_thread(self._begin, ())
        except RuntimeError:  # the machine has no thread for it
            self._ended.release()

    def wait(self) -> Sequence[int]:
        """Wait until all are read, the time is over, or there is no progress; returns the processes that are still to
        be read."""
        before, waits = -1, 0
        while not self._ended.acquire(timeout=max(0.0, min(PATIENCE / 2, self._end - time.monotonic()))):
            if not self.has_begun:
                if time.monotonic() >= self._begins and self._decided.acquire(blocking=False):
                    return self._pids
                continue
            # Two waits: after this process or the machine was suspended, the first one may end at once.
            waits = waits + 1 if self._at == before else 0
            before = self._at
            if waits == 2 or time.monotonic() >= self._end:
                self._is_left = True
                _stuck[self._pids[before]] = self
                return self._pids[before + 1 :]
        return self._pids[len(self.found) :]

    def _begin(self) -> None:
        if self._decided.acquire(blocking=False):
            self.has_begun = True
            self._run()

    def _run(self) -> None:
        try:
            for at, pid in enumerate(self._pids):
                self._at = at
                self.found.append((pid, self._read(pid)))
                if self._is_left or time.monotonic() >= self._end:
                    return
        except OSError as error:
            self.error = error
        except MemoryError:  # otherwise the rest would count as gone
            self.error = OSError(errno.ENOMEM, "out of memory")
        finally:
            self.is_over = True
            self._ended.release()
