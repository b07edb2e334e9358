"""Workers, their leases and their runs: registration, heartbeat, claim, deregistration, expiry.

The lease belongs to the worker, not to a run. One heartbeat renews one row for all runs of the worker.

**Two rows.** A worker has one row in ``worker`` and one in ``worker_lease``. The heartbeat writes only the second row,
so it waits for no turn and for no other table. A turn (claim, finish) locks the first row and only reads the second.
So a turn may wait for locks for a long time, and heartbeats renew the lease meanwhile.

**Why claim and expiry exclude each other.** Every claim holds an update lock on its worker's row. ``hold`` takes this
lock and checks that the state is `active` or `draining`. ``expire`` takes the same lock before it changes anything and
skips locked rows, so it cannot declare a worker dead during the worker's turn. When ``expire`` has the lock, it ends
the lease with an UPDATE that checks again that the lease has run out. It then marks the worker dead and requeues its
runs, all in one transaction. So there are two cases. A turn commits before the expiry, which then sees its claims. Or
the turn takes the lock after the expiry, reads the state `dead` and raises ``LeaseLost``.

**Why heartbeat and expiry exclude each other.** Both change the row in ``worker_lease`` with one UPDATE that contains
its condition. The heartbeat requires that the lease has not run out; the expiry requires that it has. The second of the
two finds its condition false.

**Notice.** On SQLite, an expiry first gives notice (see ``database.dialects.lease_notice``). Until it is over, the
heartbeat and ``hold`` accept a lease that has run out, because nobody can have ended it.

**Clock.** SQL Server counts leases by its own clock. After that was set forward, ``expire`` ends no lease for the time
of a lease (see ``database.dialects.lease_clock``), because workers trust theirs until their next request.

**Why a stale read of the lease is harmless.** ``hold`` reads ``lease_until`` without a lock. A stale value is too
early, because a lease only grows. The state of the locked row shows whether an expiry took place.

A finish is also fenced by run, attempt and worker, so it can be refused without reading the lease.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import (
    DIRTY,
    IS_ALIVE,
    LOCKED_BY_KEY,
    SURVEY,
    WEIGHT,
    Survey,
    dialect_of,
    lease_now,
    lists,
    read_survey,
    utcnow,
)
from jobfac.database.dialects.lease_clock import boot_ms, forward_steps
from jobfac.database.tables import run, worker, worker_lease
from jobfac.database.types import flag, sql_literals, truncate_utf16
from jobfac.states import ALIVE, HELD, WorkerState
from jobfac.store.runs import Finished
from jobfac.store.workers.claiming import Claimed, claim, claimed_by, held_by, put_back_held, unowned
from jobfac.store.workers.expiry import Expiry, Fenced, HeldRule, expire, fenced, forgive, held_rules, requeue_held
from jobfac.store.workers.first_claims import Pinned, claim_first, claim_pinned
from jobfac.store.workers.leases import Beat, Hold, LeaseLost, MachineLoad, follow_clock, hold, promised, renew
from jobfac.views.serialization import columns, from_row
from jobfac.views.workers import MOST, WorkerView

__all__ = [
    "Beat", "Claimed", "Expiry", "Fenced", "HeldRule", "Hold", "LeaseLost", "MachineLoad", "Pinned", "Registration",
    "claim", "claim_first", "claim_pinned", "claimed_by", "deregister", "expire", "fenced", "follow_clock", "forgive",
    "held_by", "held_rules", "hold", "is_registered", "leave", "promised", "put_back_held", "register", "renew",
    "requeue_left", "requeue_unknown", "set_message", "survey", "unowned", "workers",
]  # fmt: skip


class Registration(NamedTuple):
    """The properties with which a worker registers. ``token`` marks the processes that it starts."""

    name: str
    host: str
    pid: int
    token: str
    version: str
    slots: int
    pools: Sequence[str]
    labels: Mapping[str, str]


def register(conn: sa.Connection, who: Registration, lease: float, notice: float | None = None) -> int:
    """Register a worker with a new lease of ``lease`` seconds. Returns the worker's id.

    ``notice``: how many seconds of notice an expiry of the worker has to give, where the engine gives notice.
    """
    values = who._asdict() | {
        "pools": json.dumps(list(who.pools)),
        "labels": json.dumps(dict(who.labels)),
        "state": WorkerState.ACTIVE,
    }
    insert = worker.insert().values({**values, "started_at": utcnow()}).returning(worker.c.id, worker.c.started_at)
    sent = boot_ms()
    worker_id, started_at = conn.execute(insert).one()
    forward_steps(conn.engine.url).note(started_at, sent)
    times = {"seen_at": utcnow(), "lease_until": lease_now(lease * 1000)}
    conn.execute(worker_lease.insert().values({"worker_id": worker_id, **times}))
    if notice is not None:
        dialect_of(conn).require_notice(conn, worker_id, round(notice * 1000))
    return int(worker_id)


def is_registered(conn: sa.Connection, worker_id: int, token: str) -> bool:
    """Whether this registration exists and is alive. Waits for a transaction that has written it and has not ended."""
    mine = sa.select(worker.c.id).where(worker.c.id == worker_id, worker.c.token == token, IS_ALIVE)
    return conn.execute(mine.with_hint(worker, LOCKED_BY_KEY, "mssql")).first() is not None


def survey(conn: sa.Connection, worker_id: int) -> Survey | None:
    """Return the database's information about a worker, or None if the id is unknown or the row is locked."""
    return read_survey(conn.execute(SURVEY, {"p_id": worker_id}).all())


