"""Waiting until some program has ended, at a cost that does not grow with the number that run."""

import contextlib
import os
import selectors
import sys
import threading

from jobfac.programs.children import children
from jobfac.programs.posix import Process

POLL = 0.02  # seconds, where the kernel does not tell


class ExitWatcher:
    """Tells one waiting thread that main programs have ended, or that somebody called wake().

    On Linux every program has a descriptor that becomes readable at its end. A program that got none (on another
    system, or with too many files open) is asked every 20 ms.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._descriptors: dict[Process, int] = {}
        self._asked: set[Process] = set()
        self._lock = threading.RLock()  # a signal handler may call wake() amidst anything
        self._open = True
        self._bell, self._button = os.pipe()
        for end in (self._bell, self._button):
            os.set_blocking(end, False)
        self._selector.register(self._bell, selectors.EVENT_READ)

    def add(self, process: Process) -> None:
        """Watch a process; its end is reported once, even if it has ended already."""
        with children.lock:  # not reaped meanwhile, so that the number is still its own
            descriptor = _exit_descriptor(process)
        with self._lock:
            if descriptor is None:
                self._asked.add(process)
            else:
                self._descriptors[process] = descriptor
                self._selector.register(descriptor, selectors.EVENT_READ, process)
        if descriptor is None:
            self.wake()

    def remove(self, process: Process) -> None:
        """Stop watching; nothing happens if it is not watched (any more)."""
        with self._lock:
            self._asked.discard(process)
            descriptor = self._descriptors.pop(process, None)
            if descriptor is not None:
                self._selector.unregister(descriptor)
                os.close(descriptor)

    def wake(self) -> None:
        """Let the present or the next wait() return at once. From any thread, also after close()."""
        with self._lock, contextlib.suppress(BlockingIOError):  # a full pipe wakes just as well
            if self._open:
                os.write(self._button, b"!")

    def wait(self, timeout: float | None) -> set[Process]:
        """Wait up to `timeout` seconds (None: for ever) and return the processes that have ended, reaped and removed.

        Empty when the time is up or wake() was called. Dead orphans are reaped on the way.
        """
        if self._asked:
            timeout = POLL if timeout is None else min(timeout, POLL)
        ended = set(self._asked)
        for key, _ in self._selector.select(timeout):
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._bell, 65536)
            else:
                ended.add(key.data)
        ended = {process for process in ended if process.poll() is not None}
        for process in ended:
            self.remove(process)
        children.sweep()
        return ended

    def close(self) -> None:
        """Release the descriptors; the processes are left alone."""
        for process in list(self._descriptors):
            self.remove(process)
        with self._lock:
            if not self._open:
                return
            self._open = False
            self._selector.close()
            os.close(self._bell)
            os.close(self._button)


def _exit_descriptor(process: Process) -> int | None:
    if sys.platform != "linux" or process.exit is not None:
        return None
    try:
        return os.pidfd_open(process.pid)
    except OSError:
        return None
