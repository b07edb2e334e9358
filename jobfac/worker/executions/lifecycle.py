"""One execution as a state machine: when it times out, how it is ended, and why. Uses no process and no clock."""

import math
from collections.abc import Iterable
from enum import StrEnum

from jobfac.states import Stop
from jobfac.store.workers.suspects import ALONE, Suspicion, Waiting
from jobfac.worker.machine import Machine


class Stage(StrEnum):
    """The stage of an execution."""

    PREPARED = "prepared"  # claimed, not started
    RUNNING = "running"  # the program runs
    ENDING = "ending"  # the program was asked to end
    LINGERING = "lingering"  # the program has ended; the processes it left running were asked to end
    OVER = "over"  # no process is left, or none was started: the outcome can be stored


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
    SILENT = "silent"  # it wrote nothing for too long
    TOO_LARGE = "too_large"  # its files take too much of the disk
    STOPPED = "stopped"
    STOPPED_NOW = "stopped_now"
    REQUEUED = "requeued"  # ended to requeue the run
    REQUEUED_NOW = "requeued_now"

    @property
    def is_now(self) -> bool:
        """Whether the program is killed without grace."""
        return self in (Cause.TOO_LARGE, Cause.STOPPED_NOW, Cause.REQUEUED_NOW)

    @property
    def is_limit(self) -> bool:
        """Whether the program has exceeded a limit, of its time or of the disk."""
        return self in (Cause.TIMED_OUT, Cause.SILENT, Cause.TOO_LARGE)

    @property
    def requeues(self) -> bool:
        """Whether the run is requeued."""
        return self in (Cause.REQUEUED, Cause.REQUEUED_NOW)


def merged(before: Cause | None, how: Stop, requeue: bool) -> Cause:
    """Return the cause after a further request. A kill stays a kill, and a stopped run is not requeued."""
    if before is not None and before.is_now:
        return before
    requeue = requeue and before in (None, Cause.TIMED_OUT, Cause.SILENT, Cause.REQUEUED)
    if how == Stop.NOW:
        return Cause.REQUEUED_NOW if requeue else Cause.STOPPED_NOW
    return Cause.REQUEUED if requeue else Cause.STOPPED


class Action(StrEnum):
    """A signal for the program and every process that it started."""

    TERMINATE = "terminate"
    KILL = "kill"


KILL_AGAIN, LONGEST_PAUSE = 1.0, 16.0
"""Seconds between two KILLs, the first time and at most: a process may have forked meanwhile. They double each time, as
each KILL reads the table of all processes. All executions have them at the same moments, so that one look is enough."""

KILL_ANSWERED = 10.0
"""Seconds after the first KILL in which a program ends, unless it is stuck in the kernel."""

LEFTOVER_INTERVAL = 0.05
"""Seconds between two polls for processes that a program left running. The kernel does not report their end."""


def earliest(*times: float | None) -> float | None:
    """Return the earliest of these times; None stands for never."""
    return min((time for time in times if time is not None), default=None)


