"""A worker's lease: its heartbeat, and the lock on the worker's row that a turn holds (see ``store.workers``)."""

import functools
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import IS_ALIVE, LOCKED_BY_KEY, PASS, dialect_of, lease_now, utcnow
from jobfac.database.dialects.lease_notice import IS_PROMISED
from jobfac.database.tables import run, worker, worker_lease
from jobfac.database.types import flag
from jobfac.states import RunState, WorkerState
from jobfac.store import jobs, runs
from jobfac.store.holds.conditions import ANY, EVERYTHING


class LeaseLost(Exception):
    """The worker's lease ran out, so the worker no longer owns its runs."""


class Beat(NamedTuple):
    """The result of a heartbeat.

    ``expiry``: seconds until the first lease in the fleet runs out, unless it is renewed. 0 or less: one has run out.
    """

    expiry: float


class Hold(NamedTuple):
    """The result of locking a worker's row.

    ``state``: the worker's state. ``due``: a scheduled run is due. ``begin``: a sequence run is queued.
    ``pinned``: a run that is pinned to this worker is queued. ``held``: there is an active hold, so the worker may not
    claim from all of its queues.
    """

    state: WorkerState
    due: bool
    begin: bool
    pinned: bool = False
    held: bool = False


class MachineLoad(NamedTuple):
    """What a worker reports of its machine: CPU pressure in percent, free memory in bytes; None: not known."""

    cpu_pressure: float | None = None
    free_memory: int | None = None


UNKNOWN_LOAD = MachineLoad()


def renew(conn: sa.Connection, worker_id: int, lease: float, load: MachineLoad = UNKNOWN_LOAD) -> Beat:
    """Send a heartbeat: renew the lease for ``lease`` seconds, and store the load of the worker's machine, if given.

    Reads and writes only ``worker_lease``.

    Raises:
        LeaseLost: the lease had run out, or the worker was declared dead.
    """
    row = dialect_of(conn).renew(conn, worker_id, round(lease * 1000), *load)
    if row is None:
        raise LeaseLost(f"worker {worker_id} no longer has a lease")
    return Beat(lease if row.first_end is None else (row.first_end - row.now).total_seconds())


def promised(conn: sa.Connection, worker_id: int) -> float | None:
    """Return the seconds from now within which nobody can end the worker's lease, or None. Waits for no lock."""
    return dialect_of(conn).promised(conn, worker_id)


def follow_clock(conn: sa.Connection) -> int:
    """After the database's clock was set back: move leases that were renewed before. Returns how many were moved.

    A worker that is alive renews its lease at its next heartbeat. The lease of a dead one would not end for as long as
    the clock was ahead. A moved lease ends no earlier than it would have. On SQLite the lease clock does not step.
    """
    if dialect_of(conn).gives_notice:
        return 0
    is_ahead = sa.and_(sa.text("ended = 0"), worker_lease.c.seen_at > utcnow())
    found = conn.execute(sa.select(worker_lease).with_hint(worker_lease, PASS, "mssql").where(is_ahead)).all()
    moved = 0
    for row in found:
        length = round((row.lease_until - row.seen_at).total_seconds() * 1000)
        change = worker_lease.update().where(worker_lease.c.worker_id == row.worker_id, is_ahead)
        moved += conn.execute(change.values(lease_until=utcnow(length), seen_at=utcnow())).rowcount
    return moved


_HAS_RUN_OUT = sa.exists(
    sa.select(worker_lease.c.worker_id)
    .with_hint(worker_lease, PASS, "mssql")
    .where(worker_lease.c.worker_id == worker.c.id, worker_lease.c.lease_until <= lease_now())
    .where(sa.text("ended = 0"))
)
"""Condition on a worker: its lease has run out. The condition is false for a lease that is just being renewed, because
its row is locked and skipped."""


IS_SEQUENCE_QUEUED = sa.exists(
    sa.select(run.c.id)
    .with_hint(run, PASS, "mssql")
    .where(sa.text(f"run.state = '{RunState.QUEUED}' AND run.queue = '{jobs.SEQUENCE_QUEUE}'"))
)
"""Condition: a sequence waits to begin."""


_IS_PINNED_QUEUED = sa.exists(
    sa.select(run.c.id)
    .with_hint(run, PASS, "mssql")
    .where(
        sa.text(f"run.state = '{RunState.QUEUED}'"),
        run.c.queue == sa.literal_column(f"'{runs.queue_of_worker('')}'", sa.Unicode()) + worker.c.name,
    )
)


_BEGIN = flag(sa.and_(IS_SEQUENCE_QUEUED, ~EVERYTHING))


@functools.cache
def _hold(worker_id: int, gives_notice: bool, token: str | None) -> sa.Select[Any]:
    # Id and token are part of the SQL text, because they never change for a worker. With a parameter the statement
    # would take two round trips to SQL Server, the second one to release the prepared statement.
    mine = [] if token is None else [worker.c.token == sa.bindparam("token", token, literal_execute=True)]
    return (
        sa.select(
            worker.c.state,
            flag(runs.IS_DUE).label("due"),
            _BEGIN.label("begin_"),
            flag(_IS_PINNED_QUEUED).label("pinned"),
            flag(ANY).label("held"),
        )
        .with_hint(worker, LOCKED_BY_KEY, "mssql")
        .where(worker.c.id == sa.literal_column(f"{worker_id:d}"), IS_ALIVE, *mine)
        .where(sa.or_(~_HAS_RUN_OUT, sa.text(IS_PROMISED)) if gives_notice else ~_HAS_RUN_OUT)
    )


def hold(conn: sa.Connection, worker_id: int, token: str | None = None) -> Hold:
    """Lock the worker's row until the transaction ends. No expiry can change it meanwhile.

    ``token``: that of the registration. A restored database may have given its id to another worker, and two workers
    with one id would take each other's runs away. None: not known.

    Raises:
        LeaseLost: the lease has run out, or the id belongs to another registration.
    """
    found = conn.execute(_hold(worker_id, dialect_of(conn).gives_notice, token)).first()
    if found is None:
        raise LeaseLost(f"worker {worker_id} no longer has a lease")
    return Hold(WorkerState(found.state), bool(found.due), bool(found.begin_), bool(found.pinned), bool(found.held))
