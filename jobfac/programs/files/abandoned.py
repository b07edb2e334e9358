"""Output files of programs that were left running (``detach``): their runs have ended, and nobody reads them any more.

A deleted file takes space as long as somebody has it open. So this process keeps it open, too, and empties it again and
again until nobody else has it.
"""

import contextlib
import errno
import fcntl
import os
import sys
import threading
import time
from collections import deque

MOST = 200
"""The maximum number of files that are kept open."""

INTERVAL = 5.0
"""Seconds between two looks at the files."""

FULL = 1 << 20
"""Bytes on the disk from which on a file is emptied."""


class Abandoned:
    """The files. Any thread may call it."""

    def __init__(self) -> None:
        self._trimming = threading.Lock()
        self._files: deque[int] = deque()
        self._look_at = 0.0

    def __len__(self) -> int:
        return len(self._files)

    def keep(self, descriptor: int) -> None:
        """Take over the descriptor of a deleted file that others may have open. Close those beyond ``MOST``."""
        self._files.append(descriptor)
        while len(self._files) > MOST:
            _close(self._files.popleft())

    def trim(self, now: float | None = None) -> None:
        """Every ``INTERVAL`` empty files that have grown, and close those that nobody else has open.

        Does nothing while another thread does it, which may wait for a program that writes to one.
        """
        now = time.monotonic() if now is None else now
        if not self._files or not self._trimming.acquire(blocking=False):
            return
        try:
            if now < self._look_at:
                return
            self._look_at = now + INTERVAL
            for _ in range(len(self._files)):
                descriptor = self._files.popleft()  # so nobody else closes it meanwhile
                if _is_over(descriptor):
                    _close(descriptor)
                else:
                    self._files.append(descriptor)
        finally:
            self._trimming.release()


def _close(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # of a failing disk; it is closed nevertheless
        os.close(descriptor)


def _is_over(descriptor: int) -> bool:
    """Whether to keep the file no longer. Empties it if it has grown."""
    try:
        if _is_alone(descriptor):
            return True
        if os.fstat(descriptor).st_blocks * 512 > FULL:
            os.ftruncate(descriptor, 0)
    except OSError:  # its disk fails, and so takes nothing more of it
        return True
    return False


def _is_alone(descriptor: int) -> bool:
    """Whether no other process has the file open, or the kernel cannot tell. Source: fcntl(2), F_SETLEASE."""
    if sys.platform != "linux":
        return True
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError as error:
        return error.errno != errno.EAGAIN
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return True


abandoned = Abandoned()
