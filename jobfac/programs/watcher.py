"""Waits until a program has ended. On Linux the cost does not grow with the number of running programs."""

import contextlib
import os
import selectors
import sys
import threading
from collections.abc import Sequence

from jobfac.programs.children import children
from jobfac.programs.posix import Process
from jobfac.programs.tree import entry, refuses_signals, tracer_of

POLL = 0.02  # seconds between two polls of programs without an exit descriptor
CROWD = 100  # dead orphans of one sweep after which the next one comes as soon: they occupy the process table


class ExitWatcher:
    """Wakes one waiting thread when a main program has ended or wake() is called.

    On Linux every program has a descriptor that becomes readable when it ends. A program without one (on another
    system, or with too many open files) is polled every 20 ms.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._descriptors: dict[Process, int] = {}
        self._polled: set[Process] = set()
        self._lock = threading.RLock()  # reentrant: a signal handler may call wake() at any time
        self._open = True
        self._is_crowded = False
        self._wake_reader, self._wake_writer = os.pipe()
        for end in (self._wake_reader, self._wake_writer):
            os.set_blocking(end, False)
        self._selector.register(self._wake_reader, selectors.EVENT_READ)

    def add(self, process: Process) -> None:
        """Watch a process. Its end is reported once, even if it has ended already."""
        with children.lock:  # the process is not reaped meanwhile, so its PID is valid
            descriptor = _exit_descriptor(process)
        with self._lock:
            if descriptor is None:
                self._polled.add(process)
            else:
                self._descriptors[process] = descriptor
                self._selector.register(descriptor, selectors.EVENT_READ, process)
        if descriptor is None:
            self.wake()

    def remove(self, process: Process) -> None:
        """Stop watching a process. Does nothing if it is not watched."""
        with self._lock:
            self._polled.discard(process)
            descriptor = self._descriptors.pop(process, None)
            if descriptor is not None:
                self._selector.unregister(descriptor)
                os.close(descriptor)

    def wake(self) -> None:
        """Make the current or the next wait() return at once. Safe for any thread, also after close()."""
        with self._lock, contextlib.suppress(BlockingIOError):  # a full pipe wakes the thread, too
            if self._open:
                os.write(self._wake_writer, b"!")

    def wait(self, timeout: float | None) -> set[Process]:
        """Wait up to `timeout` seconds (None: forever); returns the processes that have ended.

        These are reaped and no longer watched. The result is empty after a timeout or a wake(). Also reaps dead
        orphans.
        """
        if self._polled or self._is_crowded:
            timeout = POLL if timeout is None else min(timeout, POLL)
        ended = set(self._polled)
        for key, _ in self._selector.select(timeout):
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_reader, 65536)
            else:
                ended.add(key.data)
        for process in list(ended):
            if process.poll() is not None:
                self.remove(process)
            else:
                ended.remove(process)
                self._poll(process)
        self._is_crowded = len(children.try_sweep()) >= CROWD
        return ended

    def _poll(self, process: Process) -> None:
        """Poll a process from now on, though its descriptor is ready. A debugger that traces it keeps its end back, or
        the machine cannot show its processes."""
        with self._lock:
            if process in self._descriptors:
                self.remove(process)
                self._polled.add(process)

    def close(self) -> None:
        """Release the descriptors. The processes keep running."""
        for process in list(self._descriptors):
            self.remove(process)
        with self._lock:
            if not self._open:
                return
            self._open = False
            self._selector.close()
            os.close(self._wake_reader)
            os.close(self._wake_writer)


def why_alive(process: Process, has_run: bool = True) -> str:
    """Return the sentence that KILL has not ended a program, and what to look at.

    ``has_run``: the program is still that of its run.
    """
    try:
        found = entry(process.pid)
        tracer = tracer_of(process.pid) if found is not None and found.dead else None
    except OSError as error:
        return f"whether process {process.pid} has ended cannot be read: {error.strerror}"
    if tracer is not None:
        return (
            f"process {process.pid} has ended, but process {tracer} traces it, as a debugger does, and keeps its end "
            f"back" + _until(f"process {tracer}", has_run)
        )
    pids = process.leftovers() or [process.pid]
    if others := [pid for pid in pids if refuses_signals(pid)]:
        return (
            f"this worker may not end {_named(others)}, which became another user, as sudo does: end it as that user"
            + _until("the process", has_run)
        )
    return f"KILL does not end {_named(pids)}: it is stuck in the kernel, as on a drive that does not answer" + _until(
        "the process", has_run
    )


def _until(what: str, has_run: bool) -> str:
    return f"; the run ends when {what} does" if has_run else "; its worker has lost the run meanwhile"


def _named(pids: Sequence[int]) -> str:
    return f"process {', '.join(map(str, pids[:5]))}"


def _exit_descriptor(process: Process) -> int | None:
    if sys.platform != "linux" or process.exit is not None:
        return None
    try:
        return os.pidfd_open(process.pid)
    except OSError:
        return None
