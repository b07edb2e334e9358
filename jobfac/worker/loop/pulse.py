"""The pulse of the worker's loop. The heartbeat uses it to detect a stalled loop."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Pulse:
    """The time of the loop's last turn. The worker's loop writes it; the heartbeat reads it.

    A loop may hang, for example on a network folder or a secret store that does not answer. It must not keep the lease
    then, because its programs would outlive every timeout and stop. A loop that waits for the database is alive: it
    may wait minutes for a lock, and the heartbeat does not wait for such locks.
    """

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._waiting = False

    def beat(self) -> None:
        """Record that the loop turns."""
        self._last = time.monotonic()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Inside this block the loop waits for the database or deregisters, and counts as alive."""
        self._waiting = True
        try:
            yield
        finally:
            self._last = time.monotonic()  # before the flag, so the heartbeat never sees an old time without the flag
            self._waiting = False

    def age(self) -> float:
        """Seconds since the last turn of the loop; 0 while it waits for the database."""
        return 0.0 if self._waiting else time.monotonic() - self._last
