"""The phases of a worker, and the legal moves between them. Only the worker's loop changes the phase."""

import time
from enum import StrEnum

from jobfac.states import WorkerState
from jobfac.worker.machine import Machine

STORING = 20.0
"""Seconds beyond the deadline of a drain for which a worker stores output of programs that it lost."""


class Phase(StrEnum):
    """The phase of a worker."""

    ACTIVE = "active"  # claims and executes runs
    DRAINING = "draining"  # claims no more runs; deregisters when its runs have ended
    FENCED = "fenced"  # lost its lease: kills its programs, then registers again
    LEFT = "left"  # it has deregistered


MOVES: dict[Phase, frozenset[Phase]] = {
    Phase.ACTIVE: frozenset({Phase.DRAINING, Phase.FENCED, Phase.LEFT}),
    Phase.DRAINING: frozenset({Phase.ACTIVE, Phase.FENCED, Phase.LEFT}),
    Phase.FENCED: frozenset({Phase.ACTIVE, Phase.DRAINING, Phase.LEFT}),
    Phase.LEFT: frozenset(),
}


class Phases:
    """The current phase, and the deadline of a drain. Only the worker's loop uses it.

    Attributes:
        drain_until: when a draining worker stops waiting for its runs (monotonic seconds); None: no drain was
            requested. The deadline is kept when the lease is lost.
        is_signalled: a signal or this process requested the drain, so no operator can take it back.
        fenced_at: when the lease was lost last (monotonic seconds).
        gives_up: a drain was requested that does not wait for a database that cannot store the outcomes.
    """

    def __init__(self) -> None:
        self._machine = Machine(Phase.ACTIVE, MOVES)
        self.drain_until: float | None = None
        self.is_signalled = False
        self.gives_up = False
        self.fenced_at = 0.0

    @property
    def phase(self) -> Phase:
        """The current phase."""
        return self._machine.state

    @property
    def is_leaving(self) -> bool:
        """Whether a drain was requested."""
        return self.drain_until is not None

    def is_drain_over(self, now: float) -> bool:
        """Whether a drain was requested and its deadline has passed."""
        return self.drain_until is not None and now >= self.drain_until

    def is_giving_up(self, now: float, in_vain: bool) -> bool:
        """Whether a worker without programs leaves, although it could not reach the database.

        Unless it was told to, it waits beyond the drain's deadline with the outcomes that it holds: a run whose outcome
        is unknown may be executed again. ``in_vain``: it holds none, or the database can never store them.
        """
        return self.is_drain_over(now) and (self.gives_up or in_vain)

    def stores_rest(self, now: float) -> bool:
        """Whether a worker that leaves waits for output of programs that it lost."""
        return not self.is_drain_over(now if self.gives_up else now - STORING)

    def drain(self, until: float) -> None:
        """Drain until ``until`` at the latest. The earliest deadline of several requests applies."""
        self.drain_until = until if self.drain_until is None else min(until, self.drain_until)
        if self.phase == Phase.ACTIVE:
            self._machine.move(Phase.DRAINING)

    def signal(self, until: float, gives_up: bool = False) -> None:
        """Drain as ``drain`` does, without a way back."""
        self.is_signalled = True
        self.gives_up |= gives_up
        self.drain(until)

    def follow(self, state: WorkerState | None, until: float) -> bool:
        """Do what an operator requested through the database: drain until ``until``, or stop draining.

        Args:
            state: the worker's state in the database; None: it was not read.

        Returns whether the worker may claim runs again.
        """
        if state == WorkerState.DRAINING and not self.is_leaving:
            self.drain(until)
        elif state == WorkerState.ACTIVE and self.phase == Phase.DRAINING and not self.is_signalled:
            self.drain_until = None
            self._machine.move(Phase.ACTIVE)
            return True
        return False

    def fence(self) -> bool:
        """The lease was lost. Returns whether that is new."""
        is_new = self._machine.state != Phase.FENCED
        self._machine.move(Phase.FENCED)
        if is_new:
            self.fenced_at = time.monotonic()
        return is_new

    def registered(self) -> None:
        """The worker has a new lease: return to the phase before the loss."""
        self.is_signalled |= self.is_leaving  # the drain was of the row before, so the new one's state says nothing
        self._machine.move(Phase.DRAINING if self.is_leaving else Phase.ACTIVE)

    def leave(self) -> None:
        """The worker has deregistered."""
        self._machine.move(Phase.LEFT)
