"""The latest runs of some jobs, for strips and charts: one seek of an index for each job."""

import functools
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from jobfac.database.dialects import PASS
from jobfac.database.tables import run
from jobfac.states import RunState
from jobfac.views.runs import PastRun, RunRow
from jobfac.views.serialization import columns, from_rows

JOBS = 16
"""The maximum number of jobs in one statement."""

LATER = 5
"""The number of a job's runs that are searched for a success after a failure."""

_COLUMNS = [run.c[name] for name in columns(PastRun)]


def of_jobs(conn: sa.Connection, job_ids: Sequence[str], limit: int) -> dict[str, list[PastRun]]:
    """Return the last ``limit`` runs of each job, oldest first, by job. Jobs without runs are left out."""
    found: defaultdict[str, list[PastRun]] = defaultdict(list)
    for start in range(0, len(job_ids), JOBS):
        names = list(job_ids[start : start + JOBS])
        names += names[-1:] * ((1 << (len(names) - 1).bit_length()) - len(names))  # few lengths, few statements
        given = {f"job{place}": name for place, name in enumerate(names)}
        rows = conn.execute(_latest(len(names), limit), given).all()
        for one in sorted(from_rows(PastRun, {row[0]: row for row in rows}.values())):  # by id, their first column
            found[one.job].append(one)
    return dict(found)


@functools.cache
def _latest(jobs: int, limit: int) -> sa.Select[Any] | sa.CompoundSelect[Any]:
    arms = []
    for place in range(jobs):
        newest = (
            sa.select(*_COLUMNS)
            .with_hint(run, PASS, "mssql")
            .where(run.c.job == sa.bindparam(f"job{place}", type_=run.c.job.type))
            .order_by(run.c.id.desc())
            .limit(limit)
        )
        arms.append(sa.select(newest.subquery(f"latest{place}")))
    return sa.union_all(*arms)


def recovered(conn: sa.Connection, failed: Sequence[RunRow]) -> set[int]:
    """Return the ids of those of the runs after which a run of the same job succeeded."""
    newest: dict[str, int] = {}
    for one in failed:
        newest[one.job] = max(one.id, newest.get(one.job, 0))
    later = of_jobs(conn, list(newest), LATER)
    good = {job: [run for run in runs if run.state == RunState.SUCCEEDED] for job, runs in later.items()}
    return {one.id for one in failed if any(_follows(run, one) for run in good.get(one.job, ()))}


def _follows(success: PastRun, failure: RunRow) -> bool:
    """Whether a run began and ended after another one."""
    if success.ended_at is None or failure.ended_at is None:
        return False
    return success.id > failure.id and success.ended_at >= failure.ended_at
