"""Read holds."""

import functools
import json
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import PASS, rows
from jobfac.database.tables import job, queue, start_hold, worker
from jobfac.errors import LIST_HOLDS, NotFound
from jobfac.states import RunState, WorkerState
from jobfac.store import jobs
from jobfac.store.holds.conditions import is_active
from jobfac.views.holds import HoldView, first_over
from jobfac.views.runs import RunView
from jobfac.views.serialization import columns, from_row
from jobfac.views.waiting import WaitingRun

_SHOWN = sa.select(*(start_hold.c[name] for name in columns(HoldView)))
_ACTIVE = _SHOWN.with_hint(start_hold, PASS, "mssql").where(is_active()).order_by(start_hold.c.id)


def active(conn: sa.Connection) -> list[HoldView]:
    """Return the holds that hold now, oldest first."""
    return [from_row(HoldView, row) for row in conn.execute(_ACTIVE).mappings()]


def of_categories(conn: sa.Connection, found: Sequence[HoldView], categories: Sequence[str]) -> list[HoldView]:
    """Return those of these holds that a caller with these categories may see: of a category or a job of theirs, and
    those of pools and of everything, which concern everybody."""
    names = {one.job for one in found if one.job is not None}
    given = rows.rows_parameter({"job": one} for one in sorted(names))
    known = conn.execute(_categories(conn.dialect.name), given).all() if names else []
    seen = {row.id.lower() for row in known if row.category in categories}
    return [
        one
        for one in found
        if (one.job is None or one.job.lower() in seen) and (one.category is None or one.category in categories)
    ]


class HoldPage(NamedTuple):
    """A part of a list of holds. ``cursor``: the id after which the list continues; None: these were the last."""

    holds: list[HoldView]
    cursor: int | None


def page(conn: sa.Connection, ended: bool, limit: int, cursor: int | None) -> HoldPage:
    """Return up to ``limit`` active holds, oldest first; with ``ended`` also ended ones, newest first."""
    query = _SHOWN.order_by(start_hold.c.id.desc()) if ended else _ACTIVE
    if cursor is not None:
        query = query.where(start_hold.c.id < cursor if ended else start_hold.c.id > cursor)
    found = [from_row(HoldView, row) for row in conn.execute(query.limit(limit + 1)).mappings()]
    return HoldPage(found[:limit], found[limit - 1].id if len(found) > limit else None)


def get(conn: sa.Connection, hold_id: int) -> HoldView:
    """Return a hold.

    Raises:
        NotFound: there is no hold with this id.
    """
    row = conn.execute(_SHOWN.where(start_hold.c.id == hold_id)).mappings().first()
    if row is None:
        raise no_hold(hold_id)
    return from_row(HoldView, row)


def no_hold(hold_id: int) -> NotFound:
    """Return the error for a hold that does not exist."""
    return NotFound(f"There is no hold {hold_id}; {{way}} shows what there is.", LIST_HOLDS)


def over_jobs(conn: sa.Connection, job_ids: Collection[str]) -> Mapping[str, HoldView]:
    """Return the held jobs among ``job_ids``, each with the oldest hold that covers it. Costs one query without holds.

    A sequence has no pool of its own: only holds of everything, of its category and of itself cover it.
    """
    holds = active(conn)
    if not holds:
        return {}
    given = rows.rows_table(conn.dialect.name, job=job.c.id.type)
    query = (
        sa.select(job.c.id, job.c.category, queue.c.pool)
        .outerjoin(queue, queue.c.name == job.c.queue)
        .where(job.c.id.in_(sa.select(given.c.job)))
    )
    found = conn.execute(query, rows.rows_parameter({"job": one} for one in sorted(job_ids)))
    covered = {row.id: first_over(holds, row.id, row.category, row.pool) for row in found}
    return {job_id: one for job_id, one in covered.items() if one is not None}


def over_runs(conn: sa.Connection, runs: Collection[RunView] | Collection[WaitingRun]) -> Mapping[int, HoldView]:
    """Return by id the runs that wait for the end of a hold, each with the oldest hold that covers it.

    A run that is pinned to a worker waits for the holds of all pools of that worker.
    """
    waiting = [one for one in runs if one.state in (RunState.QUEUED, RunState.BLOCKED)]
    holds = active(conn) if waiting else []
    if not holds:
        return {}
    names = rows.rows_parameter({"job": one} for one in {one.job for one in waiting})
    categories = {row.id: row.category for row in conn.execute(_categories(conn.dialect.name), names)}
    pools = {one.name: one.pool for one in jobs.known_queues(conn)}
    pinned = _pools_of_workers(conn) if any(one.for_worker is not None for one in waiting) else {}
    covered: dict[int, HoldView] = {}
    for one in waiting:
        of_run: Sequence[str | None] = pinned.get(one.for_worker or "") or [pools.get(one.queue)]
        over = [first_over(holds, one.job, categories.get(one.job), pool) for pool in of_run]
        if found := [hold for hold in over if hold is not None]:
            covered[one.id] = min(found)
    return covered


def _pools_of_workers(conn: sa.Connection) -> dict[str, list[str]]:
    """Return the pools of the workers that take new runs, by name: each closes the queue of the worker's own runs."""
    query = sa.select(worker.c.name, worker.c.pools).with_hint(worker, PASS, "mssql")
    found = conn.execute(query.where(sa.text(f"worker.state = '{WorkerState.ACTIVE}'")))
    return {row.name: json.loads(row.pools) for row in found}


@functools.cache
def _categories(engine: str) -> sa.Select[tuple[str, str | None]]:
    given = rows.rows_table(engine, job=job.c.id.type)
    return sa.select(job.c.id, job.c.category).where(job.c.id.in_(sa.select(given.c.job)))


def claimable_queues(
    conn: sa.Connection, pools: Sequence[str], labels: Mapping[str, str], slots: int
) -> tuple[dict[str, int], bool]:
    """Return the queues from which such a worker may claim now, each with the slots that its runs take.

    The queue of sequences is among them. The second value: whether a hold closes others of its queues.
    """
    served = jobs.matching_queues(conn, [*pools, jobs.SEQUENCE_QUEUE], labels, slots)
    claimable = {name: served[name] for name in open_queues(conn, list(served))}
    return claimable, len(claimable) < len(served)


def open_queues(conn: sa.Connection, queues: Collection[str]) -> list[str]:
    """Return those of ``queues`` that no hold of a pool, or of everything, closes."""
    holds = [one for one in active(conn) if one.category is None and one.job is None]
    if not holds:
        return list(queues)
    pools = {one.name: one.pool for one in jobs.known_queues(conn)}
    return [name for name in queues if first_over(holds, "", None, pools.get(name)) is None]


def is_known(conn: sa.Connection, scope: str, name: str) -> bool:
    """Whether there is a job, category or pool (``scope``) of this name."""
    column = {"job": job.c.id, "category": job.c.category, "pool": queue.c.pool}[scope]
    return conn.execute(sa.select(column).where(column == name).limit(1)).first() is not None
