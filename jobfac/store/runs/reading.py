"""Read runs and their attempts."""

import sqlalchemy as sa

from jobfac.database.tables import attempt, run
from jobfac.errors import no_run
from jobfac.views.runs import AttemptView, RunView
from jobfac.views.serialization import columns, from_row

RUN_COLUMNS = [run.c[name] for name in columns(RunView)]
"""The columns that a statement selects to read a ``RunView``."""

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


def attempts(conn: sa.Connection, run_id: int) -> list[AttemptView]:
    """Return all attempts of a run, oldest first."""
    query = sa.select(*_ATTEMPT_COLUMNS).where(attempt.c.run_id == run_id).order_by(attempt.c.number)
    return [from_row(AttemptView, row) for row in conn.execute(query).mappings()]
