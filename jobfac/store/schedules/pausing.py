"""Pause the schedules of a job that fails again and again, as its ``pause_after`` says."""

from collections.abc import Iterable

import sqlalchemy as sa

from jobfac.database import locks
from jobfac.database.tables import run, schedule
from jobfac.database.types import sql_literals
from jobfac.states import TO_ACKNOWLEDGE
from jobfac.store import jobs, outbox
from jobfac.store.history.recovery import is_of_backfill
from jobfac.store.outbox import OutboxEvent
from jobfac.store.runs import Finished
from jobfac.store.runs.subscribers import JUDGED
from jobfac.store.schedules.steering import pause

BY = "pause_after"
"""The name that the audit shows."""


def pause_failing(conn: sa.Connection, finished: Iterable[Finished]) -> list[str]:
    """Pause the schedules of jobs whose latest runs all failed, as many as ``pause_after`` says.

    Records the event ``paused``. Only runs since the schedules were resumed count. Returns the ids of these jobs. Must
    be called last in a transaction, since it locks schedules. Sends no query if none of ``finished`` has failed.
    """
    failed = {one.job for one in finished if one.state in TO_ACKNOWLEDGE}
    stored = jobs.load_many(conn, failed) if failed else {}
    paused = []
    for job_id, one in sorted(stored.items()):
        limit = one.definition.pause_after if isinstance(one, jobs.Stored) else None
        if limit is None or not (lock := failure_locks(conn, [job_id])):
            continue
        locks.take_now(conn, lock)  # else, of two transactions with failures, neither would see that of the other
        if _fails(conn, job_id, limit) and (names := pause(conn, job_id, None, BY)):
            why = f"it has failed {limit} times in a row"
            body = {"job": job_id, "schedules": names, "failures": limit}
            outbox.record(conn, [OutboxEvent(job_id, "paused", body, detail=why)])
            paused.append(job_id)
    return paused


def failure_locks(conn: sa.Connection, job_ids: Iterable[str]) -> set[str]:
    """Return the named locks that ``pause_failing`` takes for failures of these jobs: of those with schedules to pause.

    A transaction that takes them first waits for them. Later it would have to be repeated if one were not free.
    """
    running = sa.select(schedule.c.id).where(schedule.c.paused == sa.false()).limit(1)
    return {failure_lock(one) for one in job_ids if conn.execute(running.where(schedule.c.job == one)).first()}


def failure_lock(job_id: str) -> str:
    """Return the named lock of the failures of a job."""
    return f"jobfac:failures:{job_id}"


def _fails(conn: sa.Connection, job_id: str, limit: int) -> bool:
    """Whether the job's latest ``limit`` runs since its schedules were resumed have all failed.

    Runs of a backfill stand for days that have passed, so they do not count.
    """
    resumed = sa.select(sa.func.max(schedule.c.resumed_at)).where(schedule.c.job == job_id)
    since = conn.execute(resumed).scalar()
    query = (
        # Without PASS: a success whose row somebody is just writing, perhaps to count it, would not be seen.
        sa.select(run.c.state)
        .where(
            run.c.job == job_id, sa.text(f"run.state IN ({sql_literals(JUDGED)})"), ~is_of_backfill(conn.dialect.name)
        )
        .order_by(run.c.id.desc())
        .limit(limit)
    )
    if since is not None:
        query = query.where(run.c.ended_at > since)
    states = conn.execute(query).scalars().all()
    return len(states) == limit and all(state in TO_ACKNOWLEDGE for state in states)
