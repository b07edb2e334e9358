"""Begin queued sequences."""

import functools
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import CLAIM_VALUES, CLAIMING, FOUND_BY_KEY, PASS, lists, rows
from jobfac.database.tables import run
from jobfac.database.types import BigId
from jobfac.states import RunState
from jobfac.store import jobs, runs, workers
from jobfac.store.holds import moving, reading
from jobfac.store.runs import Finished
from jobfac.store.runs.event import Event
from jobfac.store.sequences.advance import conclude
from jobfac.store.sequences.locking import locked_sequences

BEGINNINGS = 20
"""The maximum number of sequences that one transaction begins."""


class Begun(NamedTuple):
    """The number of sequences that were begun, and the sequences that ended as a result."""

    number: int
    ended: list[Finished]


def begin(conn: sa.Connection, by: str, limit: int = BEGINNINGS) -> Begun:
    """Begin up to ``limit`` queued sequence runs, highest priority first, whose named locks are free."""
    if conn.execute(_QUEUED.limit(1)).first() is None:
        return Begun(0, [])
    is_held = bool(reading.active(conn))  # a hold that is placed after this may come too late, as for a worker's claim
    # After it has set runs aside, which locks them, the transaction must not wait for named locks.
    if is_held and (moving.set_aside(conn, by) or not reading.open_queues(conn, [jobs.SEQUENCE_QUEUE])):
        return Begun(0, [])

    def read_queued(without: Collection[int]) -> Sequence[int]:
        found = conn.execute(_QUEUED.limit(limit + len(without))).scalars()
        return [run_id for run_id in found if run_id not in without][:limit]

    waiting = runs.first_free(read_queued, limit, partial(locked_sequences, conn))
    taken = _claim(conn, waiting.found)
    held = workers.put_back_held(conn, [row.id for row in taken]) if is_held else set()
    begun = sorted((row for row in taken if row.id not in held), key=lambda row: row.id)
    runs.record(conn, [Event(row.id, row.attempt, RunState.RUNNING, by, notify=row.notify) for row in begun])
    return Begun(len(begun), conclude(conn, [row.id for row in begun], by))


def _claim(conn: sa.Connection, run_ids: Collection[int]) -> Sequence[Any]:
    """Begin those of these queued sequence runs that no other transaction has locked. Returns their rows as begun."""
    if not run_ids:
        return []
    engine = conn.dialect.name
    free = conn.execute(_FREE.where(lists.by_id(run.c.id, run_ids)).order_by(run.c.id)).scalars().all()
    if not free:
        return []
    given = {"p_worker_id": None, "p_worker": None, **rows.rows_parameter({"id": one} for one in free)}
    conn.execute(_begun(engine), given)
    return conn.execute(_BEGUN.where(lists.by_id(run.c.id, free)).order_by(run.c.id)).all()


_FREE = sa.select(run.c.id).with_hint(run, CLAIMING, "mssql").where(sa.text(f"state = '{RunState.QUEUED}'"))
_BEGUN = sa.select(run.c.id, run.c.attempt, run.c.notify).with_hint(run, FOUND_BY_KEY, "mssql")


@functools.cache
def _begun(engine: str) -> sa.Update:
    given = rows.rows_table(engine, id=BigId)
    return rows.by_primary_key(run.update().where(run.c.id == given.c.id).values(CLAIM_VALUES), run)


_QUEUED = (
    sa.select(run.c.id)
    .with_hint(run, PASS, "mssql")
    .where(sa.text(f"state = '{RunState.QUEUED}'"), run.c.queue == jobs.SEQUENCE_QUEUE)
    .order_by(run.c.priority.desc(), run.c.id)
)
