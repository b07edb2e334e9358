"""Reading runs, and the one form in which the command line, the API and webhooks show them."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from jobfac.database.tables import attempt, run
from jobfac.errors import no_run
from jobfac.states import RunState
from jobfac.store.runs.listing import listed, without_large

PUBLIC = (
    "id", "job", "state", "attempt", "priority", "arguments", "payload", "created_at", "started_at", "ended_at",
    "worker", "exit_code", "signal", "reason", "progress", "message", "exit_message", "sequence_run_id",
    "schedule_id", "due_at", "kind", "job_version", "queue", "created_by", "ready_at", "queued_at", "outputs", "stop",
    "stop_by", "retry_of",
)  # fmt: skip
"""The keys of a run, in order. Times are RFC 3339 with offset; the first twenty are promised to users."""

_COLUMNS = [run.c[name] for name in PUBLIC]
_LISTED = [listed(name) for name in PUBLIC]


def get(conn: sa.Connection, run_id: int) -> sa.RowMapping:
    """One run.

    Raises:
        NotFound: there is none with this id.
    """
    row = conn.execute(sa.select(*_COLUMNS).where(run.c.id == run_id)).mappings().first()
    if row is None:
        raise no_run(run_id)
    return row


def find(
    conn: sa.Connection,
    *,
    job: str | None = None,
    states: Sequence[RunState] = (),
    since: datetime | None = None,
    sequence_run_id: int | None = None,
    categories: Sequence[str] | None = None,
    below: int | None = None,
    limit: int = 50,
) -> list[dict[str, Any]]:
    """Runs that match every filter, newest first. ``below``: only ids below it, to continue after a page. Large values
    are None, and ``truncated`` names them."""
    query = sa.select(*_LISTED).order_by(run.c.id.desc()).limit(limit)
    if job is not None:
        query = query.where(run.c.job == job)
    if states:
        query = query.where(run.c.state.in_([sa.literal_column(f"'{RunState(state)}'") for state in states]))
    if since is not None:
        query = query.where(run.c.created_at >= since)
    if sequence_run_id is not None:
        query = query.where(run.c.sequence_run_id == sequence_run_id)
    if categories is not None:
        from jobfac.database.tables import job as jobs

        query = query.where(run.c.job.in_(sa.select(jobs.c.id).where(jobs.c.category.in_(categories))))
    if below is not None:
        query = query.where(run.c.id < below)
    return [without_large(row) for row in conn.execute(query).mappings()]


def attempts(conn: sa.Connection, run_id: int) -> Sequence[sa.RowMapping]:
    """Every execution of a run, oldest first."""
    return (
        conn.execute(sa.select(attempt).where(attempt.c.run_id == run_id).order_by(attempt.c.number)).mappings().all()
    )


def present(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A run as a JSON object: times as RFC 3339 text, arguments and outputs decoded."""
    shown = {name: shown_value(value) for name, value in row.items()}
    for name in ("arguments", "outputs"):
        if isinstance(shown.get(name), str):
            shown[name] = json.loads(shown[name])
    return shown


def shown_value(value: Any) -> Any:
    """A column's value for JSON: a time becomes RFC 3339 text with its offset, everything else stays."""
    return value.isoformat(timespec="milliseconds") if isinstance(value, datetime) else value
