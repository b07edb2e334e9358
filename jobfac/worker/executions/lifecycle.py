"""The life of one execution as a state machine: when it times out, how it is ended, and why. No process, no clock."""

from enum import StrEnum

from jobfac.states import Stop
from jobfac.worker.machine import Machine


class Stage(StrEnum):
    """Where an execution stands."""

    PREPARED = "prepared"  # claimed; nothing is started
    RUNNING = "running"  # its program runs
    ENDING = "ending"  # its program was asked to end
    LINGERING = "lingering"  # its program has ended; what it left running was asked to end
    OVER = "over"  # nothing of it runs, or nothing was started: its outcome can be stored


MOVES: dict[Stage, frozenset[Stage]] = {
    Stage.PREPARED: frozenset({Stage.RUNNING, Stage.OVER}),
    Stage.RUNNING: frozenset({Stage.ENDING, Stage.LINGERING, Stage.OVER}),
    Stage.ENDING: frozenset({Stage.LINGERING, Stage.OVER}),
    Stage.LINGERING: frozenset({Stage.OVER}),
    Stage.OVER: frozenset(),
}


class Cause(StrEnum):
    """Why the worker ends a program."""

    TIMED_OUT = "timed_out"
    STOPPED = "stopped"
    STOPPED_NOW = "stopped_now"
    REQUEUED = "requeued"  # its run goes back into the queue
    REQUEUED_NOW = "requeued_now"

    @property
    def is_now(self) -> bool:
        """Whether the program is killed without grace."""
        return self in (Cause.STOPPED_NOW, Cause.REQUEUED_NOW)

    @property
    def requeues(self) -> bool:
        """Whether its run goes back into the queue."""
        return self in (Cause.REQUEUED, Cause.REQUEUED_NOW)


def merged(before: Cause | None, how: Stop, requeue: bool) -> Cause:
    """The cause after one more request. A kill stays a kill, and a run that somebody stopped is not requeued."""
    if before is not None and before.is_now:
        return before
    requeue = requeue and before in (None, Cause.TIMED_OUT, Cause.REQUEUED)
    if how == Stop.NOW:
        return Cause.REQUEUED_NOW if requeue else Cause.STOPPED_NOW
    return Cause.REQUEUED if requeue else Cause.STOPPED


class Action(StrEnum):
    """What is to be done to the program and all that it started."""

    TERMINATE = "terminate"
    KILL = "kill"


KILL_AGAIN = 1.0
"""Seconds after a KILL until the next: something may have been forked meanwhile."""

LOOK = 0.05
"""Seconds between two looks at what a program left running; the kernel does not tell when that has ended."""


class Lifecycle:
    """Owned by the worker's loop. All times are monotonic seconds.

    Attributes:
        cause: why the program is ended; None: it ends by itself.
    """

    def __init__(self, timeout: float | None, grace: float, warn_after: float | None, now: float) -> None:
        """Durations in seconds. ``now`` counts as the beginning until ``started``."""
        self._machine = Machine(Stage.PREPARED, MOVES)
        self._timeout = timeout
        self._grace = grace
        self._warn_after = warn_after
        self._kill_at: float | None = None
        self.began = now
        self.cause: Cause | None = None

    @property
    def stage(self) -> Stage:
        """The present stage."""
        return self._machine.state

    def started(self, now: float) -> None:
        """The program runs."""
        self.began = now
        self._machine.move(Stage.RUNNING)

    def over(self) -> None:
        """Nothing of it runs: it was not started, or it has ended with all that it started."""
        self._machine.move(Stage.OVER)

    def request_stop(self, how: Stop, requeue: bool, now: float, ended: bool) -> tuple[Action, ...]:
        """Somebody wants it to end; returns what to do.

        Args:
            requeue: its run goes back into the queue.
            ended: its program has ended by itself; then that counts, and only what it left running is ended.
        """
        if self.stage == Stage.OVER or (self.cause is not None and self.cause.is_now):
            return ()
        if self.stage == Stage.PREPARED:
            self.cause = merged(self.cause, how, requeue)
            self._machine.move(Stage.OVER)
            return ()
        if how == Stop.NOW:
            self._kill_at = now
        if ended:
            return ()
        before, self.cause = self.cause, merged(self.cause, how, requeue)
        return self._end(now) if how == Stop.POLITE and before is None else ()

    def tick(self, now: float, ended: bool, leftovers: bool) -> tuple[Action, ...]:
        """Do what the clock asks for; returns what to do.

        Args:
            ended: the program has ended.
            leftovers: it left something running.
        """
        if self.stage in (Stage.PREPARED, Stage.OVER):
            return ()
        actions: tuple[Action, ...] = ()
        if not ended:
            if self.cause is None and self._timeout and now >= self.began + self._timeout:
                self.cause = Cause.TIMED_OUT
                actions = self._end(now)
        elif not leftovers:
            self.over()
            return ()
        elif self.stage != Stage.LINGERING:
            if self._kill_at is None:
                actions = self._end(now)
            self._machine.move(Stage.LINGERING)
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = now + KILL_AGAIN
            self._mark_ending()
            actions += (Action.KILL,)
        return actions

    def next_time(self, now: float, ended: bool) -> float | None:
        """When ``tick`` has something to do; None: when the program has ended."""
        if self.stage in (Stage.PREPARED, Stage.OVER):
            return None
        times = [self._kill_at]
        if ended:
            times.append(now + LOOK)
        else:
            times.append(self.began + self._timeout if self._timeout and self.cause is None else None)
            times.append(self.warn_at)
        return min((time for time in times if time is not None), default=None)

    @property
    def warn_at(self) -> float | None:
        """When the run is to be reported as running long; None: never, or done already."""
        return None if self._warn_after is None else self.began + self._warn_after

    def runs_long(self, now: float) -> bool:
        """Whether it is to be reported as running long; true once."""
        if self.stage in (Stage.PREPARED, Stage.OVER) or self.warn_at is None or now < self.warn_at:
            return False
        self._warn_after = None
        return True

    def _end(self, now: float) -> tuple[Action, ...]:
        self._kill_at = now + self._grace
        self._mark_ending()
        return (Action.TERMINATE,)

    def _mark_ending(self) -> None:
        if self.stage == Stage.RUNNING:
            self._machine.move(Stage.ENDING)
