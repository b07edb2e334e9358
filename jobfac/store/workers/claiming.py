"""Claims: a worker takes queued runs for its free slots.

All runs of a queue take the same number of slots (``store.jobs.queue_of``), so a claim from a queue stays one ordered
seek: as many runs as fit. The best runs of several queues come first, by priority and age.

**Heavy runs do not starve.** A run that takes more slots than are free now is passed over, so a worker does not idle
for it, except on the worker that holds its free slots for it: there nothing that comes after the run is claimed. See
``worker.loop.fair_share`` for which worker that is.

**Suspected runs are alone.** A run whose next loss would end it as the cause may kill its worker. So a worker claims it
only while nothing else is there, and nothing with it. A busy worker that finds it queues it again in the same
transaction and passes it over from then on, until it is gone. See ``store.workers.suspects``.
"""

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import FOUND_BY_KEY, PASS, SOUND, dialect_of, lists, rows, utcnow
from jobfac.database.tables import attempt, run, worker
from jobfac.database.types import BigId, sql_literals
from jobfac.states import HELD, RunState
from jobfac.store.holds.conditions import IS_JOB_HELD
from jobfac.store.runs import Rule, record
from jobfac.store.runs.event import Event
from jobfac.store.runs.finish import lock_held
from jobfac.store.workers.suspects import may_begin
from jobfac.views.waiting import SUSPECTED


class Claimed(NamedTuple):
    """A run that this worker claimed.

    ``attempt`` fences every later write about the run. ``lost``: how many attempts were lost with their worker.
    ``slots``: how many slots it takes, None: one.
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
    created_at: datetime
    started_at: datetime
    notify: str | None
    already_running: str = "start"
    concurrency_key: str | None = None
    lost: int | None = None
    slots: int | None = None
    parameters: str | None = None
    sensitive: str | None = None
    origin: str | None = None
    due_at: datetime | None = None

    @property
    def rule(self) -> Rule:
        """The run's admission rule. It also determines which blocked runs its end admits."""
        return Rule(self.job, self.already_running, self.concurrency_key)

    @property
    def weight(self) -> int:
        """How many slots the run takes."""
        return self.slots or 1

    @property
    def key(self) -> tuple[int, int]:
        """Run and attempt: the fence."""
        return self.id, self.attempt

    @property
    def identity(self) -> tuple[str, datetime]:
        """What tells it from another run with its id: a database that forgot a run may give the id away again."""
        return self.job, self.created_at


@dataclass(slots=True)
class Suspects:
    """How the claims of one turn treat runs that are suspected of killing their workers.

    Attributes:
        losses: a run with so many attempts that were lost with their worker is suspected.
        is_idle: nothing is on the worker yet. A claim changes that.
        waiting: suspected runs that wait, as far as the worker knows. A claim adds those that it leaves.
        worker_id: the worker.
    """

    losses: int
    is_idle: bool
    waiting: set[int]
    worker_id: int

    def has(self, claimed: Claimed) -> bool:
        """Whether a run is suspected."""
        return (claimed.lost or 0) >= self.losses

    def may_begin(self, conn: sa.Connection) -> bool:
        """Whether the worker may claim one. If not because of another worker of its machine, it counts as busy."""
        self.is_idle = self.is_idle and may_begin(conn, self.worker_id, self.losses)
        return self.is_idle


class Room(NamedTuple):
    """What a worker can take.

    Attributes:
        slots: its free slots.
        runs: how many runs at most.
        holds: queues whose next run is waited for if it needs more slots than are free.
        held: a hold is active, so claimed runs of held jobs are put back (``put_back_held``).
        suspects: None: no run is suspected.
    """

    slots: int
    runs: int
    holds: Collection[str] = ()
    held: bool = False
    suspects: Suspects | None = None

    @property
    def passes_over(self) -> bool:
        """Whether suspected runs are passed over: one is known, and was not claimed first."""
        return self.suspects is not None and bool(self.suspects.waiting)

    def given(self, **values: Any) -> dict[str, Any]:
        """Return the parameters of a claim."""
        return values | ({"p_losses": self.suspects.losses} if self.suspects and self.passes_over else {})


