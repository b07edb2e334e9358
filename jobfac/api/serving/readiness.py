"""Readiness: the database is checked at most once a second, no matter how often clients ask."""

import threading
import time
from collections.abc import Callable

AGE = 1.0
"""Seconds for which an answer is used again."""


class Readiness:
    """The last answer of a check, which one thread at a time renews. Used by several threads.

    The check needs a connection to the database, and the endpoint no key. Without a limit anybody could occupy all
    threads and connections of the API.
    """

    def __init__(self, check: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        """``check``: raises an error if the service is not ready."""
        self._check = check
        self._clock = clock
        self._renewing = threading.Lock()
        self._known: tuple[float, Exception | None] | None = None  # written by the holder of the lock

    def check(self) -> None:
        """Raise the error of the last check, if it failed. Only the first callers wait for one."""
        known = self._known
        if known is not None and self._clock() < known[0] + AGE:
            return _raise(known[1])
        if not self._renewing.acquire(blocking=known is None):
            assert known is not None
            return _raise(known[1])  # another thread is asking; this answer is little older
        try:
            known = self._known
            if known is None or self._clock() >= known[0] + AGE:
                known = self._known = (self._clock(), self._asked())
        finally:
            self._renewing.release()
        return _raise(known[1])

    def _asked(self) -> Exception | None:
        try:
            self._check()
        except Exception as error:
            return error
        return None


def _raise(error: Exception | None) -> None:
    if error is not None:
        raise error.with_traceback(None)
