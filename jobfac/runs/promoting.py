"""Scheduled runs whose time has come, delayed starts and retries, enter where their rules let them go."""

import functools
from typing import Any

import sqlalchemy as sa

from jobfac.dialects import PASS, SKIP, utcnow
from jobfac.runs import gates
from jobfac.runs.stopping import make_room
from jobfac.states import RunState
from jobfac.tables import run

_SCHEDULED = (sa.text(f"run.state = '{RunState.SCHEDULED}'"), run.c.ready_at <= utcnow())
IS_DUE = sa.exists(sa.select(run.c.id).with_hint(run, PASS, "mssql").where(*_SCHEDULED))
"""Whether there is something to promote; what is just being promoted does not count."""


@functools.cache
def _due(limit: int) -> sa.Select[Any]:
    return (
        sa.select(*gates.RULES).with_hint(run, SKIP, "mssql").where(*_SCHEDULED).order_by(run.c.ready_at).limit(limit)
    )


def promote_due(conn: sa.Connection, by: str, limit: int = gates.BATCH) -> int:
    """Move scheduled runs whose time has come to where their rules let them go, so many at most; returns how many were
    moved."""
    rows = conn.execute(_due(limit)).mappings().all()
    if not rows:
        return 0
    gates.lock(conn, rows)
    replacing = [row for row in rows if row["already_running"] == "replace" and row["attempt"] == 0]
    moved = gates.move(conn, [row for row in rows if row not in replacing], RunState.SCHEDULED, by)
    for row in replacing:
        make_room(conn, row["job"], by)
        moved += gates.move(conn, [row], RunState.SCHEDULED, by)
    return moved
