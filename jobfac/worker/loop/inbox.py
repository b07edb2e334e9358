"""The inbox of the worker's loop: messages from other threads and signal handlers, taken all at once."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from jobfac.database.dialects import Survey
from jobfac.states import WorkerState
from jobfac.store.workers import Beat


class SurveyResult(NamedTuple):
    """The result of the last survey.

    Attributes:
        survey: the database's answer.
        differs: the database counted a different number of runs for this worker than the worker held at that moment.
    """

    survey: Survey
    differs: bool


@dataclass(slots=True)
class Messages:
    """All messages since the inbox was last emptied.

    Attributes:
        work: there may be something to claim.
        reported: the poller found work.
        beat: the answer to the last heartbeat.
        overload: why the machine is too loaded for more programs, empty if it is not; None: not measured again.
        survey: the result of the last survey.
        drains: deadlines of the requests to drain, in monotonic seconds.
        gives_up: one of these does not wait for a database that cannot store the outcomes.
    """

    work: bool = False
    reported: bool = False
    beat: Beat | None = None
    overload: str | None = None
    survey: SurveyResult | None = None
    drains: list[float] = field(default_factory=list)
    gives_up: bool = False

    @property
    def state(self) -> WorkerState | None:
        """This worker's state in the database, which an operator may change; None: it was not read."""
        return None if self.survey is None else self.survey.survey.state


class Inbox:
    """Collects messages for the worker's loop and wakes the loop if it has to act on one.

    The heartbeat, the poller, signal handlers and other roles write to it. The worker's loop empties it.

    The lock is reentrant, because a signal handler may interrupt the main thread while that thread holds it. Every
    write changes the current ``Messages`` in place, so a message that a handler puts during ``take`` is not lost.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        """``wake``: makes the loop return from its wait. It must be safe for any thread and signal handler."""
        self._lock = threading.RLock()
        self._messages = Messages()
        self._queues = 0  # written by put_survey alone
        self._is_overloaded = False  # written by put_load alone
        self._wake = wake

    def put_work(self, reported: bool = False) -> None:
        """Record that there may be something to claim. ``reported``: the poller found it."""
        with self._lock:
            self._messages.work = True
            self._messages.reported |= reported
        self._wake()

    def put_drain(self, until: float, gives_up: bool = False) -> None:
        """Request a drain with the deadline ``until`` (monotonic seconds), one that ``gives_up`` (see ``Messages``)."""
        with self._lock:
            self._messages.drains.append(until)
            self._messages.gives_up |= gives_up
        self._wake()

    def put_beat(self, beat: Beat) -> None:
        """Record a successful heartbeat."""
        with self._lock:
            self._messages.beat = beat
        if beat.expiry <= 0:
            self._wake()

    def put_load(self, overload: str) -> None:
        """The machine's load was measured. ``overload``: why it is too high for more programs; empty: it is not."""
        with self._lock:
            changed, self._is_overloaded = bool(overload) != self._is_overloaded, bool(overload)
            self._messages.overload = overload
            self._messages.work |= changed and not overload
        if changed:
            self._wake()

    def put_survey(self, survey: Survey, held: int) -> None:
        """Record a survey. ``held``: how many runs this worker held when the answer arrived."""
        with self._lock:
            new_queues, self._queues = survey.queues != self._queues, survey.queues
            result = SurveyResult(survey, survey.held != held)
            self._messages.survey = result
            self._messages.work |= new_queues
        if new_queues or survey.stops or result.differs or survey.state == WorkerState.DRAINING:
            self._wake()

    def take(self) -> Messages:
        """Empty the inbox and return its messages."""
        with self._lock:
            taken = self._messages
            self._messages = Messages()
        return taken
