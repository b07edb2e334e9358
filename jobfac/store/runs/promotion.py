"""Scheduled runs whose time has come, delayed starts and retries, enter where their rules let them go."""

import functools
from typing import Any

import sqlalchemy as sa

from jobfac.database.dialects import PASS, SKIP, utcnow
from jobfac.database.tables import run
from jobfac.states import RunState
from jobfac.store.runs import admission
from jobfac.store.runs.stopping import make_room

_SCHEDULED = (sa.text(f"run.state = '{RunState.SCHEDULED}'"), run.c.ready_at <= utcnow())
IS_DUE = sa.exists(sa.select(run.c.id).with_hint(run, PASS, "mssql").where(*_SCHEDULED))
"""Whether there is something to promote; what is just being promoted does not count."""


@functools.cache
def _due(limit: int) -> sa.Select[Any]:
    query = sa.select(*admission.RULES).with_hint(run, SKIP, "mssql").where(*_SCHEDULED)
    return query.order_by(run.c.ready_at).limit(limit)


def promote_due(conn: sa.Connection, by: str, limit: int = admission.BATCH) -> int:
    """Move scheduled runs whose time has come to where their rules let them go, so many at most; returns how many were
    moved."""
    rows = conn.execute(_due(limit)).mappings().all()
    if not rows:
        return 0
    admission.lock(conn, rows)
    replacing = [row for row in rows if row["already_running"] == "replace" and row["attempt"] == 0]
    moved = admission.move(conn, [row for row in rows if row not in replacing], RunState.SCHEDULED, by)
    for row in replacing:
        make_room(conn, row["job"], by)
        moved += admission.move(conn, [row], RunState.SCHEDULED, by)
    return moved
