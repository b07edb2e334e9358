"""Pause the schedules of a job that fails again and again, as its ``pause_after`` says, and what long pauses leave."""

from collections.abc import Iterable
from datetime import datetime

import sqlalchemy as sa

from jobfac.database import locks
from jobfac.database.dialects import DIRTY, PASS, lists, rows, utcnow
from jobfac.database.tables import audit, run, schedule, upstream_end
from jobfac.database.types import sql_literals, truncate_utf16
from jobfac.states import TO_ACKNOWLEDGE, RunState
from jobfac.store import jobs, outbox, upstream
from jobfac.store.history.recovery import is_of_backfill
from jobfac.store.outbox import OutboxEvent
from jobfac.store.runs import Finished
from jobfac.store.runs.subscribers import JUDGED
from jobfac.store.schedules.decision import UNUSABLE, read
from jobfac.store.schedules.following import most_again
from jobfac.store.schedules.steering import pause

BY = "pause_after"
"""The name that the audit shows."""

SPARE = 100
"""How many ends a paused schedule keeps beside those that its ``missed`` may start. It may change in the pause."""


def pause_failing(conn: sa.Connection, finished: Iterable[Finished]) -> list[str]:
    """Pause the schedules of jobs whose latest runs all failed, as many as ``pause_after`` says.

    Records the event ``paused``. Only runs since the schedules were resumed count. Returns the ids of these jobs. Must
    be called last in a transaction, since it locks schedules. Sends no query if none of ``finished`` has failed.
    """
    failed = {one.job for one in finished if one.state in TO_ACKNOWLEDGE}
    stored = jobs.load_many(conn, failed, True) if failed else {}
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

    Runs of a backfill stand for days that have passed, so they do not count. Neither do starts by hand that began
    nothing: over T-SQL one with a wrong value is a run.
    """
    query = (
        # PASS would not see a success whose row somebody is just writing, perhaps to count it. Without a hint this
        # would wait for a transaction that acknowledges a failure of the job.
        sa.select(run.c.state, run.c.ended_at)
        .with_hint(run, DIRTY, "mssql")
        .where(
            run.c.job == job_id, sa.text(f"run.state IN ({sql_literals(JUDGED)})"), ~is_of_backfill(conn.dialect.name)
        )
        .where(
            sa.or_(
                run.c.state != RunState.START_FAILED, run.c.schedule_id.is_not(None), run.c.sequence_run_id.is_not(None)
            )
        )
        .order_by(run.c.id.desc())
        .limit(limit)
    )
    latest = conn.execute(query).all()
    if len(latest) < limit or not all(row.state in TO_ACKNOWLEDGE for row in latest):
        return False
    oldest = min(row.ended_at for row in latest)
    moved = conn.execute(sa.select(sa.func.max(schedule.c.resumed_at)).where(schedule.c.job == job_id)).scalar()
    return moved is None or moved <= oldest or not _was_resumed(conn, job_id, oldest)


def _was_resumed(conn: sa.Connection, job_id: str, since: datetime) -> bool:
    """Whether a schedule of the job was resumed since then. A hold moves ``resumed_at``, too, so the audit says it."""
    names = conn.execute(sa.select(schedule.c.name).where(schedule.c.job == job_id)).scalars().all()
    query = (
        sa.select(audit.c.id)
        .with_hint(audit, PASS, "mssql")
        .where(audit.c.at >= since, audit.c.at <= utcnow(), audit.c.action == "resume")
        .where(audit.c.subject.in_(sa.select(lists.names("p_subjects").c.value)))
        .limit(1)
    )
    subjects = [truncate_utf16(f"{job_id}/{name}", 200) for name in names]
    return conn.execute(query, {"p_subjects": lists.as_list(subjects)}).first() is not None


_one, _other = upstream_end.alias("one"), upstream_end.alias("other")
_RULES = sa.select(schedule.c.id, schedule.c.definition).with_hint(schedule, PASS, "mssql")
_OF_PAUSED = (
    sa.select(upstream_end.c.schedule_id, sa.func.count() - sa.func.count(sa.distinct(upstream_end.c.job)))
    .with_hint(upstream_end, PASS, "mssql")
    .where(
        upstream_end.c.schedule_id.in_(
            sa.select(schedule.c.id).with_hint(schedule, PASS, "mssql").where(sa.text("paused = 1"))
        )
    )
    .group_by(upstream_end.c.schedule_id)
)
"""The numbers of ends of paused schedules, without the last one of each job."""

_SUPERSEDED = (
    sa.select(*(_one.c[column.name] for column in upstream_end.primary_key))
    .with_hint(_one, PASS, "mssql")
    .where(
        sa.exists(
            sa.select(_other.c.run_id)
            .with_hint(_other, PASS, "mssql")
            .where(_other.c.schedule_id == _one.c.schedule_id, _other.c.job == _one.c.job)
            .where(_other.c.run_id > _one.c.run_id)
        )
    )
    .order_by(_one.c.run_id)
)


def forget_surplus(conn: sa.Connection, age: float) -> bool:
    """Remove up to ``BATCH`` ends of a paused schedule that start nothing after the pause. Returns whether there may
    be more.

    It keeps the latest ones, more than ``missed`` may start, and the last one of each job, which ``all`` may wait for.
    """
    numbers = {found[0]: found[1] for found in conn.execute(_OF_PAUSED) if found[1] > SPARE}
    for row in conn.execute(_RULES.where(lists.by_id(schedule.c.id, numbers))).all() if numbers else ():
        try:
            surplus = numbers[row.id] - most_again(read(row.definition)) - SPARE
        except UNUSABLE:  # a newer jobfac stored it
            continue
        if surplus > 0:
            query = _SUPERSEDED.where(_one.c.schedule_id == row.id).limit(min(surplus, upstream.BATCH))
            if rows.delete(conn, upstream_end, conn.execute(query).mappings().all()):
                return True
    return False
