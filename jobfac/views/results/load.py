"""The view of how full the coming days are."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

MOVES = 20
"""The maximum number of proposed moves."""

NAMED = 10
"""The maximum number of jobs that a remark names."""


class HourLoad(NamedTuple):
    """One hour of a pool. ``runs``: due times in it. ``busy_percent``: of the time of the pool's slots; null: it has
    none. ``wait_seconds``: how long the last of its runs would wait for a slot."""

    at: datetime
    runs: int
    busy_percent: float | None
    wait_seconds: float


class PoolLoad(NamedTuple):
    """A pool. ``slots``: of the live workers that serve it; a worker of several pools counts for each."""

    pool: str
    slots: int
    hours: list[HourLoad]


class MoveView(NamedTuple):
    """A due time that would better be another one. ``to``: the beginning of a quiet hour; null: there is none."""

    pool: str
    job: str
    schedule: str
    due_at: datetime
    to: datetime | None
    reason: str


class LoadView(NamedTuple):
    """How full the coming hours are, by pool.

    Attributes:
        unknown: jobs without statistics, which count with a minute.
        dense: schedules with so many runs that only the first ones are counted.
        unserved: jobs that no live worker may claim: none has their pool, labels and number of slots.
        limited: jobs whose runs would wait more than a minute for others because of a limit.
    """

    since: datetime
    until: datetime
    pools: list[PoolLoad]
    moves: list[MoveView]
    unknown: list[str]
    dense: list[str]
    unserved: list[str]
    limited: list[str]

    def remarks(self) -> list[str]:
        """Return what is left out, and what makes runs wait, as sentences."""
        told = {
            "Without statistics, so counted with a minute": self.unknown,
            "Too many runs, so only the first ones are counted": self.dense,
            "No live worker has their pool, labels and slots": self.unserved,
            "Their concurrency limit makes runs wait more than a minute": self.limited,
        }
        found = [f"{what}: {_named(names)}." for what, names in told.items() if names]
        return [f"Only the first {MOVES} moves are shown.", *found] if len(self.moves) >= MOVES else found


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
