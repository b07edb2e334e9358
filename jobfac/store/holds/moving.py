"""Set the queued runs of held jobs aside, and queue them again when the hold has ended."""

import functools
from collections.abc import Collection, Sequence
from typing import NamedTuple

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
def _queued(engine: str) -> sa.Select[int, int, str, str | None]:
    """Return the query of some queued runs of the given jobs."""
    found = sa.select(run.c.id, run.c.attempt, run.c.job, run.c.notify).with_hint(run, PASS, "mssql")
    return found.where(*_is_queued(engine)).limit(BATCH)


@functools.cache
def _queues(engine: str) -> sa.Select[str]:
    """Return the query of the queues in which runs of the given jobs wait."""
    return sa.select(run.c.queue).distinct().with_hint(run, PASS, "mssql").where(*_is_queued(engine))


def _is_queued(engine: str) -> Sequence[sa.ColumnElement[bool] | sa.TextClause]:
    given = rows.rows_table(engine, job=run.c.job.type)
    # Both: the first condition is that of the index by job, the second one chooses among its rows.
    active, queued = f"run.state IN ({sql_literals(ACTIVE)})", f"run.state = '{RunState.QUEUED}'"
    return sa.text(active), sa.text(queued), run.c.job.in_(sa.select(given.c.job))


def claimable(conn: sa.Connection, queues: Collection[str], by: str) -> list[str]:
    """Return the queues among ``queues`` from which a worker may claim now. Called in a turn while a hold is active.

    Sets the queued runs of held jobs aside first. If there may be more of them, the turn claims from no queue in which
    one waits, and the next one goes on.
    """
    are_left = set_aside(conn, by).found == BATCH
    found = reading.open_queues(conn, queues)
    if not are_left:
        return found
    held = rows.rows_parameter({"job": str(one)} for one in conn.execute(_HELD_JOBS).scalars())
    waiting = set(conn.execute(_queues(conn.dialect.name), held).scalars())
    return [one for one in found if one not in waiting]


class SetAside(NamedTuple):
    """How many queued runs of held jobs were found, and how many of them no other transaction has locked."""

    found: int
    moved: int


def set_aside(conn: sa.Connection, by: str) -> SetAside:
    """Move up to ``BATCH`` queued runs of held jobs to ``blocked``."""
    held = [str(one) for one in conn.execute(_HELD_JOBS).scalars()]
    if not held:
        return SetAside(0, 0)
    query = _queued(conn.dialect.name)
    found = conn.execute(query, rows.rows_parameter({"job": one} for one in held)).all()
    if not found:
        return SetAside(0, 0)
    moved = admission.change_state(conn, [row.id for row in found], RunState.QUEUED, RunState.BLOCKED)
    holds, categories = reading.active(conn), _categories(conn, {row.job for row in found})
    events = []
    for row in sorted(found, key=lambda row: row.id):
        if row.id in moved:
            over = first_over(holds, row.job, categories.get(row.job))
            why = None if over is None else over.sentence
            events.append(Event(row.id, row.attempt, RunState.BLOCKED, by, why, row.notify))
    record(conn, events)
    return SetAside(len(found), len(moved))


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
