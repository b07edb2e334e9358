"""The thread that polls for work and wakes the worker's loop."""

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

import sqlalchemy as sa

from jobfac.database.dialects import Survey, WorkSignal
from jobfac.database.engine import Database
from jobfac.errors import Unreachable
from jobfac.settings import Settings
from jobfac.store import workers
from jobfac.telemetry.logs import logger

log = logger("jobfac.poller")

BUSY_PAUSE = 0.05
"""Seconds between two polls while no slot is free. Then only stop requests matter."""

RETRY_INTERVAL = 0.5
"""Seconds until a failed poll is retried."""

FIRST_PAUSE, LAST_PAUSE = 0.05, 0.5
"""The first and the longest pause in seconds before the next poll, after a poll reported work but the turn found none.
A poll also counts rows as work that another transaction has locked to change them."""


class Ceiling:
    """Limits the polls per second. A token bucket that holds the tokens of one second. Used by one thread."""

    def __init__(self, a_second: float, now: float) -> None:
        self._rate = a_second
        self._tokens = a_second
        self._filled = now

    def take(self, now: float) -> float:
        """Take the token of one poll; returns the seconds to wait before that poll."""
        self._tokens = min(self._rate, self._tokens + (now - self._filled) * self._rate) - 1
        self._filled = now
        return max(0.0, -self._tokens / self._rate)


class WorkPoller:
    """Polls in its own thread. Calls ``on_found`` when there is something to do, and ``on_survey`` with each survey.

    After it has reported work it reports no more work until ``arm``, because a worker with a backlog needs no signal.
    """

    def __init__(
        self,
        db: Database,
        settings: Settings,
        worker: str,
        on_found: Callable[[WorkSignal], None],
        on_survey: Callable[[Survey], None],
    ) -> None:
        self.worker_id = 0
        self._known_stops = 0
        self._queues: Sequence[str] = ()
        self._db = db
        self._settings = settings
        self._on_found = on_found
        self._on_survey = on_survey
        self._log = log.bind(worker=worker)
        self._waiter = db.dialect.waiter(db.singles, settings.wait)
        self._ceiling = Ceiling(self._waiter.polls_a_second, time.monotonic())
        self._pause = 0.0  # written by the worker's loop while the poller is not armed
        self._survey_at = 0.0
        # If a wait returns no survey, the poller queries one after it, at most once per heartbeat interval.
        self._longest = settings.wait_seconds
        if db.dialect.name != "mssql":
            self._longest = min(settings.wait_seconds, settings.heartbeat)
        self._armed = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._wait_forever, name="poller", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def arm(self, queues: Sequence[str], in_vain: bool = False) -> None:
        """Report the next run in these queues. The worker calls this when it found nothing more to claim.

        ``in_vain``: the turn after the last report claimed nothing, so the pause before the next poll doubles.
        """
        self._queues = queues
        if not self._armed.is_set():
            self._pause = min(max(FIRST_PAUSE, self._pause * 2), LAST_PAUSE) if in_vain else 0.0
            self._armed.set()
            self._waiter.interrupt()

    def disarm(self) -> None:
        """Report no work, because no slot is free."""
        self._armed.clear()

    def close(self) -> None:
        """Stop polling. The process does not wait for the end of a wait inside SQL Server."""
        self._ended.set()
        self._armed.set()
        self._waiter.interrupt()
        self._thread.join(timeout=0.2)
        if not self._thread.is_alive():
            self._waiter.close()

    def _wait_forever(self) -> None:
        while not self._ended.is_set():
            armed = self._armed.wait(BUSY_PAUSE)  # a short wait: the worker may arm soon
            pause = max(self._ceiling.take(time.monotonic()), self._pause if armed else 0.0)
            if self._ended.wait(pause) if pause else self._ended.is_set():
                return
            seconds = self._longest if armed else min(self._longest, self._waiter.busy_seconds)
            try:
                found = self._db.retrying(partial(self._poll, armed, seconds), 0, waits=seconds)
            except (Unreachable, sa.exc.DBAPIError) as error:
                self._log.debug("cannot wait for work", action="wait_failed", reason=str(error))
                self._ended.wait(RETRY_INTERVAL)
                continue
            except Exception:  # a worker whose poller ended would stay idle forever
                self._log.exception("cannot wait for work", action="wait_failed")
                self._ended.wait(RETRY_INTERVAL)
                continue
            if armed and found & WorkSignal.STOP:
                self._ended.wait(BUSY_PAUSE)

    def _poll(self, armed: bool, seconds: float) -> WorkSignal:
        """Poll once, for at most so many seconds, and report the result."""
        worker_id = self.worker_id
        found = self._waiter.wait(self._queues if armed else (), worker_id, self._known_stops, seconds)
        if found & WorkSignal.WORK and armed:
            self._armed.clear()
        if found and not self._ended.is_set():
            self._on_found(found)
        survey = self._survey(worker_id, found)
        if survey is not None and worker_id == self.worker_id and not self._ended.is_set():
            self._known_stops = len(survey.stops)
            self._on_survey(survey)
        return found

    def _survey(self, worker_id: int, found: WorkSignal) -> Survey | None:
        """Return the survey of the wait. If the wait returns none, query one, at most once per heartbeat interval."""
        if self._waiter.survey is not None:
            survey, self._waiter.survey = self._waiter.survey, None
            return survey
        if self._db.dialect.name == "mssql":
            return None
        if not found & WorkSignal.STOP and time.monotonic() < self._survey_at + self._settings.heartbeat:
            return None
        self._survey_at = time.monotonic()
        with self._db.read() as conn:
            return workers.survey(conn, worker_id)
