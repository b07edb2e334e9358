"""The latest runs of some jobs, for strips and charts: one seek of an index for each job."""

import functools
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from jobfac.database.dialects import PASS
from jobfac.database.tables import run
from jobfac.views.runs import PastRun
from jobfac.views.serialization import columns, from_rows

JOBS = 16
"""The maximum number of jobs in one statement."""

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
