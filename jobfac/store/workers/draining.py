"""Drain workers, and take a drain back."""

import sqlalchemy as sa

from jobfac.database.tables import worker
from jobfac.database.types import sql_literals
from jobfac.errors import Refused
from jobfac.states import ALIVE, WorkerState

LEAVING = "it drains, and leaves when its runs have ended"
"""The message of a worker that a signal drains. Its row stays active, so a start on each worker still counts on it: it
may come back under its name."""


def drain(conn: sa.Connection, worker_id: int) -> WorkerState | None:
    """Ask a worker to claim no more runs and to deregister when its runs have ended.

    Returns the worker's previous state, or None if it is not alive.
    """
    return _switch(conn, worker_id, WorkerState.ACTIVE, WorkerState.DRAINING)


def undrain(conn: sa.Connection, worker_id: int) -> WorkerState | None:
    """Let a draining worker claim runs again. Returns the same as ``drain``.

    Raises:
        Refused: a signal drains it, and it leaves regardless of its row.
    """
    leaving = worker.c.id == worker_id, worker.c.message == LEAVING, sa.text(f"state IN ({sql_literals(ALIVE)})")
    if (name := conn.execute(sa.select(worker.c.name).where(*leaving)).scalar()) is not None:
        raise Refused(
            f"Worker {worker_id} ('{name}') was told by a signal to drain, which cannot be taken back; "
            "it leaves when its runs have ended or its drain_limit is over. `jobfac worker` starts a new one."
        )
    return _switch(conn, worker_id, WorkerState.DRAINING, WorkerState.ACTIVE)


def gone(conn: sa.Connection, worker_id: int) -> tuple[str, bool] | None:
    """Return the name of a worker that is not alive, and whether it died; None: there is no such worker."""
    row = conn.execute(sa.select(worker.c.name, worker.c.state).where(worker.c.id == worker_id)).first()
    return None if row is None else (str(row.name), row.state == WorkerState.DEAD)


def _switch(conn: sa.Connection, worker_id: int, before: WorkerState, after: WorkerState) -> WorkerState | None:
    change = worker.update().where(worker.c.id == worker_id, worker.c.state == before)
    if conn.execute(change.values(state=after)).rowcount:
        return before
    is_alive = sa.text(f"state IN ({sql_literals(ALIVE)})")
    found = conn.execute(sa.select(worker.c.state).where(worker.c.id == worker_id, is_alive)).scalar()
    return None if found is None else WorkerState(found)
