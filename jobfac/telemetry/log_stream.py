"""A log handler that drops lines while nobody reads its stream, so that no role waits for the reader of its log."""

import logging
import os
import select
from io import UnsupportedOperation
from typing import TextIO

LONGEST_WAIT = 0.5
"""Seconds for which a line waits for the reader. Further lines do not wait until it reads again."""


class LogStream(logging.StreamHandler[TextIO]):
    """Writes each line at once. Drops lines while nobody reads, and says how many when somebody reads again."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._dropped = 0
        self._is_cut = False
        """The last line was written in part."""

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
            self._write(descriptor, line)
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
