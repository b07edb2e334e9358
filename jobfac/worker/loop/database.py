"""The database as the worker's loop uses it: in another thread, so that timeouts and stops are enforced meanwhile."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotDone
from typing import Any, TypeVar

from jobfac.database.engine import Database
from jobfac.worker.loop.pulse import Pulse

T = TypeVar("T")

PAUSE = 0.1
"""Seconds between two calls of ``meanwhile`` while the loop waits for the database."""


class LoopDatabase:
    """Runs one piece of work at a time in its thread, while the loop waits for the result.

    A transaction may wait seconds for a lock that a DBA holds, or for a server that does not answer. The programs of
    this worker must still meet their timeouts and obey stop requests in that time.
    """

    def __init__(self, db: Database, pulse: Pulse, meanwhile: Callable[[], None]) -> None:
        """``meanwhile``: called by the loop's own thread every ``PAUSE``. It must not change what the work reads."""
        self._db = db
        self._pulse = pulse
        self._meanwhile = meanwhile
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="database")

    def transact(self, work: Callable[..., T], *arguments: Any, retry_for: float) -> T:
        """``Database.transact`` in the other thread. Raises as that does."""
        return self.do(lambda: self._db.transact(work, *arguments, retry_for=retry_for))

    def query(self, work: Callable[..., T], *arguments: Any, retry_for: float) -> T:
        """``Database.query`` in the other thread. Raises as that does."""
        return self.do(lambda: self._db.query(work, *arguments, retry_for=retry_for))

    def do(self, work: Callable[[], T]) -> T:
        """Call ``work`` in the other thread and return its result, or raise its error."""
        with self._pulse.waiting():
            result = self._thread.submit(work)
            while True:
                try:
                    return result.result(timeout=PAUSE)
                except NotDone:
                    if result.done():  # the work ended meanwhile, perhaps with an error of this type
                        return result.result()
                self._meanwhile()

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=False)
