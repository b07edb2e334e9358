"""Input of a fair claim: the load of every live worker, and the number of queued runs."""

import functools
import json
from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import DIRTY, IS_ALIVE, PASS, SOUND, WEIGHT, lease_now
from jobfac.database.tables import run, worker, worker_lease
from jobfac.database.types import sql_literals
from jobfac.states import HELD, RunState, WorkerState
from jobfac.store.jobs import known_queues, serves


class Load(NamedTuple):
    """The load of a live worker that takes new runs: its slots, its busy slots and the queues that it serves."""

    worker_id: int
    slots: int
    busy: int
    queues: frozenset[str]

    @property
    def free(self) -> int:
        """The number of free slots."""
        return max(0, self.slots - self.busy)


_BUSY = (
    sa.select(sa.func.coalesce(sa.func.sum(WEIGHT), sa.literal_column("0")))
    .select_from(run)
    .with_hint(run, PASS, "mssql")
    .where(sa.text(f"run.state IN ({sql_literals(HELD)})"), run.c.worker_id == worker.c.id)
    .scalar_subquery()
)
_WORKERS = (
    sa.select(worker.c.id, worker.c.slots, worker.c.pools, worker.c.labels, _BUSY.label("busy"))
    .join(worker_lease, worker_lease.c.worker_id == worker.c.id)
    .with_hint(worker, PASS, "mssql")
    .with_hint(worker_lease, DIRTY, "mssql")
    .where(
        sa.text(f"worker.state = '{WorkerState.ACTIVE}'"),
        worker.c.message.is_(None),
        worker_lease.c.lease_until > lease_now(),
    )
)
"""The message of a worker says why it claims nothing, such as `unhealthy: no space in /spool`."""


def fleet(conn: sa.Connection, queues: Collection[str]) -> list[Load]:
    """Return every live worker that takes new runs, with the queues among ``queues`` that it serves.

    A worker that has said why it claims nothing is left out: runs must not wait for it.

    Skips rows that another transaction has locked, so claims count only after their commit.
    """
    wanted = [one for one in known_queues(conn) if one.name in queues]
    found = []
    for row in conn.execute(_WORKERS):
        pools, labels = json.loads(row.pools), json.loads(row.labels)
        served = {one.name for one in wanted if serves(pools, labels, row.slots, one)}
        found.append(Load(row.id, row.slots, row.busy, frozenset(served)))
    return found


_ALIVE = (
    sa.select(worker.c.pools, worker.c.started_at, worker_lease.c.seen_at)
    .join(worker_lease, worker_lease.c.worker_id == worker.c.id)
    .with_hint(worker, DIRTY, "mssql")
    .with_hint(worker_lease, DIRTY, "mssql")  # a heartbeat in progress must not hide it
    .where(IS_ALIVE, worker_lease.c.lease_until > lease_now())
)


class Presence(NamedTuple):
    """Since when a live worker has been registered, and when its last heartbeat was."""

    started_at: datetime
    seen_at: datetime


def serving(conn: sa.Connection, pool: str) -> list[Presence]:
    """Return the live workers of a pool."""
    found = ((json.loads(row.pools), row) for row in conn.execute(_ALIVE))
    return [Presence(row.started_at, row.seen_at) for pools, row in found if pool.lower() in map(str.lower, pools)]


def queued(conn: sa.Connection, queues: Collection[str], most: int, losses: int | None = None) -> dict[str, int]:
    """Return the number of queued runs for each of ``queues``. The count of a queue stops at ``most``.

    ``losses``: without runs that have lost so many attempts with their workers; None: all runs.
    """
    names = {f"queue{place}": name for place, name in enumerate(queues)}
    given = names if losses is None else names | {"p_losses": losses}
    by_place = {row.place: row.number for row in conn.execute(_counts(len(queues), most, losses is not None), given)}
    return {name: by_place[place] for place, name in enumerate(queues)}


@functools.cache
def _counts(queues: int, most: int, only_sound: bool) -> sa.CompoundSelect[Any]:
    return sa.union_all(*(_count(place, most, only_sound) for place in range(queues)))


def _count(place: int, most: int, only_sound: bool) -> sa.Select[int, int]:
    query = (
        sa.select(run.c.id)
        .with_hint(run, PASS, "mssql")
        .where(sa.text(f"run.state = '{RunState.QUEUED}'"), run.c.queue == sa.bindparam(f"queue{place}"))
    )
    first = (query.where(SOUND) if only_sound else query).limit(most).subquery(f"first{place}")
    return sa.select(sa.literal_column(f"{place:d}").label("place"), sa.func.count().label("number")).select_from(first)