class Lifecycle:
    """The state machine of one execution. Only the worker's loop uses it. All times are monotonic seconds.

    Attributes:
        cause: why the worker ends the program; None: the program ended on its own.
    """

    def __init__(self, timeout: float | None, grace: float, warn_after: float | None, now: float) -> None:
        """Durations in seconds. ``now`` is the start time until ``started`` is called."""
        self._machine = Machine(Stage.PREPARED, MOVES)
        self._timeout = timeout
        self._grace = grace
        self._warn_after = warn_after
        self._kill_at: float | None = None
        self._pause = KILL_AGAIN  # until the next KILL
        self._unanswered_at: float | None = None  # when to report a program that outlives KILL; infinite: reported
        self.began = now
        self.cause: Cause | None = None

    @property
    def stage(self) -> Stage:
        """The current stage."""
        return self._machine.state

    @property
    def stopped(self) -> bool:
        """Whether the worker has ended the program for another reason than that it took too much."""
        return self.cause is not None and not self.cause.is_limit

    def started(self, now: float) -> None:
        """Call when the program was started."""
        self.began = now
        self._machine.move(Stage.RUNNING)

    def over(self) -> None:
        """Call when no process is left, or when the program was not started."""
        self._machine.move(Stage.OVER)

    def request_stop(self, how: Stop, requeue: bool, now: float, ended: bool) -> tuple[Action, ...]:
        """Handle a request to stop; returns the signals to send.

        Args:
            requeue: requeue the run.
            ended: the program has ended on its own. Its result counts, and only its leftover processes are ended.
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

    def silent(self, now: float) -> tuple[Action, ...]:
        """End a running program that has written nothing for too long; returns the signals to send."""
        if self.stage != Stage.RUNNING or self.cause is not None:
            return ()
        self.cause = Cause.SILENT
        return self._end(now)

    def too_large(self, now: float, ended: bool) -> None:
        """Let the next ``tick`` kill a program, or what it left, because its files take too much of the disk."""
        if self.stage in (Stage.PREPARED, Stage.OVER) or self._unanswered_at is not None:
            return
        self._kill_at = now
        if not ended and self.cause is None:
            self.cause = Cause.TOO_LARGE

    def tick(self, now: float, ended: bool, leftovers: bool) -> tuple[Action, ...]:
        """Apply timeout and grace period; returns the signals to send.

        Args:
            ended: the program has ended.
            leftovers: the program left processes running.
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
            self._kill_at = (now // self._pause + 1) * self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            if self._unanswered_at is None:
                self._unanswered_at = now + KILL_ANSWERED
            self._mark_ending()
            actions += (Action.KILL,)
        return actions

    def next_time(self, now: float, ended: bool) -> float | None:
        """Return when ``tick`` is due next; None: not before the program ends."""
        if self.stage in (Stage.PREPARED, Stage.OVER):
            return None
        times = [self._kill_at]
        if ended:
            times.append(now + LEFTOVER_INTERVAL)
        else:
            times.append(self.began + self._timeout if self._timeout and self.cause is None else None)
            times.append(self.warn_at)
        return earliest(*times)

    @property
    def warn_at(self) -> float | None:
        """When to report the run as running long; None: never, or already reported."""
        return None if self._warn_after is None else self.began + self._warn_after

    def runs_long(self, now: float) -> bool:
        """Whether to report the run as running long now. True only once."""
        if self.stage in (Stage.PREPARED, Stage.OVER) or self.warn_at is None or now < self.warn_at:
            return False
        self._warn_after = None
        return True

    def outlives_kill(self, now: float) -> bool:
        """Whether to report now that KILL does not end the program. True only once."""
        if self.stage == Stage.OVER or self._unanswered_at is None or now < self._unanswered_at:
            return False
        self._unanswered_at = math.inf
        return True

    def _end(self, now: float) -> tuple[Action, ...]:
        self._kill_at = now + self._grace
        self._mark_ending()
        return (Action.TERMINATE,)

    def _mark_ending(self) -> None:
        if self.stage == Stage.RUNNING:
            self._machine.move(Stage.ENDING)


FIRST_ROOM, LONGEST_ROOM = 600.0, 9600.0
"""Seconds for which a busy worker makes room, for the first time and at most. They double each time that its runs have
not ended, because these may take long; some never end."""

SHARE = 6
"""A worker makes room for at most one part in so many of its time."""

PATIENCE = (5.0, 35.0)
"""Seconds for which a run waits for an idle worker before a busy one makes room: each worker takes another time between
these, so that one is the first, and the others see it. A worker that is alone does not wait."""

LOOK = 1.0
"""Seconds after which a worker looks again whether a suspected run still waits."""

Key = tuple[int, int]


class Isolation:
    """Decides when a worker claims nothing because of suspected runs: those that it has, and those that wait.

    A suspected run is executed alone: ``store.workers.claiming``. Times are monotonic seconds.

    Attributes:
        waiting: suspected runs that wait, as far as the worker knows.
        look_at: when to look again whether they wait; None: none does.
        losses: after so many lost attempts a run is suspected, because after one more it is not retried.
    """

    def __init__(self, poison_attempts: int, patience: float) -> None:
        """``patience``: for how many seconds this worker waits for an idle one. It may be one of ``PATIENCE``."""
        self.losses = max(1, poison_attempts - 1)
        self.waiting: frozenset[int] = frozenset()
        self.look_at: float | None = None
        self._patience = patience
        self._since: dict[Key, float] = {}  # when suspected runs of this worker were claimed
        self._known = 0.0  # since when one has been waiting
        self._until = 0.0  # until when this worker makes room
        self._not_before = 0.0  # when it may do so again
        self._room = FIRST_ROOM  # for how long then

    @property
    def suspicion(self) -> Suspicion:
        """What a turn has to know."""
        return Suspicion(self.losses, self.waiting)

    def begins(self, key: Key, now: float) -> None:
        """Record the claim of a suspected run."""
        self._since[key] = now

    def found(self, waiting: Waiting, is_single: bool, now: float) -> bool:
        """Record which suspected runs wait. Returns whether the worker makes room from now on.

        ``is_single``: there is no other worker, so the run need not wait for one that is idle.
        """
        if not waiting.runs:
            self._until = self._not_before = 0.0
            self._room = FIRST_ROOM
        elif not self.waiting:
            self._known = now
        self.waiting = waiting.runs
        self.look_at = now + LOOK if waiting.runs else None
        is_time = now >= self._not_before and (is_single or now >= self._known + self._patience)
        if not waiting.runs or waiting.elsewhere or not is_time:
            return False
        self._until, self._not_before = now + self._room, now + SHARE * self._room
        self._room = min(2 * self._room, LONGEST_ROOM)
        return True

    def wakes_at(self, due: float | None, now: float) -> float | None:
        """Return when something is to be done: at ``due``, or when to look again. A look that is overdue may wait."""
        if self.look_at is None or self.look_at <= now:
            return due
        return self.look_at if due is None else min(due, self.look_at)

    def makes_room(self, now: float) -> bool:
        """Whether the worker claims nothing until its runs have ended, so that a suspected run can be alone."""
        return now < self._until

    def is_alone(self, now: float) -> bool:
        """Whether a suspected run of this worker has to be alone."""
        return any(now < since + ALONE for since in self._since.values())

    def forget(self, keys: Iterable[Key]) -> None:
        """Forget executions that have ended."""
        for key in keys:
            self._since.pop(key, None)
