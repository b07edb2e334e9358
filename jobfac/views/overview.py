"""The view of the current state of the factory."""

from datetime import datetime
from typing import NamedTuple

from jobfac.states import JobKind, RunState
from jobfac.views.holds import HoldView
from jobfac.views.jobs import OverdueView
from jobfac.views.workers import WorkerView


class WaitingRuns(NamedTuple):
    """Queued runs of a pool. ``seconds``: how long the first of them has waited. ``hold``: the hold of the pool, or of
    everything, that they wait for.
    """

    pool: str
    number: int
    seconds: float
    hold: str | None


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
    """The current state of the factory.

    Attributes:
        now: the time of the database.
        workers: the live workers, newest first.
        queued: the queued runs by pool.
        blocked: the number of runs that wait for a concurrency limit or for the end of a hold.
        scheduled: the number of runs that wait for their start time.
        held: the number of runs that workers execute.
        running: the longest of them.
        ended: the runs that ended last, latest first.
        due: the schedules that are due next, soonest first.
        failures: the failures that nobody has acknowledged, latest first.
        holds: the first active holds, oldest first.
        overdue: the first jobs whose expected success is missing, the longest first.
        more_holds: how many active holds there are beside ``holds``.
        more_overdue: how many overdue jobs there are beside ``overdue``.
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
    failures: list[RunLine]
    holds: list[HoldView]
    overdue: list[OverdueView]
    more_holds: int = 0
    more_overdue: int = 0


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
