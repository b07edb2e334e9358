"""Reading the overview of the factory at one moment, in six statements.

Each statement reads the beginning of a filtered index, or as many rows as there are live workers and held runs, so
that its cost does not grow with the queue or with the history.
"""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from jobfac.database.dialects import PASS, utcnow
from jobfac.database.tables import job, queue, run, schedule
from jobfac.database.types import sql_literals
from jobfac.states import HELD, RunState
from jobfac.store import workers
from jobfac.views.overview import DueSchedule, Overview, RunLine, WaitingRuns
from jobfac.views.serialization import columns, from_row

RUNNING, ENDED, DUE = 200, 100, 50
"""Rows of each kind that are read at most."""


def read(conn: sa.Connection) -> Overview:
    """The overview, as of now."""
    counts = conn.execute(_COUNTS).one()
    return Overview(
        counts.now,
        workers.workers(conn, alive_only=True),
        [_waiting(row, counts.now) for row in conn.execute(_QUEUED)],
        counts.blocked,
        counts.scheduled,
        counts.held,
        [from_row(RunLine, row) for row in conn.execute(_RUNNING).mappings()],
        [from_row(RunLine, row) for row in conn.execute(_ENDED).mappings()],
        [from_row(DueSchedule, row) for row in conn.execute(_DUE).mappings()],
    )


def _waiting(row: Any, now: datetime) -> WaitingRuns:
    return WaitingRuns(row.pool, row.number, max(0.0, (now - row.since).total_seconds()))


def _count(where: str) -> sa.ScalarSelect[int]:
    query = sa.select(sa.func.count()).select_from(run).with_hint(run, PASS, "mssql")
    return query.where(sa.text(where)).scalar_subquery()


_COUNTS = sa.select(
    utcnow().label("now"),
    _count(f"state = '{RunState.BLOCKED}'").label("blocked"),
    _count(f"state = '{RunState.SCHEDULED}'").label("scheduled"),
    _count(f"state IN ({sql_literals(HELD)})").label("held"),
)
# The index has queue and id only: the time of a queue's first run is read from one row for each queue.
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
_RUN = [run.c[name] for name in columns(RunLine)]
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
    sa.select(*(schedule.c[name] for name in columns(DueSchedule)))
    .join(job, job.c.id == schedule.c.job)
    .with_hint(schedule, PASS, "mssql")
    .where(sa.text("schedule.fire_at IS NOT NULL AND schedule.paused = 0"), job.c.enabled)
    .order_by(schedule.c.fire_at)
    .limit(DUE)
)
