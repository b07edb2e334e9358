"""The phases of a worker's life, and which moves between them are legal. Only the worker's loop moves."""

from enum import StrEnum

from jobfac.worker.machine import Machine


class Phase(StrEnum):
    """Where a worker stands."""

    ACTIVE = "active"  # claims and executes runs
    DRAINING = "draining"  # claims nothing more; leaves when its runs have ended
    FENCED = "fenced"  # its lease is lost: its programs end, then it registers again
    LEFT = "left"  # it has deregistered


MOVES: dict[Phase, frozenset[Phase]] = {
    Phase.ACTIVE: frozenset({Phase.DRAINING, Phase.FENCED, Phase.LEFT}),
    Phase.DRAINING: frozenset({Phase.FENCED, Phase.LEFT}),
    Phase.FENCED: frozenset({Phase.ACTIVE, Phase.DRAINING, Phase.LEFT}),
    Phase.LEFT: frozenset(),
}


class Phases:
    """The present phase, and the time limit of a drain. Owned by the worker's loop.

    Attributes:
        drain_until: when a draining worker stops waiting for its runs (monotonic seconds); None: no drain was asked
            for. It outlasts a lost lease.
    """

    def __init__(self) -> None:
        self._machine = Machine(Phase.ACTIVE, MOVES)
        self.drain_until: float | None = None

    @property
    def phase(self) -> Phase:
        """The present phase."""
        return self._machine.state

    @property
    def is_leaving(self) -> bool:
        """Whether a drain was asked for."""
        return self.drain_until is not None

    def is_drain_over(self, now: float) -> bool:
        """Whether a drain was asked for and its time limit has passed."""
        return self.drain_until is not None and now >= self.drain_until

    def drain(self, until: float) -> None:
        """Drain until then at most; of several requests the earliest limit holds."""
        self.drain_until = until if self.drain_until is None else min(until, self.drain_until)
        if self.phase == Phase.ACTIVE:
            self._machine.move(Phase.DRAINING)

    def fence(self) -> None:
        """The lease is lost."""
        self._machine.move(Phase.FENCED)

    def registered(self) -> None:
        """There is a fresh lease: go on as before the old one was lost."""
        self._machine.move(Phase.DRAINING if self.is_leaving else Phase.ACTIVE)

    def leave(self) -> None:
        """The worker has ended."""
        self._machine.move(Phase.LEFT)
