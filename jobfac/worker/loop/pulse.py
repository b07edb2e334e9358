"""The pulse of the worker's loop: by it, the heartbeat sees whether the loop still turns."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Pulse:
    """Written by the worker's loop, read by the heartbeat.

    A loop that hangs (a program's folder on a network that does not answer, a secret that nobody delivers) must not
    keep a lease by which its programs outlive every timeout and stop. A loop that waits for the database is alive: what
    it waits for may be a lock that is held for minutes, and the heartbeat is made to pass such locks.
    """

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._waiting = False

    def beat(self) -> None:
        """The loop turns."""
        self._last = time.monotonic()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Meanwhile the loop waits for the database, or leaves, and counts as alive."""
        self._waiting = True
        try:
            yield
        finally:
            self._last = time.monotonic()  # before the flag: the heartbeat never sees an old time without it
            self._waiting = False

    def age(self) -> float:
        """Seconds since the loop turned, 0 while it waits for the database."""
        return 0.0 if self._waiting else time.monotonic() - self._last
