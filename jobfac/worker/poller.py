"""The thread that waits for work, so that the worker's loop need not ask for it."""

import threading
from collections.abc import Callable, Sequence

import sqlalchemy as sa

from jobfac.database.dialects import Found
from jobfac.database.engine import Database
from jobfac.settings import Settings
from jobfac.telemetry.logs import logger

log = logger("jobfac.notice")

BUSY_PAUSE = 0.05
"""Seconds between two waits while no slot is free: then only stop requests are of interest."""

TRY_AGAIN = 0.5
"""Seconds until a wait that failed is tried again."""


class WorkPoller:
    """Tells the worker, by ``on_found`` from its own thread, when there is something to do.

    After it has told of work it is silent until ``arm``: a worker that is busy with a backlog needs no telling.
    """

    def __init__(self, db: Database, settings: Settings, worker: str, on_found: Callable[[Found], None]) -> None:
        self.worker_id = 0
        self.known_stops = 0
        self._queues: Sequence[str] = ()
        self._db = db
        self._seconds = settings.wait_seconds
        self._on_found = on_found
        self._log = log.bind(worker=worker)
        self._waiter = db.dialect.waiter(db.singles, settings.wait)
        self._armed = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._wait_forever, name="notice", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def arm(self, queues: Sequence[str]) -> None:
        """Tell of the next run in these queues: the worker found nothing more to claim."""
        self._queues = queues
        if not self._armed.is_set():
            self._armed.set()
            self._waiter.interrupt()

    def disarm(self) -> None:
        """No slot is free."""
        self._armed.clear()

    def close(self) -> None:
        """Stop waiting. A wait inside SQL Server ends by itself; the process need not stay for it."""
        self._ended.set()
        self._armed.set()
        self._waiter.interrupt()
        self._thread.join(timeout=1.0)
        if not self._thread.is_alive():
            self._waiter.close()

    def _wait_forever(self) -> None:
        while not self._ended.is_set():
            armed = self._armed.wait(BUSY_PAUSE)  # the worker may be just about to find that there is nothing more
            if self._ended.is_set():
                return
            try:
                found = self._waiter.wait(
                    self._queues if armed else (),
                    self.worker_id,
                    self.known_stops,
                    self._seconds if armed else min(self._seconds, self._waiter.busy_seconds),
                )
            except (sa.exc.DBAPIError, sa.exc.ResourceClosedError) as error:
                self._log.debug("cannot wait for work", action="wait_failed", reason=str(error))
                self._ended.wait(TRY_AGAIN)
                continue
            except Exception:  # whatever it is, a worker that no longer hears of work would be idle for ever
                self._log.exception("cannot wait for work", action="wait_failed")
                self._ended.wait(TRY_AGAIN)
                continue
            if found & Found.WORK and armed:
                self._armed.clear()
            if found and not self._ended.is_set():
                self._on_found(found)
            if armed and found & Found.STOP:
                self._ended.wait(BUSY_PAUSE)
