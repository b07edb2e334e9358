"""Drain workers, and let drained ones work again."""

from collections.abc import Callable

import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.errors import gone_worker, no_worker
from jobfac.operations.caller import Caller, transact
from jobfac.states import WorkerState
from jobfac.store import audit
from jobfac.store.workers import draining


def drain(db: Database, by: Caller, worker_id: int) -> None:
    """Ask a worker to claim no more runs and to deregister when its runs have ended.

    May be repeated as long as the worker is alive.

    Raises:
        NotFound: there is no worker with this id, or it has left or died.
    """
    _change(db, by, worker_id, draining.drain, WorkerState.ACTIVE, "drain")


def undrain(db: Database, by: Caller, worker_id: int) -> None:
    """Let a draining worker claim runs again.

    Only a drain by ``drain`` can be taken back; a worker that a signal drains leaves. May be repeated as long as the
    worker is alive.

    Raises:
        NotFound: there is no worker with this id, or it has left or died, perhaps because of the drain.
        Refused: a signal drains it.
    """
    _change(db, by, worker_id, draining.undrain, WorkerState.DRAINING, "undrain")


def _change(
    db: Database,
    by: Caller,
    worker_id: int,
    change: Callable[[sa.Connection, int], WorkerState | None],
    changes: WorkerState,
    action: str,
) -> None:
    """Change a worker's state. The audit records it only if the worker was in the state that ``change`` changes."""

    def work(conn: sa.Connection) -> None:
        before = change(conn, worker_id)
        if before is None:
            gone = draining.gone(conn, worker_id)
            raise no_worker(worker_id) if gone is None else gone_worker(worker_id, *gone)
        if before == changes:
            audit.note(conn, by.name, action, f"worker {worker_id}")

    transact(db, by, work)
