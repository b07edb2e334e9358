"""Repeated starts: a start with a key that was used before must be the same start."""

import json
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from jobfac.database.tables import run
from jobfac.definitions import DefinitionError, Problem
from jobfac.store.runs.request import StartRequest

NEAR = timedelta(seconds=1)
"""Two times that differ by less than this are equal, because the database rounds times."""


def check_repeat(conn: sa.Connection, run_id: int, request: StartRequest) -> None:
    """Compare a request with the run that was started with the same key.

    Raises:
        DefinitionError: the request differs in arguments, payload, priority, time or overrides.
    """
    columns = (run.c.arguments, run.c.payload, run.c.overrides, run.c.priority, run.c.attempt)
    row = conn.execute(sa.select(*columns, run.c.created_at, run.c.ready_at).where(run.c.id == run_id)).one()
    pairs = {
        "arguments": (None if request.arguments is None else list(request.arguments), _decoded(row.arguments)),
        "payload": (request.payload, row.payload),
        "overrides": (request.overrides, _decoded(row.overrides)),
        "priority": (row.priority if request.priority is None else request.priority, row.priority),
    }
    differs = [name for name, (wanted, stored) in pairs.items() if wanted != stored]
    if _differs_in_time(request, row):
        differs.append("time")
    if differs:
        message = f"the key '{request.key}' was used for run {run_id}, which differs in {', '.join(differs)}"
        raise DefinitionError([Problem(f"{message}; give each start a key of its own", "key")])


def _differs_in_time(request: StartRequest, row: Any) -> bool:
    later = request.at is not None or bool(request.delay)
    if row.ready_at is None or row.attempt > 0:  # a retry may have changed the time
        return later and row.ready_at is None
    if not later:
        return True
    wanted = row.created_at + timedelta(seconds=request.delay or 0) if request.at is None else request.at
    return bool(abs(wanted - row.ready_at) > NEAR)


def _decoded(text: str | None) -> Any:
    return None if text is None else json.loads(text)
