"""When a worker claims nothing because of runs that are suspected of killing their workers. Pure decisions.

A suspected run is executed alone: ``store.workers.claiming``. Times are monotonic seconds.
"""

from collections.abc import Iterable

from jobfac.store.workers.suspects import Suspicion, Waiting

ALONE = 600.0
"""Seconds for which a suspected run keeps its worker from claiming others, from its claim, and for which a busy worker
makes room for one. What kills its worker does so within minutes, most of the time. What runs for months, or waits for
that, would keep the worker from everything else."""

ALONE_AGAIN = 3600.0
"""Seconds after which a worker makes room again. A busy worker would never be without others."""

PATIENCE = (5.0, 35.0)
"""Seconds for which a run waits for an idle worker before a busy one makes room: each worker takes another time between
these, so that one is the first, and the others see it. A worker that is alone does not wait."""

LOOK = 1.0
"""Seconds after which a worker looks again whether a suspected run still waits."""

Key = tuple[int, int]


class Isolation:
    """Decides when a worker claims nothing because of suspected runs: those that it has, and those that wait.

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
        elif not self.waiting:
            self._known = now
        self.waiting = waiting.runs
        self.look_at = now + LOOK if waiting.runs else None
        is_time = now >= self._not_before and (is_single or now >= self._known + self._patience)
        if not waiting.runs or waiting.elsewhere or not is_time:
            return False
        self._until, self._not_before = now + ALONE, now + ALONE_AGAIN
        return True

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
