"""The database as the worker's loop uses it: a deputy enforces timeouts and stops while the loop waits for it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.errors import Unreachable
from jobfac.worker.loop.phases import Phases
from jobfac.worker.loop.pulse import Pulse

T = TypeVar("T")

PAUSE = 0.1
"""Seconds that the loop waits for the database before the deputy acts, and between two acts."""

REST = 1.0
"""Seconds between two looks of the deputy while no program runs."""

UNKNOWN_FOR = 60.0
"""Seconds for which an error of the database that jobfac does not know counts as an outage. It may be one that hits
every worker and passes. If it stays, it may be that of one run, so the worker ends and its runs go to others."""

OF_THE_MACHINE = (OSError, ImportError)
"""Errors of a transaction that reads files, such as those of time zones and holidays, which are just replaced."""


class LoopDatabase:
    """Work on the database in the loop's own thread, and a deputy in another.

    A transaction may wait seconds for a lock that a DBA holds, or for a server that does not answer. The programs of
    this worker must still meet their timeouts and obey stop requests in that time. To hand the work itself to another
    thread would cost each turn two switches of threads.
    """

    def __init__(
        self, db: Database, pulse: Pulse, meanwhile: Callable[[], None], is_busy: Callable[[], bool] = lambda: True
    ) -> None:
        """
        Args:
            meanwhile: called by the deputy while the loop waits. It must not change what the work reads.
            is_busy: whether programs run, so that ``meanwhile`` may have something to do.
        """
        self._db = db
        self._pulse = pulse
        self._meanwhile = meanwhile
        self._is_busy = is_busy
        self._lock = threading.Lock()  # the deputy never acts while the loop does
        self._began: float | None = None  # since when the loop waits (monotonic)
        self._error: BaseException | None = None
        self._unknown_since: float | None = None  # written by the loop
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="deputy", daemon=True)

    def start(self) -> None:
        """Start the deputy."""
        self._thread.start()

    def transact(self, work: Callable[..., T], *arguments: Any, retry_for: float) -> T:
        """``Database.transact``, with the deputy. Raises as that does."""
        result = self.do(lambda: self._db.transact(work, *arguments, retry_for=retry_for), OF_THE_MACHINE)
        self._unknown_since = None
        return result

    def query(self, work: Callable[..., T], *arguments: Any, retry_for: float) -> T:
        """``Database.query``, with the deputy. Raises as that does."""
        return self.do(lambda: self._db.query(work, *arguments, retry_for=retry_for), OF_THE_MACHINE)

    def do(self, work: Callable[[], T], passing: tuple[type[Exception], ...] = ()) -> T:
        """Call ``work`` and return its result. Raises its error, or one of the deputy.

        ``passing``: other errors that count as ``Unreachable`` for a while.
        """
        with self._pulse.waiting():
            self._began = time.monotonic()
            try:
                with self.unknown_is_outage(passing):
                    return work()
            finally:
                with self._lock:
                    self._began = None
                if self._error is not None:
                    raise self._error

    @contextmanager
    def unknown_is_outage(self, passing: tuple[type[Exception], ...] = ()) -> Iterator[None]:
        """Make an error of the database that jobfac does not know ``Unreachable``, unless it stays.

        Raises:
            Unreachable: what was done in this block failed.
        """
        try:
            yield
        except Exception as error:
            if not isinstance(error, (sa.exc.DBAPIError, *passing)):
                raise
            self._unknown_since = self._unknown_since or time.monotonic()
            if time.monotonic() - self._unknown_since > UNKNOWN_FOR:
                raise
            if not isinstance(error, sa.exc.DBAPIError):
                raise Unreachable(f"This machine cannot read what it needs: {error}.") from error
            raise Unreachable(f"The database answers with an error: {error.orig}.") from error

    def drain_if_damaged(self, phases: Phases, limit: float, log: Any) -> None:
        """Let the worker drain for at most ``limit`` seconds if the database file is damaged for certain.

        What its programs do elsewhere need not be lost, but no outcome may ever be stored.
        """
        watch = self._db.damage
        if not watch.is_suspected or (error := self.do(watch.certain)) is None:
            return
        if not phases.is_signalled:
            log.error("draining, then stopping", action="database_damaged", reason=str(error))
        phases.signal(time.monotonic() + limit)

    def _watch(self) -> None:
        while not self._ended.wait(PAUSE if self._is_busy() else REST):
            began = self._began
            if began is None or time.monotonic() - began < PAUSE:
                continue
            with self._lock:
                if self._began == began:  # the loop still waits for the same work
                    try:
                        self._meanwhile()
                    except BaseException as error:
                        self._error = error
                        return

    def close(self) -> None:
        """End the deputy."""
        self._ended.set()
        self._thread.join(timeout=5.0)
