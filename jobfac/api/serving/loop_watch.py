"""Notices that the event loop of the API no longer turns.

It does not if a thread for a request begins without memory: ``Thread.start`` then waits for ever, in the event loop.
"""

import threading
from collections.abc import Callable

from jobfac.telemetry.logs import logger

log = logger("jobfac.api")

MOST = 60
"""Seconds without a turn after which the event loop counts as stuck. It turns ten times a second."""

SECOND = 1.0
"""How long one of these seconds takes."""


class LoopWatch:
    """Counts the seconds since the last turn, in a thread of its own.

    It counts its own waits, so a machine that was suspended, or a process that was stopped, is not taken for stuck.

    Attributes:
        is_stuck: the event loop has not turned for ``MOST`` seconds.
        on_stuck: called after ``MOST`` seconds, and again after as many more.
    """

    def __init__(self) -> None:
        self.is_stuck = False
        self.on_stuck: Callable[[], object] = lambda: None
        self._has_turned = threading.Event()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loop-watch", daemon=True)

    def start(self) -> None:
        """Begin to count."""
        self._thread.start()

    def turned(self) -> None:
        """The event loop has turned."""
        self._has_turned.set()

    def close(self) -> None:
        """Count no longer."""
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        missed = 0
        while not self._is_over.wait(SECOND):
            missed = 0 if self._has_turned.is_set() else missed + 1
            self._has_turned.clear()
            self.is_stuck = missed >= MOST
            if missed and missed % MOST == 0:
                log.error(
                    "the API's event loop is stuck, so it answers nothing; start the process again",
                    action="api_stuck", seconds=missed,
                )  # fmt: skip
                self.on_stuck()
