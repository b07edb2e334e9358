"""The inbox of the worker's loop: what its other threads and signal handlers tell it, emptied at once."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from jobfac.states import WorkerState
from jobfac.store.workers import Beat


class HeartbeatNews(NamedTuple):
    """What the last heartbeat brought.

    Attributes:
        beat: the database's answer.
        differs: the database counted another number of runs for this worker than the worker held at that moment.
    """

    beat: Beat
    differs: bool


@dataclass(slots=True)
class Messages:
    """All that arrived since the inbox was last emptied.

    Attributes:
        work: there may be something to claim.
        news: of the last heartbeat; of several only the last counts.
        drains: time limits of requests to drain, monotonic seconds.
    """

    work: bool = False
    news: HeartbeatNews | None = None
    drains: list[float] = field(default_factory=list)

    @property
    def asks_to_drain(self) -> bool:
        """Whether an operator drains this worker, through the database."""
        return self.news is not None and self.news.beat.state == WorkerState.DRAINING


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
        self._queues = 0  # written by put_beat alone
        self._wake = wake

    def put_work(self) -> None:
        """There may be something to claim."""
        with self._lock:
            self._messages.work = True
        self._wake()

    def put_drain(self, until: float) -> None:
        """Somebody asks the worker to drain until then (monotonic seconds)."""
        with self._lock:
            self._messages.drains.append(until)
        self._wake()

    def put_beat(self, beat: Beat, held: int) -> None:
        """A heartbeat succeeded. ``held``: how many runs this worker held when its answer came."""
        with self._lock:
            new_queues, self._queues = beat.queues != self._queues, beat.queues
            news = HeartbeatNews(beat, beat.held != held)
            self._messages.news = news
            self._messages.work |= new_queues
        if new_queues or beat.stops or beat.expiry <= 0 or news.differs or beat.state == WorkerState.DRAINING:
            self._wake()

    def take(self) -> Messages:
        """Empty the inbox and return what was in it."""
        with self._lock:
            taken = self._messages
            self._messages = Messages()
        return taken
