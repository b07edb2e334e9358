"""Whether starts fail on one machine only, because it lacks what a job needs: a drive, a program, a user."""

from collections.abc import Iterable, Iterator
from itertools import takewhile
from typing import NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import DIRTY, utcnow
from jobfac.database.tables import attempt, run
from jobfac.doctor.finding import Finding, State
from jobfac.states import RunState

LOOKED_AT = 5000
"""The newest attempts that are looked at: they have no index by time."""

WITHIN = 3600.0
"""Seconds for which an attempt counts."""

ENOUGH = 3
"""So many starts of a job that failed in a row on a worker are a finding, if another worker starts the job."""


class Start(NamedTuple):
    """An attempt: ``failed`` says why its program did not begin; empty: it has begun."""

    worker: str
    job: str
    version: int
    failed: str


def starts(conn: sa.Connection) -> Iterator[Finding]:
    """Report workers on which the starts of a job fail while other workers begin it."""
    return judge_starts(Start(*row) for row in conn.execute(_STARTS))


def judge_starts(newest_first: Iterable[Start]) -> Iterator[Finding]:
    """Judge the latest starts, the newest first: of each version of a job on each worker."""
    by_job: dict[tuple[str, int], dict[str, list[str]]] = {}
    for start in newest_first:
        by_job.setdefault((start.job, start.version), {}).setdefault(start.worker, []).append(start.failed)
    for (job, _), by_worker in by_job.items():
        well = [worker for worker, failed in by_worker.items() if not failed[0]]
        for worker, failed in by_worker.items() if well else ():
            number = sum(1 for _ in takewhile(bool, failed))
            if number >= ENOUGH:
                found = f"the last {number} starts of {job} failed on worker {worker}, not on {well[0]}: {failed[0]}"
                remedy = "Drain that worker (`jobfac workers drain`), repair the machine, then retry the runs."
                yield Finding("workers", State.WARNING, found, remedy)


_PUT_OFF = attempt.c.reason.like("not started: %") & attempt.c.reason.not_like("not started: its worker %")
"""Its start failed. What a worker gives back because it drains, or has lost its lease, shows nothing."""

_NOT_BEGUN = sa.or_(sa.text(f"attempt.state = '{RunState.START_FAILED}'"), _PUT_OFF)
_STARTS = (
    sa.select(
        attempt.c.worker,
        run.c.job,
        run.c.job_version,
        sa.case((_NOT_BEGUN, sa.func.coalesce(attempt.c.reason, "?")), else_="").label("failed"),
    )
    .join(run, run.c.id == attempt.c.run_id)
    .with_hint(attempt, DIRTY, "mssql")
    .with_hint(run, DIRTY, "mssql")
    .where(attempt.c.run_id.in_(sa.select(attempt.c.run_id).order_by(attempt.c.run_id.desc()).limit(LOOKED_AT)))
    .where(attempt.c.started_at > utcnow(-WITHIN * 1000))
    .order_by(attempt.c.started_at.desc(), attempt.c.run_id.desc())
)
"""A run that is executed counts as begun: a start that fails has ended after moments."""
