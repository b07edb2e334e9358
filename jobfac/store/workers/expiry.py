"""Expiry: mark workers dead when their lease has run out, and requeue or end the runs of workers that are gone.

``store.workers`` explains why an expiry and a worker's own claims exclude each other.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import CLAIMING, DIRTY, IS_ALIVE, PASS, dialect_of, lease_now, lists, utcnow
from jobfac.database.tables import attempt, run, worker, worker_lease
from jobfac.database.types import sql_literals
from jobfac.states import ALIVE, HELD, RunState, WorkerState
from jobfac.store.runs import Finished, Rule, requeue
from jobfac.store.runs.finish import POISON_ATTEMPTS, HeldRun, lock_held

EXPIRY_BATCH = 200
"""The maximum number of workers, and of runs per worker, that one transaction changes."""


class Returned(NamedTuple):
    """An execution that ended with its worker. ``state`` is the new state of its run; ``token``: that of the worker."""

    run: int
    attempt: int
    job: str
    worker: str
    state: RunState
    token: str


class Expiry(NamedTuple):
    """The result of an expiry: the names of the dead workers, the runs they held, and the runs that ended.

    ``pending``: how many workers have run out of their lease, but cannot be expired yet, because they have been given
    notice (SQLite), this process waits after a step of the clock, an outage or its start (SQL Server), or another
    transaction, such as another expiry, holds their rows, and how many still have runs. ``locked``: how many of these
    wait for a run, or for the named lock of its rule, that another transaction has locked. ``doubted``: how many cannot
    be expired because of notice or such a wait.
    """

    workers: list[str]
    runs: list[Returned]
    finished: list[Finished]
    pending: int = 0
    locked: int = 0
    doubted: int = 0

    def add(self, gone: Any, rows: Iterable[HeldRun], finished: Sequence[Finished]) -> None:
        """Add runs that a worker held, whose row is ``gone``. ``finished``: those that ended; the others are queued."""
        final = {one.run_id: one.state for one in finished}
        self.finished.extend(finished)
        self.runs.extend(
            Returned(row.id, row.attempt, row.job, gone.name, final.get(row.id, RunState.QUEUED), gone.token)
            for row in rows
        )


class Fenced(NamedTuple):
    """An execution that was lost with its worker. Its program may still run, as where worker and guardian stand still.

    ``token``: that of the worker.
    """

    token: str
    run: int
    attempt: int


class HeldRule(NamedTuple):
    """The rule of a run that a worker holds, and the run of the sequence that it belongs to."""

    rule: Rule
    sequence_run_id: int | None


def held_rules(conn: sa.Connection, only: int | None = None) -> list[HeldRule]:
    """Read without locks the rules of the runs that ``expire`` will requeue or end."""
    gone = [only] if only is not None else [*_silent(conn), *(one.id for one in conn.execute(_GONE))]
    if not gone:
        return []
    query = (
        sa.select(run.c.job, run.c.already_running, run.c.concurrency_key, run.c.sequence_run_id)
        .distinct()
        .where(sa.text(f"state IN ({sql_literals(HELD)})"), lists.by_id(run.c.worker_id, gone))
    )
    return [HeldRule(Rule(*row[:3]), row.sequence_run_id) for row in conn.execute(query)]


def expire(
    conn: sa.Connection,
    by: str,
    only: int | None = None,
    poison_attempts: int = POISON_ATTEMPTS,
    token: str | None = None,
    without: Collection[HeldRule] = (),
) -> Expiry:
    """Mark workers dead when their lease has run out, and requeue or end the runs of workers that are gone.

    The caller has taken the named locks of their rules (``held_rules``).

    Args:
        only: expire only this worker, even if its lease is still valid. A worker that knows that it has lost its lease
            ends its own former registration this way.
        poison_attempts: a run ends as lost after this many attempts that were lost with their worker. The attempts of
            a live worker that lost its lease do not count.
        token: that of the registration ``only``, as in ``hold``.
        without: rules that need a named lock that is not free. Their runs are left to a later call.
    """
    silent = [only] if only is not None else _silent(conn)
    endable = silent if only is not None or not silent else dialect_of(conn).endable(conn, silent)
    taken = _take_the_dead(conn, endable, only, token)
    pending = len(silent) - len(taken) if only is None else 0
    expiry = Expiry([], [], [], pending, doubted=len(silent) - len(endable))
    for dead in taken:
        # A run that an open transaction has locked, such as one that called stop_run, must not keep the others.
        limit = EXPIRY_BATCH if only is None else None
        rows = _free(lock_held(conn, run.c.worker_id == dead.id, limit, wait=only is not None), without)
        why = _died(dead.name) if only is None else f"its worker {dead.name} lost its lease"
        expiry.add(dead, rows, requeue(conn, rows, why, by, poison_attempts if only is None else None))
        change = worker.update().where(worker.c.id == dead.id)
        conn.execute(change.values(state=WorkerState.DEAD, ended_at=utcnow()))
        expiry.workers.append(dead.name)
    # Runs remain here only if they were locked, or if a worker died or deregistered while it held more than one batch.
    gone, left = [] if only is not None else conn.execute(_GONE).all(), EXPIRY_BATCH
    for one in gone:
        rows = _free(lock_held(conn, run.c.worker_id == one.id, left, wait=False), without) if left else []
        left -= len(rows)
        has_died = one.state == WorkerState.DEAD
        why = _died(one.name) if has_died else "its worker is gone"
        expiry.add(one, rows, requeue(conn, rows, why, by, poison_attempts if has_died else None))
    if gone and left == EXPIRY_BATCH:
        expiry = expiry._replace(pending=expiry.pending + len(gone), locked=expiry.locked + len(gone))
    return expiry


def forgive(conn: sa.Connection, worker_id: int, name: str, keys: Iterable[tuple[int, int]]) -> None:
    """Take back that these attempts were counted against their runs: others took the worker for dead, but it lives.

    Safe to repeat: the attempt's reason says whether it is counted.
    """
    for run_id, number in sorted(keys):  # the order of locks
        mine = (attempt.c.run_id == run_id, attempt.c.number == number, attempt.c.worker_id == worker_id)
        counted = attempt.c.reason == _died(name)
        if conn.execute(sa.select(attempt.c.number).where(*mine, counted)).first() is not None:
            change = run.update().where(run.c.id == run_id, run.c.lost > 0)
            conn.execute(change.values(lost=sa.func.nullif(run.c.lost - 1, 0)))
            conn.execute(attempt.update().where(*mine, counted).values(reason=f"its worker {name} lost its lease"))


def _died(name: str) -> str:
    return f"its worker {name} died"


def _free(rows: Sequence[HeldRun], without: Collection[HeldRule]) -> list[HeldRun]:
    return [row for row in rows if HeldRule(row.rule, row.sequence_run_id) not in without]


_SILENT = (
    sa.select(worker_lease.c.worker_id)
    .with_hint(worker_lease, PASS, "mssql")
    .where(sa.text("ended = 0"), worker_lease.c.lease_until <= lease_now())
    .order_by(worker_lease.c.lease_until)
)
"""Workers whose lease has run out and is not marked as ended."""


def _silent(conn: sa.Connection) -> Sequence[int]:
    return conn.execute(_SILENT.limit(EXPIRY_BATCH)).scalars().all()


def _take_the_dead(
    conn: sa.Connection, silent: Sequence[int], only: int | None, token: str | None
) -> list[sa.Row[int, str, str]]:
    """Lock the rows of workers whose lease has run out, and end these leases. Skips a worker that is in a turn."""
    if not silent:
        return []
    query = sa.select(worker.c.id, worker.c.name, worker.c.token).with_hint(worker, CLAIMING, "mssql")
    if token is not None:
        query = query.where(worker.c.token == token)
    dead = []
    for row in conn.execute(query.where(lists.by_id(worker.c.id, silent), IS_ALIVE).order_by(worker.c.id)).all():
        end = worker_lease.update().where(worker_lease.c.worker_id == row.id)
        if only is None:  # a heartbeat may have renewed the lease since
            end = end.where(worker_lease.c.lease_until <= lease_now())
        if conn.execute(end.values(ended=True)).rowcount:
            dead.append(row)
    return dead


# Read without locks. As a condition of the locking statement it would make SQL Server lock all held runs. A worker that
# is finishing one of them would then wait for this transaction, and this transaction would wait for the worker.
_GONE = (
    sa.select(worker.c.id, worker.c.name, worker.c.token, worker.c.state)
    .distinct()
    .join(run, worker.c.id == run.c.worker_id)
    .with_hint(run, PASS, "mssql")
    .where(
        sa.text(f"run.state IN ({sql_literals(HELD)})"),
        sa.text(f"worker.state IN ({sql_literals(set(WorkerState) - ALIVE)})"),
    )
    .limit(EXPIRY_BATCH)
)
"""Workers that are gone and still hold runs."""


def requeue_held(conn: sa.Connection, condition: sa.ColumnElement[bool], why: str, by: str) -> list[Finished]:
    """Requeue or end held runs that match ``condition`` and are no longer executed. Returns the runs that ended."""
    return requeue(conn, lock_held(conn, condition, EXPIRY_BATCH), why, by)


def fenced(conn: sa.Connection, claimed: Iterable[tuple[int, int]]) -> list[Fenced]:
    """Return the executions of these runs that were lost with their workers before these attempts."""
    now = dict(claimed)
    if not now:
        return []
    query = (
        sa.select(worker.c.token, attempt.c.run_id, attempt.c.number)
        .select_from(attempt.join(worker, worker.c.id == attempt.c.worker_id))
        .with_hint(worker, DIRTY, "mssql")  # a token never changes, and the worker may be in a turn
        .where(lists.by_id(attempt.c.run_id, now), attempt.c.state == RunState.LOST)
    )
    found = (Fenced(*row) for row in conn.execute(query))
    return [one for one in found if one.attempt < now[one.run]]
