"""The views of runs in lists and drawings of the pages: only the columns that these show."""

from datetime import datetime
from typing import NamedTuple

from jobfac.states import JobKind, RunState


class RunRow(NamedTuple):
    """A run in a list. ``started_at``: the first start; ``attempt``: the number of executions."""

    id: int
    job: str
    kind: JobKind
    state: RunState
    attempt: int
    worker: str | None
    queue: str
    created_at: datetime
    created_by: str
    ready_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    due_at: datetime | None
    exit_code: int | None
    signal: int | None
    progress: float | None
    message: str | None
    reason: str | None
    exit_message: str | None
    sequence_run_id: int | None
    schedule_id: int | None


class PastRun(NamedTuple):
    """A run in a strip or a chart."""

    id: int
    job: str
    state: RunState
    worker: str | None
    started_at: datetime | None
    ended_at: datetime | None


class Counts(NamedTuple):
    """How the factory stands, in numbers. ``failed``: runs that failed within the last day; ``now``: the database's
    clock; ``workers``: those that are alive."""

    now: datetime
    failed: int
    running: int
    queued: int
    blocked: int
    scheduled: int
    workers: int
