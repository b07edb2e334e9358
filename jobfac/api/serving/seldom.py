"""Log lines that a client could cause without end: one a minute for each cause."""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable

MINUTE = 60.0

CAUSES = 1000
"""Causes remembered at most."""


class Seldom:
    """Says when a cause is due to be logged again, and how often it was left out. Used by several threads."""

    def __init__(self, every: float = MINUTE) -> None:
        self._every = every
        self._lock = threading.Lock()
        self._last: OrderedDict[Hashable, tuple[float, int]] = (
            OrderedDict()
        )  # cause -> time of its line, left out since

    def due(self, cause: Hashable, now: float | None = None) -> int | None:
        """How many lines of this cause were left out before this one, which is due; None: leave it out.

        ``now``: monotonic seconds; default: the present.
        """
        now = time.monotonic() if now is None else now
        with self._lock:
            last, left_out = self._last.get(cause, (None, 0))
            if last is not None and now < last + self._every:
                self._last[cause] = (last, left_out + 1)
                return None
            self._last[cause] = (now, 0)
            self._last.move_to_end(cause)
            while len(self._last) > CAUSES:
                self._last.popitem(last=False)
            return left_out


class OncePerMinute(logging.Filter):
    """For the logger of a library: one record a minute of each text and kind of exception."""

    def __init__(self) -> None:
        super().__init__()
        self._seldom = Seldom()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged."""
        error = record.exc_info[1] if record.exc_info else None
        trace = error.__traceback__ if error is not None else None
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = None if trace is None else (trace.tb_frame.f_code.co_filename, trace.tb_lineno)
        return self._seldom.due((record.name, str(record.msg), type(error).__name__, place)) is not None
