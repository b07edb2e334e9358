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

**Why a stale read of the lease is harmless.** ``hold`` reads ``lease_until`` without a lock. A stale value is too
early, because a lease only grows. The state of the locked row shows whether an expiry took place.

A finish is also fenced by run, attempt and worker, so it can be refused without reading the lease.
"""

import functools
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import (
    DIRTY,
    IS_ALIVE,
    PASS,
    SURVEY,
    Survey,
    dialect_of,
    lease_now,
    read_survey,
    rows,
    utcnow,
)
from jobfac.database.tables import attempt, run, worker, worker_lease
from jobfac.database.types import BigId, sql_literals, truncate_utf16
from jobfac.states import ALIVE, HELD, RunState, WorkerState
from jobfac.store.expiry import Expiry, Returned, expire, held_rules, requeue_held
from jobfac.store.leases import Beat, Hold, LeaseLost, hold, promised, renew
from jobfac.store.runs import Finished, Rule, record
from jobfac.store.runs.event import Event
from jobfac.store.runs.finish import lock_held
from jobfac.views.serialization import columns, from_row
from jobfac.views.workers import WorkerView

__all__ = [
    "Beat", "Claimed", "Expiry", "Hold", "LeaseLost", "Registration", "Returned", "Survey", "claim", "deregister",
    "expire", "held_by", "held_rules", "hold", "promised", "register", "renew", "requeue_unknown",
    "set_message", "survey", "unowned", "workers",
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


class Claimed(NamedTuple):
    """A run that this worker claimed.

    ``attempt`` fences every later write about the run. ``lost``: how many attempts were lost with their worker.
    """

    id: int
    job: str
    job_version: int
    kind: str
    attempt: int
    failures: int
    priority: int
    arguments: str | None
    payload: str | None
    sequence_run_id: int | None
    queue: str
    created_at: Any
    started_at: Any
    notify: str | None
    already_running: str = "start"
    concurrency_key: str | None = None
    lost: int | None = None

    @property
    def rule(self) -> Rule:
        """The run's admission rule. It also determines which blocked runs its end admits."""
        return Rule(self.job, self.already_running, self.concurrency_key)

    @property
    def key(self) -> tuple[int, int]:
        """Run and attempt: the fence."""
        return self.id, self.attempt


def register(conn: sa.Connection, who: Registration, lease: float, notice: float | None = None) -> int:
    """Register a worker with a new lease of ``lease`` seconds. Returns the worker's id.

    ``notice``: how many seconds of notice an expiry of the worker has to give, where the engine gives notice.
    """
    values = who._asdict() | {
        "pools": json.dumps(list(who.pools)),
        "labels": json.dumps(dict(who.labels)),
        "state": WorkerState.ACTIVE,
    }
    insert = worker.insert().values({**values, "started_at": utcnow()})
    worker_id = int(conn.execute(insert.returning(worker.c.id)).scalar_one())
    times = {"seen_at": utcnow(), "lease_until": lease_now(lease * 1000)}
    conn.execute(worker_lease.insert().values({"worker_id": worker_id, **times}))
    if notice is not None:
        dialect_of(conn).require_notice(conn, worker_id, round(notice * 1000))
    return worker_id


def survey(conn: sa.Connection, worker_id: int) -> Survey | None:
    """Return the database's information about a worker, or None if the id is unknown or the row is locked."""
    return read_survey(conn.execute(SURVEY, {"p_id": worker_id}).all())


_IS_ALIVE = sa.text(IS_ALIVE)


def claim(
    conn: sa.Connection,
    worker_id: int,
    name: str,
    queues: Sequence[str],
    slots: int,
    most: Mapping[str, int] | None = None,
) -> list[Claimed]:
    """Claim up to ``slots`` runs, highest priority first, then oldest. The caller must have called ``hold``.

    ``most``: the maximum number of runs for each queue; None: ``slots`` for each.
    """
    limits = {queue: min(slots, slots if most is None else most[queue]) for queue in queues}
    limits = {queue: limit for queue, limit in limits.items() if limit > 0}
    if not limits:
        return []
    taken: list[Claimed] = []
    for queue, number in _by_queue(conn, limits, slots):
        who = {"p_queue": queue, "p_worker_id": worker_id, "p_worker": name}
        taken += [Claimed(**row) for row in conn.execute(dialect_of(conn).claim(number), who).mappings()]
    taken.sort(key=lambda claimed: (-claimed.priority, claimed.id))
    if taken:
        began = [{"run_id": c.id, "number": c.attempt, "worker_id": worker_id, "name": name} for c in taken]
        conn.execute(_open(conn.dialect.name), rows.rows_parameter(began))
        record(conn, [Event(c.id, c.attempt, RunState.RUNNING, name, notify=c.notify) for c in taken])
    return taken


