"""The view of a worker, without the token that marks its processes."""

from datetime import datetime
from typing import NamedTuple

from jobfac.states import WorkerState


class WorkerView(NamedTuple):
    """A worker process. ``busy``: the number of its runs. ``message``: why it claims no runs; null: it claims runs."""

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
