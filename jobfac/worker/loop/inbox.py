"""The inbox of the worker's loop: what its other threads and signal handlers tell it, emptied at once."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from jobfac.database.dialects import Survey
from jobfac.states import WorkerState
from jobfac.store.workers import Beat


class SurveyResult(NamedTuple):
    """What the last survey brought.

    Attributes:
        survey: the database's answer.
        differs: the database counted another number of runs for this worker than the worker held at that moment.
    """

    survey: Survey
    differs: bool


@dataclass(slots=True)
class Messages:
    """All that arrived since the inbox was last emptied.

    Attributes:
        work: there may be something to claim.
        reported: the poller found work.
        beat: the last heartbeat's answer; of several only the last counts.
        survey: the last survey's, likewise.
        drains: time limits of requests to drain, monotonic seconds.
    """

    work: bool = False
    reported: bool = False
    beat: Beat | None = None
    survey: SurveyResult | None = None
    drains: list[float] = field(default_factory=list)

    @property
    def asks_to_drain(self) -> bool:
        """Whether an operator drains this worker, through the database."""
        return self.survey is not None and self.survey.survey.state == WorkerState.DRAINING


class Inbox:
    """Written by the heartbeat, by the thread that waits for work, by signal handlers and by other roles; emptied by
    the worker's loop. Every message for which the loop has something to do wakes it.

    The lock can be entered again, since a signal handler may interrupt the main thread while that holds it. So every
    write changes the present ``Messages`` in place: a handler that comes in the midst of ``take`` loses nothing.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        """``wake``: lets the loop return from its wait; callable from any thread and signal handler."""
        self._lock = threading.RLock()
        self._messages = Messages()
        self._queues = 0  # written by put_survey alone
        self._wake = wake

    def put_work(self, reported: bool = False) -> None:
        """There may be something to claim. ``reported``: the poller found it."""
        with self._lock:
            self._messages.work = True
            self._messages.reported |= reported
        self._wake()

    def put_drain(self, until: float) -> None:
        """Somebody asks the worker to drain until then (monotonic seconds)."""
        with self._lock:
            self._messages.drains.append(until)
        self._wake()

    def put_beat(self, beat: Beat) -> None:
        """A heartbeat succeeded."""
        with self._lock:
            self._messages.beat = beat
        if beat.expiry <= 0:
            self._wake()

    def put_survey(self, survey: Survey, held: int) -> None:
        """The database was surveyed. ``held``: how many runs this worker held when the answer came."""
        with self._lock:
            new_queues, self._queues = survey.queues != self._queues, survey.queues
            result = SurveyResult(survey, survey.held != held)
            self._messages.survey = result
            self._messages.work |= new_queues
        if new_queues or survey.stops or result.differs or survey.state == WorkerState.DRAINING:
            self._wake()

    def take(self) -> Messages:
        """Empty the inbox and return what was in it."""
        with self._lock:
            taken = self._messages
            self._messages = Messages()
        return taken
