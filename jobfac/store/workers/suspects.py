"""Suspected runs that wait for a worker on which nothing else runs, and which worker makes room for them.

Such a run stays queued. An idle worker claims it at once. If all are busy, one of them makes room: it says that it
isolates itself, claims nothing until its runs have ended, and then claims the run. The others see what it says.

The workers of a machine take such runs one after another. A program may kill all processes of its user (`kill -9 -1`):
a suspected run that was alone on the next worker would die with it each time, and end as lost.
"""

import json
from collections.abc import Collection, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from jobfac.database import locks
from jobfac.database.dialects import DIRTY, PASS, PASS_BY_KEY, lease_now, lists, utcnow
from jobfac.database.tables import attempt, run, worker, worker_lease
from jobfac.database.types import sql_literals
from jobfac.states import HELD, RunState, WorkerState
from jobfac.store.jobs import known_queues, serves
from jobfac.store.runs import queue_of_worker

ALONE = 600.0
"""Seconds for which a suspected run keeps its worker from claiming others, and other workers of its machine from
claiming suspected ones, from its claim. What kills its worker does so within minutes, most of the time. What runs for
months would keep them from everything else."""

ISOLATING = "a run whose workers died while it ran has to run alone"
"""The message of a worker that makes room for such a run, or executes it."""


class Waiting(NamedTuple):
    """The suspected runs that wait. ``elsewhere``: for each, another worker that may take it isolates itself."""

    runs: frozenset[int] = frozenset()
    elsewhere: bool = False


NOTHING = Waiting()


class Suspicion(NamedTuple):
    """Which runs a worker suspects.

    ``losses``: those that have lost so many attempts with their workers. ``waiting``: those that it knows to wait.
    """

    losses: int
    waiting: frozenset[int] = frozenset()


SUSPICION = Suspicion(2)


def look(
    conn: sa.Connection, worker_id: int, name: str, waiting: Collection[int], queues: Collection[str], pinned: bool
) -> Waiting:
    """Return which of these suspected runs still wait in these queues, or, with ``pinned``, for this worker."""
    found = queued(conn, waiting)
    open_queues = {*queues, queue_of_worker(name)} if pinned else queues
    left = {row.id: row.queue for row in found if row.queue in open_queues}
    return Waiting(frozenset(left), bool(left) and set(left.values()) <= _served_alone(conn, worker_id))


def may_begin(conn: sa.Connection, worker_id: int, losses: int) -> bool:
    """Whether an idle worker may claim a suspected run: no other worker of its machine has just claimed one.

    Two claims at once would not see each other, so only one transaction at a time does it on a machine.
    """
    host = conn.execute(sa.select(worker.c.host).where(worker.c.id == worker_id)).scalar_one()
    turn = f"jobfac:alone:{host[:128]}"
    if turn not in locks.take_free(conn, [turn]):
        return False
    given = {"p_host": host, "p_id": worker_id, "p_losses": losses}
    return conn.execute(_BESIDE, given).first() is None


def queued(conn: sa.Connection, run_ids: Collection[int]) -> Sequence[sa.Row[int, str]]:
    """Return id and queue of those of these runs that are queued, the best first."""
    return conn.execute(_QUEUED.where(lists.by_id(run.c.id, run_ids))).all()


def _served_alone(conn: sa.Connection, worker_id: int) -> set[str]:
    """Return the queues of the other workers that isolate themselves."""
    isolated = conn.execute(_ISOLATED, {"p_message": ISOLATING, "p_id": worker_id}).all()
    return {
        one.name
        for one in (known_queues(conn) if isolated else ())
        if any(serves(json.loads(row.pools), json.loads(row.labels), row.slots, one) for row in isolated)
    }


_QUEUED = (
    sa.select(run.c.id, run.c.queue)
    .with_hint(run, PASS_BY_KEY, "mssql")
    .where(sa.text(f"run.state = '{RunState.QUEUED}'"))
    .order_by(run.c.priority.desc(), run.c.id)
)
_ISOLATED = (
    sa.select(worker.c.pools, worker.c.labels, worker.c.slots)
    .join(worker_lease, worker_lease.c.worker_id == worker.c.id)
    .with_hint(worker, PASS, "mssql")
    .with_hint(worker_lease, DIRTY, "mssql")  # a heartbeat in progress must not hide it
    .where(sa.text(f"worker.state IN ({sql_literals((WorkerState.ACTIVE, WorkerState.DRAINING))})"))
    .where(worker_lease.c.lease_until > lease_now())
    .where(worker.c.message == sa.bindparam("p_message"), worker.c.id != sa.bindparam("p_id"))
)
_BESIDE = (
    sa.select(run.c.id)
    .join(attempt, sa.and_(attempt.c.run_id == run.c.id, attempt.c.number == run.c.attempt))
    .join(worker, worker.c.id == run.c.worker_id)
    .with_hint(run, DIRTY, "mssql")
    .with_hint(attempt, DIRTY, "mssql")
    .with_hint(worker, DIRTY, "mssql")
    .where(sa.text(f"run.state IN ({sql_literals(HELD)})"), run.c.lost >= sa.bindparam("p_losses"))
    .where(worker.c.host == sa.bindparam("p_host"), worker.c.id != sa.bindparam("p_id"))
    .where(attempt.c.started_at > utcnow(-round(ALONE * 1000)))
    .limit(1)
)
"""A suspected run on another worker of a machine. A report that is being stored must not hide it."""
