"""The view of the overview."""

from datetime import datetime
from typing import NamedTuple

from jobfac.states import JobKind, RunState
from jobfac.views.workers import WorkerView


class WaitingRuns(NamedTuple):
    """Queued runs of a pool. ``seconds``: how long the first of them has waited."""

    pool: str
    number: int
    seconds: float


class RunLine(NamedTuple):
    """The columns of a run that the overview shows."""

    id: int
    job: str
    kind: JobKind
    state: RunState
    attempt: int
    worker: str | None
    started_at: datetime | None
    ended_at: datetime | None
    progress: float | None
    message: str | None
    reason: str | None
    exit_message: str | None
    sequence_run_id: int | None


class DueSchedule(NamedTuple):
    """A schedule and the time at which it fires next."""

    job: str
    name: str
    fire_at: datetime


class Overview(NamedTuple):
    """``now`` is the database's clock. ``workers``: alive, newest first. ``blocked``: runs that wait for a concurrency
    limit; ``scheduled``: runs that wait for their time; ``held``: runs under way, of which ``running`` has the longest
    ones. ``ended``: latest first; ``due``: soonest first.
    """

    now: datetime
    workers: list[WorkerView]
    queued: list[WaitingRuns]
    blocked: int
    scheduled: int
    held: int
    running: list[RunLine]
    ended: list[RunLine]
    due: list[DueSchedule]
