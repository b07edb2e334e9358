"""Which runs were retried."""

from typing import NamedTuple

import sqlalchemy as sa

from jobfac.database.tables import run
from jobfac.states import RunState


class Retry(NamedTuple):
    """A run that retries another one."""

    id: int
    state: RunState


def of_runs(conn: sa.Connection, first: int) -> dict[int, Retry]:
    """Return the latest retry of each retried run with the id ``first`` or a later one, by the id of that run."""
    query = sa.select(run.c.retry_of, run.c.id, run.c.state).where(run.c.id > first, run.c.retry_of >= first)
    return {row.retry_of: Retry(row.id, RunState(row.state)) for row in conn.execute(query.order_by(run.c.id))}


def since(conn: sa.Connection, job: str, run_id: int, newest: int, but: str | None) -> Retry | None:
    """Return the latest retry of a run among the job's runs above ``newest``; None: there is none.

    ``but``: the start key of a retry that does not count.
    """
    query = sa.select(run.c.id, run.c.state).where(run.c.job == job, run.c.id > newest, run.c.retry_of == run_id)
    query = query.where(sa.or_(run.c.start_key.is_(None), run.c.start_key != but))
    row = conn.execute(query.order_by(run.c.id.desc()).limit(1)).first()
    return None if row is None else Retry(row.id, RunState(row.state))


def newest(conn: sa.Connection) -> int:
    """Return the highest id of a run."""
    return conn.execute(sa.select(sa.func.max(run.c.id))).scalar() or 0