@functools.cache
def _open(engine: str) -> sa.Insert:
    c = rows.rows_table(
        engine, run_id=BigId, number=attempt.c.number.type, worker_id=BigId, name=attempt.c.worker.type
    ).c
    select = sa.select(c.run_id, c.number, c.worker_id, c.name, utcnow())
    return attempt.insert().from_select(["run_id", "number", "worker_id", "worker", "started_at"], select)


def _by_queue(conn: sa.Connection, limits: Mapping[str, int], slots: int) -> list[tuple[str, int]]:
    """Return how many runs to claim from each queue, so the best runs of all queues come first.

    A single queue needs no query.
    """
    if len(limits) == 1:
        return list(limits.items())
    heads = []
    for queue, limit in limits.items():
        query = (
            sa.select(run.c.priority, run.c.id)
            .with_hint(run, PASS, "mssql")
            .where(sa.text(f"state = '{RunState.QUEUED}'"), run.c.queue == queue)
            .order_by(run.c.priority.desc(), run.c.id)
            .limit(limit)
        )
        heads += [(-row.priority, row.id, queue) for row in conn.execute(query)]
    best = [queue for _, _, queue in sorted(heads)[:slots]]
    return [(queue, best.count(queue)) for queue in limits if queue in best]


def held_by(conn: sa.Connection, worker_id: int) -> list[Claimed]:
    """Return the runs that this worker holds in the database. Used when the answer to a claim was lost."""
    query = sa.select(*(run.c[name] for name in Claimed._fields)).where(
        sa.text(f"state IN ({sql_literals(HELD)})"), run.c.worker_id == worker_id
    )
    return [Claimed(**row) for row in conn.execute(query).mappings()]


def unowned(conn: sa.Connection, worker_id: int, keys: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the executions among ``keys`` (run, attempt) that the worker does not hold.

    Each run is read by its key and locked. A search for all runs of the worker could miss a run whose state is just
    changing because a stop was requested.
    """
    if not keys:
        return []
    these = sa.and_(run.c.id.in_([run_id for run_id, _ in keys]), run.c.worker_id == worker_id)
    owned = {(row.id, row.attempt) for row in lock_held(conn, these, len(keys))}
    return [key for key in keys if key not in owned]


def requeue_unknown(conn: sa.Connection, run_ids: Collection[int], why: str, by: str) -> list[Finished]:
    """Requeue or end runs that the worker holds in the database but does not know. Returns the runs that ended.

    The caller must have called ``hold``.
    """
    return requeue_held(conn, run.c.id.in_(run_ids), why, by) if run_ids else []


def deregister(conn: sa.Connection, worker_id: int) -> list[Finished]:
    """Deregister a worker and requeue its remaining runs, which must no longer be executing.

    Returns the runs that ended.
    """
    change = worker.update().where(worker.c.id == worker_id, worker.c.state.in_(ALIVE))
    if conn.execute(change.values(state=WorkerState.STOPPED, ended_at=utcnow())).rowcount != 1:
        return []
    mine = worker_lease.update().where(worker_lease.c.worker_id == worker_id)
    conn.execute(mine.values(ended=True, seen_at=utcnow()))
    name = conn.execute(sa.select(worker.c.name).where(worker.c.id == worker_id)).scalar_one()
    return requeue_held(conn, run.c.worker_id == worker_id, f"its worker {name} left", name)


def set_message(conn: sa.Connection, worker_id: int, message: str | None) -> None:
    """Store why a worker claims no runs, for the list of workers. None: there is no problem."""
    text = None if message is None else truncate_utf16(message, 400)
    conn.execute(worker.update().where(worker.c.id == worker_id).values(message=text))


def workers(conn: sa.Connection, alive_only: bool = False) -> list[WorkerView]:
    """Return up to 1,000 workers, newest first."""
    busy = (
        sa.select(sa.func.count())
        .where(sa.text(f"run.state IN ({sql_literals(HELD)})"), run.c.worker_id == worker.c.id)
        .scalar_subquery()
    )
    leased = {"seen_at": worker_lease.c.seen_at, "lease_until": worker_lease.c.lease_until}
    columns_of = {**worker.c, **leased, "busy": busy.label("busy")}
    query = (
        sa.select(*(columns_of[name] for name in columns(WorkerView)))
        .join(worker_lease, worker_lease.c.worker_id == worker.c.id)
        .with_hint(worker_lease, DIRTY, "mssql")
        .order_by(worker.c.id.desc())
        .limit(1000)
    )
    if alive_only:
        query = query.where(_IS_ALIVE)
    return [from_row(WorkerView, row) for row in conn.execute(query).mappings()]
