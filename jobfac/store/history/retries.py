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
