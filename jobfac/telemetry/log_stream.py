"""A log handler that drops lines while nobody takes them: no role waits for the reader of its log, or for a drive."""

import logging
import os
import select
import stat
import threading
import time
from contextlib import suppress
from io import UnsupportedOperation
from typing import TextIO

from jobfac.machine.mounts import Remote
from jobfac.machine.threads import begin

LONGEST_WAIT = 0.5
"""Seconds for which a line waits for the reader, or the drive. Further lines do not wait until it takes them again."""


class LogStream(logging.StreamHandler[TextIO]):
    """Writes each line at once. Drops lines while nobody reads, and says how many when somebody reads again."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._dropped = 0
        self._is_cut = False
        """The last line was written in part."""
        self._may_hang: bool | None = None
        """The stream is a file whose file system may wait for a server; None: not known yet."""
        self._written = threading.Event()
        """The last line for such a file was written."""
        self._written.set()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record. Called with the lock of the handler."""
        try:
            descriptor = self.stream.fileno()
        except (AttributeError, UnsupportedOperation):  # no file, so nobody who could stop reading
            super().emit(record)
            return
        try:
            line = (self.format(record) + self.terminator).encode(errors="backslashreplace")
            if self._dropped or self._is_cut:
                notice = f"{self._dropped} log lines were dropped because nobody read them"
                dropped = logging.LogRecord("jobfac", logging.WARNING, "", 0, notice, None, None)
                dropped.fields = {"action": "log_lines_dropped", "lines": self._dropped}
                first = self.terminator if self._is_cut else ""
                line = (first + self.format(dropped) + self.terminator).encode(errors="backslashreplace") + line
            if self._may_hang is None:
                self._may_hang = _may_hang(descriptor)
            (self._write_elsewhere if self._may_hang else self._write)(descriptor, line)
        except Exception:
            self.handleError(record)

    def _write(self, descriptor: int, line: bytes) -> None:
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        wait = 0.0 if self._dropped else LONGEST_WAIT
        written = 0
        while written < len(line):
            if not poll.poll(wait * 1000):
                self._dropped += 1
                self._is_cut = self._is_cut or written > 0
                return
            # A pipe that is ready takes this much without blocking.
            written += os.write(descriptor, line[written : written + select.PIPE_BUF])
        self._dropped, self._is_cut = 0, False

    def _write_elsewhere(self, descriptor: int, line: bytes) -> None:
        """Write in a thread of its own, which may hang."""
        if not self._written.is_set():
            self._dropped += 1
            return
        written = threading.Event()
        begin(_write_all, descriptor, line, written)
        self._written = written  # not before: without a thread nobody would set it
        self._dropped, self._is_cut = 0, False
        self._written.wait(LONGEST_WAIT)


def _write_all(descriptor: int, line: bytes, written: threading.Event) -> None:
    try:
        with suppress(OSError):  # a full disk
            while line:
                line = line[os.write(descriptor, line) :]
    finally:
        written.set()


def _may_hang(descriptor: int) -> bool:
    """Whether it is a file whose file system may wait for a server. A pipe and a terminal say when they are ready."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return False
    try:
        path = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 (of a descriptor)
    except OSError:  # not on Linux
        return False
    return Remote().has_any([path], time.monotonic())