def claim(
    conn: sa.Connection,
    worker_id: int,
    name: str,
    queues: Mapping[str, int],
    room: Room,
    most: Mapping[str, int] | None = None,
) -> list[Claimed]:
    """Claim runs that fit into ``room``, highest priority first, then oldest. The caller must have called ``hold``.

    Args:
        queues: the queues to claim from, each with the slots that its runs take.
        most: the maximum number of runs for each queue; None: no maximum.
    """
    if min(room.slots, room.runs) <= 0:
        return []
    limits = {
        queue: min(room.runs, max(1, room.slots // slots), room.runs if most is None else most[queue])
        for queue, slots in queues.items()
        if slots <= room.slots or queue in room.holds
    }
    limits = {queue: limit for queue, limit in limits.items() if limit > 0}
    taken: list[Claimed] = []
    for queue, number in _by_queue(conn, limits, queues, room):
        who = room.given(p_queue=queue, p_worker_id=worker_id, p_worker=name)
        statement = dialect_of(conn).claim(number, *([SOUND] if room.passes_over else []))
        taken += [Claimed(*row) for row in conn.execute(statement, who)]
    taken = without_held(conn, taken) if room.held else taken
    taken.sort(key=lambda claimed: (-claimed.priority, claimed.id))
    taken = apart(conn, taken, room.suspects)
    begin(conn, worker_id, name, taken)
    return taken


_AMONG_HELD = (
    sa.select(run.c.id).with_hint(run, FOUND_BY_KEY, "mssql").where(run.c.id == lists.ids().c.value, IS_JOB_HELD)
)


def _before(column: sa.Column[Any]) -> sa.ScalarSelect[Any]:
    """What the run shows of its last attempt, which the claim has cleared."""
    return (
        sa.select(column).where(attempt.c.run_id == run.c.id, attempt.c.number == run.c.attempt - 1).scalar_subquery()
    )


_PUT_BACK = (
    run.update()
    .where(run.c.id == sa.bindparam("p_id"))
    .values(
        state=RunState.QUEUED,
        attempt=run.c.attempt - 1,
        worker_id=None,
        worker=None,
        started_at=sa.case((run.c.attempt == 1, None), else_=run.c.started_at),
        exit_code=_before(attempt.c.exit_code),
        signal=_before(attempt.c.signal),
        reason=_before(attempt.c.reason),
    )
)
_PUT_BACK_SUSPECTED = _PUT_BACK.values(reason=sa.literal_column(f"'{SUSPECTED}'", sa.Unicode()))


def put_back_held(conn: sa.Connection, ids: Collection[int]) -> set[int]:
    """Queue claimed runs of held jobs again. Returns their ids. Call it before anything is recorded of the claim.

    The transaction has set queued runs of held jobs aside before its claim, but others may have been queued between
    the two statements. The claim itself does not look at holds, so that it stays one ordered seek.
    """
    held = set(conn.execute(_AMONG_HELD, {"ids": lists.as_list(ids)}).scalars()) if ids else set()
    for run_id in sorted(held):
        conn.execute(_PUT_BACK, {"p_id": run_id})
    return held


def apart(conn: sa.Connection, taken: list[Claimed], suspects: Suspects | None) -> list[Claimed]:
    """Queue claimed runs again, so that a suspected one is alone; returns those that stay.

    An idle worker keeps a suspected run and nothing else, a busy one keeps all but these.
    """
    if suspects is None or not taken:
        return taken
    if found := [one for one in taken if suspects.has(one)]:
        kept = found[:1] if suspects.may_begin(conn) else [one for one in taken if not suspects.has(one)]
        suspects.waiting.update(one.id for one in found if one not in kept)
        for one in (one for one in taken if one not in kept):
            conn.execute(_PUT_BACK_SUSPECTED if suspects.has(one) else _PUT_BACK, {"p_id": one.id})
        taken = kept
    suspects.is_idle = suspects.is_idle and not taken
    return taken


def without_held(conn: sa.Connection, taken: Sequence[Claimed]) -> list[Claimed]:
    held = put_back_held(conn, [one.id for one in taken])
    return [one for one in taken if one.id not in held]


def begin(conn: sa.Connection, worker_id: int, name: str, taken: Sequence[Claimed]) -> None:
    """Record the attempts of claimed runs."""
    if taken:
        began = [{"run_id": c.id, "number": c.attempt, "worker_id": worker_id, "name": name} for c in taken]
        conn.execute(_open(conn.dialect.name), rows.rows_parameter(began))
        record(conn, [Event(c.id, c.attempt, RunState.RUNNING, name, notify=c.notify) for c in taken])


@functools.cache
def _open(engine: str) -> sa.Insert:
    c = rows.rows_table(
        engine, run_id=BigId, number=attempt.c.number.type, worker_id=BigId, name=attempt.c.worker.type
    ).c
    select = sa.select(c.run_id, c.number, c.worker_id, c.name, utcnow())
    return attempt.insert().from_select(["run_id", "number", "worker_id", "worker", "started_at"], select)


def _by_queue(
    conn: sa.Connection, limits: Mapping[str, int], weights: Mapping[str, int], room: Room
) -> list[tuple[str, int]]:
    """Return how many runs to claim from each queue, so the best runs of all queues come first.

    A single queue needs no query.
    """
    if len(limits) == 1:
        ((queue, limit),) = limits.items()
        number = min(limit, room.slots // weights[queue])
        return [(queue, number)] if number else []
    return pick(best_queues(conn, limits, room.suspects if room.passes_over else None), weights, room)


def best_queues(conn: sa.Connection, limits: Mapping[str, int], without: Suspects | None = None) -> list[str]:
    """Return the queues of the best queued runs, by priority and age.

    ``limits``: how many runs of each queue. ``without``: pass over those that it suspects.
    """
    heads = []
    for queue, limit in limits.items():
        query = (
            sa.select(run.c.priority, run.c.id)
            .with_hint(run, PASS, "mssql")
            .where(sa.text(f"state = '{RunState.QUEUED}'"), run.c.queue == queue)
            .order_by(run.c.priority.desc(), run.c.id)
            .limit(limit)
        )
        query = query if without is None else query.where(SOUND).params(p_losses=without.losses)
        heads += [(-row.priority, row.id, queue) for row in conn.execute(query)]
    return [queue for _, _, queue in sorted(heads)]


def pick(heads: Sequence[str], weights: Mapping[str, int], room: Room) -> list[tuple[str, int]]:
    """Return how many runs to claim from each queue, given the queues of the best runs in order. Pure.

    A run that needs more slots than are left is passed over, unless the worker holds its slots for that queue.
    """
    left, taken = room.slots, dict.fromkeys(heads, 0)
    for queue in heads:
        if sum(taken.values()) == room.runs or left == 0:
            break
        if weights[queue] <= left:
            taken[queue] += 1
            left -= weights[queue]
        elif queue in room.holds:
            break
    return [(queue, number) for queue, number in taken.items() if number]


def held_by(conn: sa.Connection, worker_id: int) -> list[Claimed]:
    """Return the runs that this worker holds in the database. Used when the answer to a claim was lost."""
    query = sa.select(*(run.c[name] for name in Claimed._fields)).where(
        sa.text(f"state IN ({sql_literals(HELD)})"), run.c.worker_id == worker_id
    )
    return [Claimed(*row) for row in conn.execute(query)]


def claimed_by(conn: sa.Connection, worker_id: int, token: str) -> list[Claimed]:
    """Do the same as ``held_by``, if the id belongs to the registration with this token."""
    mine = sa.select(worker.c.id).where(worker.c.id == worker_id, worker.c.token == token)
    return [] if conn.execute(mine.with_hint(worker, PASS, "mssql")).first() is None else held_by(conn, worker_id)


def unowned(conn: sa.Connection, worker_id: int, keys: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the executions among ``keys`` (run, attempt) that the worker does not hold.

    Each run is read by its key and locked. A search for all runs of the worker could miss a run whose state is just
    changing because a stop was requested.
    """
    if not keys:
        return []
    these = sa.and_(lists.by_id(run.c.id, (run_id for run_id, _ in keys)), run.c.worker_id == worker_id)
    owned = {(row.id, row.attempt) for row in lock_held(conn, these)}
    return [key for key in keys if key not in owned]
