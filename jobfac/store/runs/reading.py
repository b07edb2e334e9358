"""Read runs and their attempts."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa

from jobfac.database.tables import attempt, run
from jobfac.database.tables import job as job_table
from jobfac.errors import no_run
from jobfac.states import RunState
from jobfac.store.parameters import is_value
from jobfac.store.runs.listing import listed, without_large
from jobfac.views.runs import AttemptView, RunView
from jobfac.views.serialization import columns, from_row

RUN_COLUMNS = [run.c[name] for name in columns(RunView)]
"""The columns that a statement selects to read a ``RunView``."""

_LISTED = [listed(name) for name in columns(RunView)]
_ATTEMPT_COLUMNS = [attempt.c[name] for name in columns(AttemptView)]


def get(conn: sa.Connection, run_id: int) -> RunView:
    """Return a run.

    Raises:
        NotFound: there is no run with this id.
    """
    row = conn.execute(sa.select(*RUN_COLUMNS).where(run.c.id == run_id)).mappings().first()
    if row is None:
        raise no_run(run_id)
    return from_row(RunView, row)


def find(
    conn: sa.Connection,
    *,
    job: str | None = None,
    states: Sequence[RunState] = (),
    since: datetime | None = None,
    sequence_run_id: int | None = None,
    categories: Sequence[str] | None = None,
    below: int | None = None,
    parameters: Mapping[str, str] | None = None,
    limit: int = 50,
) -> list[RunView]:
    """Return up to ``limit`` runs that match all filters, newest first.

    ``below``: only runs with lower ids, to continue after a page. ``parameters``: values by name, as texts.
    Large values are None, and ``truncated`` names them.
    """
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
        query = query.where(run.c.job.in_(sa.select(job_table.c.id).where(job_table.c.category.in_(categories))))
    if below is not None:
        query = query.where(run.c.id < below)
    for name, value in (parameters or {}).items():
        query = query.where(is_value(conn.dialect.name, name, value))
    return [without_large(row) for row in conn.execute(query).mappings()]


def attempts(conn: sa.Connection, run_id: int) -> list[AttemptView]:
    """Return all attempts of a run, oldest first."""
    query = sa.select(*_ATTEMPT_COLUMNS).where(attempt.c.run_id == run_id).order_by(attempt.c.number)
    return [from_row(AttemptView, row) for row in conn.execute(query).mappings()]
