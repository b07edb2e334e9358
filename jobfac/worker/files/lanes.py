"""Scans folders in threads: one thread for each folder, so a folder that does not answer delays no other one.

One thread for all folders could not do this, because nothing ends a call to a file server that hangs. The number of
threads is limited: ``AT_A_TIME`` scan, and a folder that has not answered for ``STUCK`` seconds makes room for another,
up to ``MOST`` threads. So up to ``MOST - AT_A_TIME`` folders may hang, and the others wait ``STUCK`` seconds at most.
At most ``OF_ONE_MOUNT`` threads wait for one mounted file system: a drive that hangs leaves threads for the others.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Collection, Iterable
from typing import NamedTuple, Protocol

from jobfac.machine import threads
from jobfac.machine.mounts import mount_of, mounts, neighbours
from jobfac.programs.files.inquiry import OF_ONE_MOUNT, Inquiry
from jobfac.telemetry.logs import logger
from jobfac.worker.files.events import FolderEvents
from jobfac.worker.files.scanning import Scan, folder_of, scan

log = logger("jobfac.files")

AT_A_TIME = 8
"""The maximum number of folders that are scanned at the same time, besides those that do not answer."""

STUCK = 30.0
"""Seconds after which a folder counts as one that does not answer."""

MOST = 64
"""The maximum number of threads."""

AGAIN = 300.0
"""Seconds after which a lane without progress is left alone, and another one scans its folder. A thread that waits for
a dead server may do so for ever, though its drive has been mounted anew meanwhile. Each time it is twice as long, since
a scan may just take long; a fast one ends that."""

LEFT = MOST // 2
"""The maximum number of threads that were left alone."""

NO_THREAD_PAUSE = 1.0
"""Seconds until it tries again to start a thread that the machine has refused."""


class Result(NamedTuple):
    """The result of a scan of a pattern.

    Attributes:
        began: monotonic seconds.
        seconds: how long it took.
        is_new: its folders are watched only since then, so what has happened meanwhile was not reported.
    """

    pattern: str
    found: Scan
    began: float
    seconds: float
    is_new: bool = False


class Scanner(Protocol):
    """Scans patterns, and hands over the results later. One thread uses it."""

    def begin(self, patterns: Iterable[str], now: float) -> float | None:
        """Scan these patterns as soon as possible. A pattern whose result is still to come is not scanned again.

        Returns when to call it again at the latest, because patterns wait for a thread; None: none waits.
        """

    def results(self) -> list[Result]:
        """Return the results of scans that have ended since the last call."""

    def stuck(self, now: float) -> Collection[str]:
        """Return the folders that have not answered for ``STUCK`` seconds."""


class Lanes:
    """A lane for each folder: the patterns to scan there, one after the other, in a thread while there are any.

    All fields are written under ``_lock``, except ``_results``, which locks itself.
    """

    def __init__(self, events: FolderEvents) -> None:
        """``events``: are to report the scanned folders from now on. A result wakes who waits for events."""
        self._events = events
        self._lock = threading.Lock()
        self._waiting: dict[str, deque[str]] = {}
        self._pending: set[str] = set()
        self._since: dict[str, float] = {}
        self._looks: dict[str, Inquiry] = {}  # of the lanes: they know the folder without links
        self._scanned: dict[str, str] = {}  # the pattern that a lane scans
        self._again: dict[str, float] = {}  # after how many seconds a lane is left alone, if not AGAIN
        self._silent: set[str] = set()  # folders whose last lane was left alone
        self._tries = threads.Tries(AGAIN)  # by drive: when to leave a lane alone there again
        self._left = 0  # threads of lanes that were left alone
        self._put_off: dict[str, float] = {}  # until when folders wait whose file system does not answer others
        self._results: queue.SimpleQueue[Result] = queue.SimpleQueue()
        self._is_closed = False

    def begin(self, patterns: Iterable[str], now: float) -> float | None:
        with self._lock:
            for pattern in patterns:
                if pattern not in self._pending:
                    self._pending.add(pattern)
                    self._waiting.setdefault(folder_of(pattern), deque()).append(pattern)
            self._leave_alone(now)
            ready = (one for one in self._waiting if one not in self._since and self._put_off.get(one, now) <= now)
            for folder in list(ready)[: self._room(now)]:
                # A daemon thread, so that a folder that hangs does not keep the process alive.
                self._since[folder] = now
                self._looks[folder] = look = Inquiry([folder], self._is_silent, lambda: None)
                try:
                    threads.begin(self._run, folder, look)
                except RuntimeError as error:
                    self._end(folder)  # a lane without a thread would count as one that does not answer
                    log.warning("folders cannot be scanned, retrying", action="watch_failed", reason=str(error))
                    return now + NO_THREAD_PAUSE
            if self._waiting.keys() <= self._since.keys():
                return None
            times = (*(since + STUCK for since in self._since.values()), *self._put_off.values())
            return min((at for at in times if at > now), default=None)

    def _room(self, now: float) -> int:
        answering = sum(now < since + STUCK for since in self._since.values())
        return max(0, min(AT_A_TIME - answering, MOST - len(self._since) - self._left))

    def results(self) -> list[Result]:
        found = []
        while True:
            try:
                found.append(self._results.get_nowait())
            except queue.Empty:
                break
        with self._lock:
            self._pending.difference_update(one.pattern for one in found)
        return found

    def stuck(self, now: float) -> Collection[str]:
        with self._lock:
            late = {folder for folder, since in self._since.items() if now >= since + STUCK}
            return late | self._put_off.keys() | self._silent

    def close(self) -> bool:
        """Scan nothing more. Returns whether all threads have ended; a folder that does not answer keeps its own."""
        with self._lock:
            self._is_closed = True
            self._waiting.clear()
            return not self._since and not self._left

    def _leave_alone(self, now: float) -> None:
        """Let other lanes scan the folders of those that make no progress: of each file system one at a time.

        A dead one would soon have all threads. Once a successor has an answer, the others need not wait.
        """
        late = [folder for folder, since in self._since.items() if now > since + self._again.get(folder, AGAIN)]
        points = [mount.point for mount in mounts()] if late else []
        for folder in late:
            drive = mount_of(self._looks[folder].real, points)
            if self._left >= LEFT or not self._tries.may(drive, now):
                continue
            if (pattern := self._scanned.get(folder)) is not None:
                self._waiting.setdefault(folder, deque()).appendleft(pattern)
            self._end(folder)
            self._again[folder] = threads.longer(self._again.get(folder, AGAIN))
            self._silent.add(folder)
            self._left += 1

    def _run(self, folder: str, look: Inquiry) -> None:
        look.run()
        with self._lock:
            if self._is_left_alone(folder, look):
                return
            self._put_off.pop(folder, None)
            if not look.is_answered:
                self._put_off[folder] = time.monotonic() + STUCK
                self._end(folder)
        if not look.is_answered:
            self._events.wake()
            return
        while (pattern := self._next(folder, look)) is not None:
            began = time.monotonic()
            found = self._scan(pattern)
            # Here, because this may wait for the file server, too.
            is_new = self._events.add(found.folders)
            with self._lock:
                if self._is_left_alone(folder, look):
                    return
                del self._scanned[folder]
                if folder in self._silent:
                    self._silent.remove(folder)
                    self._tries.clear()
                if (seconds := time.monotonic() - began) < AGAIN / 2:
                    self._again.pop(folder, None)
            self._results.put(Result(pattern, found, began, seconds, is_new))
            self._events.wake()

    def _is_left_alone(self, folder: str, look: Inquiry) -> bool:
        """Whether another lane scans the folder. The thread of this one then ends."""
        if self._looks.get(folder) is look:
            return False
        self._left -= 1
        return True

    def _next(self, folder: str, look: Inquiry) -> str | None:
        """Return the next pattern of a lane. None: there is none, and the lane has ended."""
        with self._lock:
            if self._is_left_alone(folder, look):
                return None
            if self._is_closed or not self._waiting.get(folder):
                self._waiting.pop(folder, None)
                self._end(folder)
                others_wait = bool(self._waiting.keys() - self._since.keys())
            else:
                self._since[folder] = time.monotonic()
                self._scanned[folder] = self._waiting[folder].popleft()
                return self._scanned[folder]
        if others_wait:
            self._events.wake()
        return None

    def _end(self, folder: str) -> None:
        del self._since[folder], self._looks[folder]
        self._scanned.pop(folder, None)

    def _is_silent(self, look: Inquiry) -> bool:
        """Whether enough other lanes wait for the file system that this look has got to."""
        now = time.monotonic()
        with self._lock:
            if any(self._looks.get(folder) is look for folder in self._silent):  # it finds out
                return False
            others = {folder: one for folder, one in self._looks.items() if one is not look}
            waiting = [one.real for folder, one in others.items() if now >= self._since[folder] + STUCK]
        return len(waiting) >= OF_ONE_MOUNT and neighbours(look.real, waiting) >= OF_ONE_MOUNT

    def _scan(self, pattern: str) -> Scan:
        try:
            return scan(pattern)
        except Exception as error:  # the pattern must not wait for its result forever
            log.exception("cannot scan", action="watch_failed", pattern=pattern)
            return Scan({}, frozenset(), [f"{pattern} cannot be scanned: {error}"])
