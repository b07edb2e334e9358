"""The views of a worker, without the token that marks its processes, and of a scheduler."""

from datetime import datetime
from typing import NamedTuple

from jobfac.states import WorkerState

AFTER_LIMIT = (
    "Those that take longer than its drain_limit (60 s by default) are stopped and queued again, "
    "or end as lost if their job has restartable: false."
)
"""What a drain does to the runs of a worker that do not end in time, as a sentence."""

MOST = 1000
"""The maximum number of workers in a list."""


class WorkerView(NamedTuple):
    """A worker process. ``busy``: the slots that its runs take. ``message``: why it claims no runs; null: it does.

    ``silent`` is set only while its lease is over and nothing has noticed that yet: it is probably dead.
    ``cpu_pressure``: percent of the last ten seconds in which work waited for a processor. ``free_memory``: bytes.
    """

    id: int
    name: str
    host: str
    pid: int
    version: str
    slots: int
    pools: list[str]
    labels: dict[str, str]
    state: WorkerState
    started_at: datetime
    seen_at: datetime
    lease_until: datetime
    ended_at: datetime | None
    busy: int
    message: str | None
    cpu_pressure: float | None
    free_memory: int | None
    silent: bool = False

    def is_silent(self, now: datetime) -> bool:
        """Whether its lease has expired at this time of the database: it is dead, and nothing has noticed that yet."""
        return self.lease_until <= now

    def takes_runs(self, now: datetime) -> bool:
        """Whether it takes new runs at this time of the database, unless it has a ``message``."""
        return self.state == WorkerState.ACTIVE and not self.is_silent(now)


class SchedulerView(NamedTuple):
    """A scheduler process. ``name``: its machine and process; ``seen_at``: when it last said that it is alive."""

    name: str
    version: str
    started_at: datetime
    seen_at: datetime


def why_idle(message: str) -> str:
    """Return why a worker claims nothing, from its message, to follow a sentence that says that it claims nothing."""
    return message.removeprefix("claims nothing: ")
