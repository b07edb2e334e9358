"""The first claims of a turn: a suspected run that waits for an idle worker, and runs that are pinned to the worker."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import FITS, ONE, PASS, SOUND, WEIGHT, dialect_of
from jobfac.database.tables import run, worker
from jobfac.states import RunState
from jobfac.store.runs import queue_of_worker
from jobfac.store.workers.claiming import Claimed, Room, apart, begin, without_held
from jobfac.store.workers.suspects import queued


def claim_first(
    conn: sa.Connection, worker_id: int, name: str, queues: Mapping[str, int], room: Room, pinned: bool
) -> tuple[list[Claimed], bool]:
    """Claim what comes before the runs of the queues. Returns also whether nothing else may be claimed.

    The caller must have called ``hold``. ``pinned``: a run that is pinned to this worker is queued.
    """
    if min(room.slots, room.runs) <= 0:
        return [], False
    suspects = room.suspects
    if suspects and suspects.waiting and suspects.may_begin(conn):
        mine = [queue_of_worker(name)] if pinned else []
        if taken := _claim_suspected(conn, worker_id, name, [*mine, *queues], room):
            return taken, True
    if not pinned:
        return [], False
    taken, waits = claim_pinned(conn, worker_id, name, room)
    return taken, waits or (suspects is not None and any(map(suspects.has, taken)))


def _claim_suspected(
    conn: sa.Connection, worker_id: int, name: str, queues: Collection[str], room: Room
) -> list[Claimed]:
    """Claim the best of the suspected runs that wait. The worker has nothing else to do.

    By its id: a search would read, and lock, all runs of the queue that come before it.
    """
    waiting = () if room.suspects is None else queued(conn, room.suspects.waiting)
    for one in (one for one in waiting if one.queue in queues):
        who = {"p_queue": one.queue, "p_worker_id": worker_id, "p_worker": name}
        found = conn.execute(dialect_of(conn).claim(1, FITS, ONE), {**who, "p_free": room.slots, "p_run_id": one.id})
        taken = [Claimed(*row) for row in found]
        if taken := without_held(conn, taken) if room.held else taken:
            begin(conn, worker_id, name, taken)
            return taken
    return []


class Pinned(NamedTuple):
    """The runs claimed that are pinned to a worker. ``waits``: another one is queued and does not fit yet.

    A run that needs more slots than the worker has does not count. The worker had more when the run was started.
    """

    taken: list[Claimed]
    waits: bool


def claim_pinned(conn: sa.Connection, worker_id: int, name: str, room: Room) -> Pinned:
    """Claim the runs that are pinned to this worker, as many as fit, one by one, because they differ in their slots.

    The caller must have called ``hold``.
    """
    taken: list[Claimed] = []
    queue, left = queue_of_worker(name), room.slots
    while left > 0 and len(taken) < room.runs:
        who = room.given(p_queue=queue, p_worker_id=worker_id, p_worker=name, p_free=left)
        statement = dialect_of(conn).claim(1, FITS, *([SOUND] if room.passes_over else []))
        found = conn.execute(statement, who).one_or_none()  # not first(): it reads no error
        if found is None:
            break
        taken.append(Claimed(*found))
        left -= taken[-1].weight
    taken = without_held(conn, taken) if room.held else taken
    taken = apart(conn, taken, room.suspects)
    begin(conn, worker_id, name, taken)
    waits = _PINNED_WAITS.where(SOUND) if room.passes_over else _PINNED_WAITS
    return Pinned(taken, conn.execute(waits, room.given(p_queue=queue, p_worker_id=worker_id)).first() is not None)


_PINNED_WAITS = (
    sa.select(run.c.id)
    .with_hint(run, PASS, "mssql")
    .where(sa.text(f"run.state = '{RunState.QUEUED}'"), run.c.queue == sa.bindparam("p_queue"))
    .where(sa.select(worker.c.slots).where(worker.c.id == sa.bindparam("p_worker_id")).scalar_subquery() >= WEIGHT)
    .limit(1)
)
