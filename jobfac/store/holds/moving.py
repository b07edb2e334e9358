"""Set the queued runs of held jobs aside, and queue them again when the hold has ended."""

import functools
from collections.abc import Collection

import sqlalchemy as sa

from jobfac.database.dialects import PASS, lists, rows
from jobfac.database.tables import job, run, start_hold
from jobfac.database.types import sql_literals
from jobfac.states import ACTIVE, RunState
from jobfac.store.holds import placing, reading
from jobfac.store.holds.conditions import is_active
from jobfac.store.runs import admission
from jobfac.store.runs.event import Event
from jobfac.store.runs.events import record
from jobfac.views.holds import HoldView, first_over

BATCH = admission.BATCH
"""The maximum number of runs that one transaction moves."""

_HELD_JOBS = sa.union(
    sa.select(start_hold.c.job.label("id"))
    .with_hint(start_hold, PASS, "mssql")
    .where(is_active(), start_hold.c.job.is_not(None)),
    sa.select(job.c.id)
    .select_from(job.join(start_hold, start_hold.c.category == job.c.category))
    .with_hint(start_hold, PASS, "mssql")
    .where(is_active()),
)


@functools.cache
def _queued(engine: str) -> sa.Select[tuple[int, int, str, str | None]]:
    given = rows.rows_table(engine, job=run.c.job.type)
    return (
        sa.select(run.c.id, run.c.attempt, run.c.job, run.c.notify)
        .with_hint(run, PASS, "mssql")
        # Both: the first condition is that of the index by job, the second one chooses among its rows.
        .where(
            sa.text(f"run.state IN ({sql_literals(ACTIVE)})"),
            sa.text(f"run.state = '{RunState.QUEUED}'"),
            run.c.job.in_(sa.select(given.c.job)),
        )
        .limit(BATCH)
    )


def claimable(conn: sa.Connection, queues: Collection[str], by: str) -> list[str]:
    """Return the queues among ``queues`` from which a worker may claim now. Called in a turn while a hold is active.

    Sets the queued runs of held jobs aside first. Returns no queue if there may be more of them: then the turn claims
    nothing, and the next one goes on.
    """
    if set_aside(conn, by) == BATCH:
        return []
    return reading.open_queues(conn, queues)


def set_aside(conn: sa.Connection, by: str) -> int:
    """Move up to ``BATCH`` queued runs of held jobs to ``blocked``. Returns how many were found."""
    held = [str(one) for one in conn.execute(_HELD_JOBS).scalars()]
    if not held:
        return 0
    query = _queued(conn.dialect.name)
    found = conn.execute(query, rows.rows_parameter({"job": one} for one in held)).all()
    if not found:
        return 0
    moved = admission.change_state(conn, [row.id for row in found], RunState.QUEUED, RunState.BLOCKED)
    holds, categories = reading.active(conn), _categories(conn, {row.job for row in found})
    events = []
    for row in sorted(found, key=lambda row: row.id):
        if row.id in moved:
            over = first_over(holds, row.job, categories.get(row.job))
            why = None if over is None else over.sentence
            events.append(Event(row.id, row.attempt, RunState.BLOCKED, by, why, row.notify))
    record(conn, events)
    return len(found)


def _categories(conn: sa.Connection, job_ids: set[str]) -> dict[str, str | None]:
    found = conn.execute(sa.select(job.c.id, job.c.category).where(lists.among(job.c.id, job_ids)))
    return {row.id: row.category for row in found}


def free(conn: sa.Connection, hold: HoldView, by: str) -> int:
    """Queue up to ``BATCH`` runs again that an ended hold held, and that nothing else holds back. Returns how many.

    None: marks the hold as freed.
    """
    moved = 0
    if hold.job is not None or hold.category is not None:
        these = run.c.job == hold.job
        if hold.job is None:
            these = run.c.job.in_(sa.select(job.c.id).where(job.c.category == hold.category))
        moved = admission.release_jobs(conn, these, by)
    if not moved:
        placing.mark_freed(conn, hold.id)
    return moved


def free_ended(conn: sa.Connection, by: str) -> bool:
    """Release a hold whose time has come, or free a batch of what an ended hold held. Returns False without any.

    Not both in one transaction: the release locks schedules, which come after runs.
    """
    hold = placing.first_ended(conn)
    if hold is None:
        return False
    if hold.released_at is None:
        placing.release(conn, hold.id, f"{by}: its time came")
    else:
        free(conn, hold, by)
    return True
