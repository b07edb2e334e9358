"""Whether other workers start the runs of a job."""

import sqlalchemy as sa

from jobfac.database.dialects import DIRTY, utcnow
from jobfac.database.tables import attempt, run
from jobfac.database.types import sql_literals
from jobfac.states import HELD

SURE = 1000
"""Milliseconds after which a run that is still executed counts as begun. A start that fails has ended by then."""


def started_elsewhere(conn: sa.Connection, job: str, version: int, name: str, seconds: float) -> str | None:
    """Return the name of another worker that has begun a run of this version of the job in the last ``seconds``.

    None if there is none. ``name``: this worker's.
    """
    since = utcnow(-round(seconds * 1000))
    begun = attempt.c.pid.is_not(None), run.c.ended_at >= since
    runs_on = sa.text(f"run.state IN ({sql_literals(HELD)})"), attempt.c.started_at < utcnow(-SURE)
    for conditions in (runs_on, begun):
        query = _RUNS.where(*conditions, attempt.c.started_at >= since)
        if (worker := conn.execute(query, {"p_job": job, "p_version": version, "p_name": name}).scalar()) is not None:
            return str(worker)
    return None


_RUNS = (
    sa.select(attempt.c.worker)
    .join_from(run, attempt, sa.and_(attempt.c.run_id == run.c.id, attempt.c.number == run.c.attempt))
    .with_hint(run, DIRTY, "mssql")  # a turn that is stored must not delay the answer
    .with_hint(attempt, DIRTY, "mssql")
    .where(run.c.job == sa.bindparam("p_job"), run.c.job_version == sa.bindparam("p_version"))
    .where(attempt.c.worker != sa.bindparam("p_name"))
    .limit(1)
)
