"""How the factory stands at one moment: what somebody who watches it wants to see, in six statements.

Each statement reads the beginning of a filtered index, or as many rows as there are live workers and held runs, so
that neither a long queue nor a long history makes a look dear.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import PASS, utcnow
from jobfac.database.tables import job, queue, run, schedule
from jobfac.database.types import sql_literals
from jobfac.states import HELD, RunState
from jobfac.store import workers
from jobfac.store.runs.reading import present

RUNNING, ENDED, DUE = 200, 100, 50
"""Rows of each kind that are read at most."""


class Waiting(NamedTuple):
    """Queued runs of a pool; ``seconds``: how long the first of them has waited."""

    pool: str
    number: int
    seconds: float


class Overview(NamedTuple):
    """Workers, runs and schedules are the JSON-able objects of the API; ``now`` is the database's clock."""

    now: datetime
    workers: Sequence[dict[str, Any]]  # alive, newest first, with ``busy``
    queued: Sequence[Waiting]
    blocked: int  # runs that wait for a concurrency rule
    scheduled: int  # runs that wait for their time
    held: int  # runs under way, of which ``running`` has the first
    running: Sequence[dict[str, Any]]  # longest first
    ended: Sequence[dict[str, Any]]  # latest first
    due: Sequence[dict[str, Any]]  # ``job``, ``name``, ``fire_at`` of the next schedules


def read(conn: sa.Connection) -> Overview:
    """The factory as it stands."""
    counts = conn.execute(_COUNTS).one()
    return Overview(
        counts.now,
        [workers.present(row) for row in workers.workers(conn, alive_only=True)],
        [_waiting(row, counts.now) for row in conn.execute(_QUEUED)],
        counts.blocked,
        counts.scheduled,
        counts.held,
        [present(row) for row in conn.execute(_RUNNING).mappings()],
        [present(row) for row in conn.execute(_ENDED).mappings()],
        [present(row) for row in conn.execute(_DUE).mappings()],
    )


def _waiting(row: Any, now: datetime) -> Waiting:
    return Waiting(row.pool, row.number, max(0.0, (now - row.since).total_seconds()))


def _count(where: str) -> sa.ScalarSelect[int]:
    query = sa.select(sa.func.count()).select_from(run).with_hint(run, PASS, "mssql")
    return query.where(sa.text(where)).scalar_subquery()


_COUNTS = sa.select(
    utcnow().label("now"),
    _count(f"state = '{RunState.BLOCKED}'").label("blocked"),
    _count(f"state = '{RunState.SCHEDULED}'").label("scheduled"),
    _count(f"state IN ({sql_literals(HELD)})").label("held"),
)
# The index has queue and id: when the first of a queue came is read of one row a queue.
_FIRST = (
    sa.select(run.c.queue, sa.func.count().label("number"), sa.func.min(run.c.id).label("first"))
    .with_hint(run, PASS, "mssql")
    .where(sa.text(f"run.state = '{RunState.QUEUED}'"))
    .group_by(run.c.queue)
    .subquery("waiting")
)
_QUEUED = (
    sa.select(queue.c.pool, sa.func.sum(_FIRST.c.number).label("number"), sa.func.min(run.c.queued_at).label("since"))
    .select_from(_FIRST.join(queue, queue.c.name == _FIRST.c.queue).join(run, run.c.id == _FIRST.c.first))
    .with_hint(run, PASS, "mssql")
    .group_by(queue.c.pool)
    .order_by(queue.c.pool)
)
_RUN = (
    run.c.id,
    run.c.job,
    run.c.kind,
    run.c.state,
    run.c.attempt,
    run.c.worker,
    run.c.started_at,
    run.c.ended_at,
    run.c.progress,
    run.c.message,
    run.c.reason,
    run.c.exit_message,
    run.c.sequence_run_id,
)
_RUNNING = (
    sa.select(*_RUN)
    .with_hint(run, PASS, "mssql")
    .where(sa.text(f"state IN ({sql_literals(HELD)})"))
    .order_by(run.c.started_at, run.c.id)
    .limit(RUNNING)
)
_ENDED = (
    sa.select(*_RUN)
    .with_hint(run, PASS, "mssql")
    .where(run.c.ended_at.is_not(None))
    .order_by(run.c.ended_at.desc())
    .limit(ENDED)
)
_DUE = (
    sa.select(schedule.c.job, schedule.c.name, schedule.c.fire_at)
    .join(job, job.c.id == schedule.c.job)
    .with_hint(schedule, PASS, "mssql")
    .where(sa.text("schedule.fire_at IS NOT NULL AND schedule.paused = 0"), job.c.enabled)
    .order_by(schedule.c.fire_at)
    .limit(DUE)
)
