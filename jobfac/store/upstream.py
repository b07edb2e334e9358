"""Runs whose end starts other jobs: recorded in the transaction in which they end, so no crash loses or doubles one."""

import functools
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import PASS, rows, utcnow
from jobfac.database.tables import run, schedule, upstream, upstream_end
from jobfac.database.types import BigId, flag
from jobfac.definitions.triggers import After

BATCH = 500
"""The maximum number of ends that one transaction removes or moves."""


class End(NamedTuple):
    """The end of a run that a schedule waits for."""

    schedule_id: int
    run_id: int
    job: str
    state: str
    ended_at: datetime


@functools.cache
def _insert(engine: str) -> sa.Insert:
    given = rows.rows_table(engine, run_id=BigId)
    ends = (
        sa.select(upstream.c.schedule_id, run.c.id, run.c.job, run.c.state, run.c.ended_at)
        .with_hint(run, rows.SEEK, "mssql")
        .select_from(given)
        .join(run, run.c.id == given.c.run_id)
        .join(upstream, sa.and_(upstream.c.job == run.c.job, upstream.c.state == run.c.state))
    )
    return upstream_end.insert().from_select(list(End._fields), ends)


def record(conn: sa.Connection, run_ids: Sequence[int]) -> None:
    """Record the ends of these runs for the schedules that wait for them. The caller has stored the final states."""
    if run_ids:
        conn.execute(_insert(conn.dialect.name), rows.rows_parameter({"run_id": run_id} for run_id in run_ids))


def sync(conn: sa.Connection, schedule_id: int, after: After | None) -> None:
    """Make a schedule wait for these ends. None: for none; then what it waited for is forgotten.

    Ends that are recorded already and for which it still waits stay: they happened once, so they would never start what
    comes after them.
    """
    if after is None:
        forget(conn, [schedule_id])
        return
    conn.execute(_forget(conn.dialect.name)[0], rows.rows_parameter([{"schedule_id": schedule_id}]))
    new = [
        {"job": one.job, "state": str(state), "schedule_id": schedule_id}
        for one in after.upstream
        for state in sorted(one.states)
    ]
    conn.execute(_wait(conn.dialect.name), rows.rows_parameter(new))
    stale = sa.select(*upstream_end.primary_key.columns).where(upstream_end.c.schedule_id == schedule_id, ~_IS_AWAITED)
    rows.delete(conn, upstream_end, conn.execute(stale).mappings().all())


@functools.cache
def _wait(engine: str) -> sa.Insert:
    names = ("job", "state", "schedule_id")
    new = rows.rows_table(engine, **{name: upstream.c[name].type for name in names})
    return upstream.insert().from_select(names, sa.select(*(new.c[name] for name in names)))


def forget(conn: sa.Connection, schedule_ids: Collection[int]) -> None:
    """Remove what these schedules wait for, and the ends that have not become runs yet."""
    given = rows.rows_parameter({"schedule_id": schedule_id} for schedule_id in schedule_ids)
    for statement in _forget(conn.dialect.name):
        conn.execute(statement, given)


def forget_orphans(conn: sa.Connection, age: float) -> bool:
    """Remove up to ``BATCH`` ends of schedules that are gone. Returns True if there may be more.

    A transaction that records an end does not wait for one that removes the schedule.
    """
    exists = sa.exists(sa.select(schedule.c.id).where(schedule.c.id == upstream_end.c.schedule_id))
    query = (
        sa.select(*upstream_end.primary_key.columns).with_hint(upstream_end, PASS, "mssql").where(~exists).limit(BATCH)
    )
    return rows.delete(conn, upstream_end, conn.execute(query).mappings().all()) == BATCH


@functools.cache
def _forget(engine: str) -> tuple[sa.Delete, ...]:
    return tuple(rows.deletion(engine, table, table.c.schedule_id) for table in (upstream, upstream_end))


def follow_clock(conn: sa.Connection) -> int:
    """After the database's clock was set back: let no recorded end lie in the future. Returns how many were moved.

    Call it again until there are none. With ``within``, all ends that are recorded from now on would be too old beside
    it.
    """
    ahead = sa.select(*upstream_end.primary_key.columns).with_hint(upstream_end, PASS, "mssql")
    found = conn.execute(ahead.where(upstream_end.c.ended_at > utcnow()).limit(BATCH)).all()
    for row in found:
        mine = (upstream_end.c.schedule_id == row.schedule_id, upstream_end.c.run_id == row.run_id)
        conn.execute(upstream_end.update().where(*mine).values(ended_at=utcnow()))
    return len(found)


class Pending(NamedTuple):
    """Ends that have not become runs yet, oldest first. ``stale``: the runs of those that the schedule no longer
    waits for. ``more``: there may be more of either."""

    ends: list[End]
    stale: list[int]
    more: bool


_IS_AWAITED = sa.exists(
    sa.select(upstream.c.job).where(
        *(upstream.c[name] == upstream_end.c[name] for name in ("schedule_id", "job", "state"))
    )
)


def pending(conn: sa.Connection, schedule_id: int, limit: int) -> Pending:
    """Return ends of a schedule that have not become runs yet. The caller has locked the schedule's row.

    A transaction that records an end does not wait for one that changes the schedule. So it may record an end for
    which the schedule waited before the change.
    """
    query = sa.select(*upstream_end.c, flag(_IS_AWAITED).label("awaited"))
    query = query.where(upstream_end.c.schedule_id == schedule_id)
    found = conn.execute(query.order_by(upstream_end.c.ended_at, upstream_end.c.run_id).limit(limit)).mappings().all()
    ends = [End(*(row[name] for name in End._fields)) for row in found if row["awaited"]]
    return Pending(ends, [row["run_id"] for row in found if not row["awaited"]], len(found) == limit)


def number_after(conn: sa.Connection, last: End, before: datetime | None = None, since: datetime | None = None) -> int:
    """Return how many ends of the schedule come after ``last`` in the order of ``pending``, in this span of time."""
    at = upstream_end.c.ended_at
    is_after = sa.or_(at > last.ended_at, sa.and_(at == last.ended_at, upstream_end.c.run_id > last.run_id))
    query = sa.select(sa.func.count()).select_from(upstream_end)
    query = query.where(upstream_end.c.schedule_id == last.schedule_id, is_after, _IS_AWAITED)
    if before is not None:
        query = query.where(at < before)
    if since is not None:
        query = query.where(at >= since)
    return int(conn.execute(query).scalar_one())


@functools.cache
def _delete(engine: str) -> sa.Delete:
    given = rows.rows_table(engine, run_id=BigId)
    these = sa.select(given.c.run_id)
    return upstream_end.delete().where(
        upstream_end.c.schedule_id == sa.bindparam("p_schedule"), upstream_end.c.run_id.in_(these)
    )


def done(conn: sa.Connection, schedule_id: int, run_ids: Sequence[int]) -> None:
    """Remove ends that have become runs or will not."""
    if run_ids:
        given = rows.rows_parameter({"run_id": run_id} for run_id in run_ids)
        conn.execute(_delete(conn.dialect.name), {**given, "p_schedule": schedule_id})
