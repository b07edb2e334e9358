"""A rate limit for log lines that repeat: one a minute for each cause."""

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Hashable

MINUTE = 60.0

MAX_CAUSES = 1000
"""The maximum number of causes that are remembered."""


class LogThrottle:
    """Limits the log lines of each cause to one in ``every`` seconds. Thread-safe.

    ``most``: how many lines all causes together may have in this time, where a client can make up causes; None: any.
    """

    def __init__(self, every: float = MINUTE, most: int | None = None) -> None:
        self._every = every
        self._lock = threading.Lock()
        self._times: deque[float] | None = None if most is None else deque(maxlen=most)  # of the last lines
        self._others = 0  # lines that were left out because of ``most``
        # By cause: the time of the last line, and how many lines were left out since then.
        self._last: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def due(self, cause: Hashable, now: float | None = None) -> int | None:
        """Return how many lines of this cause were left out before this one; None: leave this one out as well.

        ``now``: monotonic seconds; default: the current time.
        """
        now = time.monotonic() if now is None else now
        with self._lock:
            last, left_out = self._last.get(cause, (None, 0))
            if last is not None and now < last + self._every:
                self._last[cause] = (last, left_out + 1)
                return None
            if self._times is not None:
                if len(self._times) == self._times.maxlen and now < self._times[0] + self._every:
                    self._others += 1
                    return None
                self._times.append(now)
                left_out, self._others = left_out + self._others, 0
            self._last[cause] = (now, 0)
            self._last.move_to_end(cause)
            while len(self._last) > MAX_CAUSES:
                self._last.popitem(last=False)
            return left_out


class OncePerMinute(logging.Filter):
    """A filter for the logger of a library: one record a minute for each text and each place of an exception."""

    def __init__(self) -> None:
        super().__init__()
        self._throttle = LogThrottle()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log the record."""
        error = record.exc_info[1] if record.exc_info else None
        trace = error.__traceback__ if error is not None else None
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = None if trace is None else (trace.tb_frame.f_code.co_filename, trace.tb_lineno)
        return self._throttle.due((record.name, str(record.msg), type(error).__name__, place)) is not None
