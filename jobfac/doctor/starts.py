"""Whether starts fail on one machine only, because it lacks what a job needs: a drive, a program, a user."""

from collections.abc import Iterable, Iterator
from itertools import takewhile
from typing import NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import DIRTY, IS_ALIVE, utcnow
from jobfac.database.tables import attempt, run, worker
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
    """Report live workers on which starts of a job fail while others begin it."""
    return judge_starts(Start(*row) for row in conn.execute(_STARTS))


def judge_starts(newest_first: Iterable[Start]) -> Iterator[Finding]:
    """Judge the latest starts, the newest first: of each version of a job on each worker."""
    by_job: dict[tuple[str, int], dict[str, list[str]]] = {}
    for start in newest_first:
        by_job.setdefault((start.job, start.version), {}).setdefault(start.worker, []).append(start.failed)
    for (job, _), by_worker in by_job.items():
        well = [name for name, failed in by_worker.items() if not failed[0]]
        for name, failed in by_worker.items() if well else ():
            number = sum(1 for _ in takewhile(bool, failed))
            if number >= ENOUGH:
                found = f"the last {number} starts of {job} failed on worker {name}, not on {well[0]}: {failed[0]}"
                remedy = "Drain that worker (`jobfac workers drain`), repair the machine, then retry the runs."
                yield Finding("workers", State.WARNING, found, remedy)


_STARTS = (
    sa.select(
        attempt.c.worker,
        run.c.job,
        run.c.job_version,
        sa.case(
            (sa.text(f"attempt.state = '{RunState.START_FAILED}'"), sa.func.coalesce(attempt.c.reason, "?")), else_=""
        ).label("failed"),
    )
    .join(run, run.c.id == attempt.c.run_id)
    .join(worker, worker.c.id == attempt.c.worker_id)
    .with_hint(attempt, DIRTY, "mssql")
    .with_hint(run, DIRTY, "mssql")
    .with_hint(worker, DIRTY, "mssql")
    .where(attempt.c.run_id.in_(sa.select(attempt.c.run_id).order_by(attempt.c.run_id.desc()).limit(LOOKED_AT)))
    .where(attempt.c.started_at > utcnow(-WITHIN * 1000), IS_ALIVE)
    .where(sa.func.coalesce(attempt.c.reason, "").not_like("not started: %"))
    # What a run was given may be why it cannot be started, on any machine.
    .where(run.c.arguments.is_(None), run.c.payload.is_(None), run.c.parameters.is_(None))
    .order_by(attempt.c.started_at.desc(), attempt.c.run_id.desc())
)
"""The starts of live workers. A run that is executed counts as begun: a start that fails has ended after moments.

What was put off is left out: if that lasts, ``v_health`` names it."""