def requeue_unknown(conn: sa.Connection, run_ids: Collection[int], why: str, by: str) -> list[Finished]:
    """Requeue or end runs that the worker holds in the database but does not know. Returns the runs that ended.

    The caller must have called ``hold``.
    """
    return requeue_held(conn, lists.by_id(run.c.id, run_ids), why, by) if run_ids else []


def deregister(conn: sa.Connection, worker_id: int, token: str | None = None) -> list[Finished]:
    """Deregister a worker and requeue its remaining runs, which must no longer be executing.

    ``token``: as in ``hold``. Returns the runs that ended.
    """
    return requeue_left(conn, worker_id) if leave(conn, worker_id, token) else []


def leave(conn: sa.Connection, worker_id: int, token: str | None = None) -> bool:
    """Mark a worker as stopped. Returns False if it was not alive. The caller calls ``requeue_left``."""
    mine = [] if token is None else [worker.c.token == token]
    change = worker.update().where(worker.c.id == worker_id, sa.text(f"state IN ({sql_literals(ALIVE)})"), *mine)
    if conn.execute(change.values(state=WorkerState.STOPPED, ended_at=utcnow())).rowcount != 1:
        return False
    lease = worker_lease.update().where(worker_lease.c.worker_id == worker_id)
    conn.execute(lease.values(ended=True, seen_at=utcnow()))
    return True


def requeue_left(conn: sa.Connection, worker_id: int) -> list[Finished]:
    """Requeue or end the runs of a worker that has just left. Returns the runs that ended."""
    name = conn.execute(sa.select(worker.c.name).where(worker.c.id == worker_id)).scalar_one()
    return requeue_held(conn, run.c.worker_id == worker_id, f"its worker {name} left", name)


def set_message(conn: sa.Connection, worker_id: int, message: str | None) -> None:
    """Store why a worker claims no runs, for the list of workers. None: there is no problem."""
    text = None if message is None else truncate_utf16(message, 400)
    conn.execute(worker.update().where(worker.c.id == worker_id).values(message=text))


def workers(conn: sa.Connection, alive_only: bool = False) -> list[WorkerView]:
    """Return up to ``MOST`` workers: the live ones first, each group newest first."""
    busy = (
        sa.select(sa.func.coalesce(sa.func.sum(WEIGHT), sa.literal_column("0")))
        .where(sa.text(f"run.state IN ({sql_literals(HELD)})"), run.c.worker_id == worker.c.id)
        .scalar_subquery()
    )
    leased = {name: worker_lease.c[name] for name in ("seen_at", "lease_until", "cpu_pressure", "free_memory")}
    columns_of = {**worker.c, **leased, "busy": busy.label("busy")}
    silent = flag(sa.and_(IS_ALIVE, worker_lease.c.lease_until <= utcnow()))
    query = (
        sa.select(*(columns_of[name] for name in columns(WorkerView)), silent.label("silent"))
        .join(worker_lease, worker_lease.c.worker_id == worker.c.id)
        .with_hint(worker_lease, DIRTY, "mssql")
        .limit(MOST)
    )
    newest = worker.c.id.desc()
    alive_first = sa.case((IS_ALIVE, sa.literal_column("0")), else_=sa.literal_column("1"))
    query = query.where(IS_ALIVE).order_by(newest) if alive_only else query.order_by(alive_first, newest)
    found = conn.execute(query).mappings()
    return [from_row(WorkerView, row)._replace(silent=bool(row["silent"])) for row in found]
