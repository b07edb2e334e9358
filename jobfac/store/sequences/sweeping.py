"""Begin queued sequences, and sweep: advance sequences that no other transaction has advanced."""

import functools
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database import locks
from jobfac.database.dialects import CLAIM_VALUES, CLAIMING, FOUND_BY_KEY, PASS, lists, rows, utcnow
from jobfac.database.sequence_memory import guarded, memory_of
from jobfac.database.sequence_tables import ASKED, WAKES
from jobfac.database.tables import run, visit
from jobfac.database.types import BigId, sql_literals
from jobfac.definitions import DefinitionError
from jobfac.definitions import Sequence as Definition
from jobfac.states import ACTIVE, FINAL, HELD, RunState, Stop, Waiting
from jobfac.store import jobs, runs, workers
from jobfac.store.holds import moving, reading
from jobfac.store.runs import Finished
from jobfac.store.runs.event import Event
from jobfac.store.sequences.advance import conclude
from jobfac.store.sequences.decide import step_of
from jobfac.store.sequences.locking import locked_sequences
from jobfac.store.sequences.steering import locked_to_stop, stop_jobs

BATCH = 50
"""The maximum number of sequences that one transaction sweeps."""

BEGINNINGS = 20
"""The maximum number of sequences that one transaction begins."""


class Begun(NamedTuple):
    """The number of sequences that were begun, and the sequences that ended as a result.

    ``locked``: sequences with a run that could not begin, because another transaction holds a lock that it needs.
    """

    number: int
    ended: list[Finished]
    locked: Collection[str] = ()


def begin(conn: sa.Connection, by: str, limit: int = BEGINNINGS) -> Begun:
    """Begin up to ``limit`` queued sequence runs, highest priority first, whose named locks are free."""
    if conn.execute(_QUEUED.limit(1)).first() is None:
        return Begun(0, [])
    is_held = bool(reading.active(conn))  # a hold that is placed after this may come too late, as for a worker's claim
    # After it has set runs aside, which locks them, the transaction must not wait for named locks.
    if is_held and (moving.set_aside(conn, by).moved or not reading.open_queues(conn, [jobs.SEQUENCE_QUEUE])):
        return Begun(0, [])

    names: dict[int, str] = {}

    def read_queued(without: Collection[int]) -> Sequence[int]:
        query, given = (_OTHERS, {"ids": lists.as_list(without)}) if without else (_QUEUED, {})
        found = {row.id: row.job for row in conn.execute(query.limit(limit), given)}
        names.update(found)
        return list(found)

    waiting = locks.first_free(read_queued, limit, partial(locked_sequences, conn))
    taken = _claim(conn, waiting.found)
    held = workers.put_back_held(conn, [row.id for row in taken]) if is_held else set()
    begun = sorted((row for row in taken if row.id not in held), key=lambda row: row.id)
    runs.record(conn, [Event(row.id, row.attempt, RunState.RUNNING, by, notify=row.notify) for row in begun])
    ended = conclude(conn, [row.id for row in begun], by)
    return Begun(len(begun), ended, {names[run_id] for run_id in waiting.locked})


def _claim(conn: sa.Connection, run_ids: Collection[int]) -> Sequence[Any]:
    """Begin those of these queued sequence runs that no other transaction has locked. Returns their rows as begun."""
    if not run_ids:
        return []
    engine = conn.dialect.name
    free = conn.execute(_FREE.where(lists.by_id(run.c.id, run_ids)).order_by(run.c.id)).scalars().all()
    if not free:
        return []
    given = {"p_worker_id": None, "p_worker": None, **rows.rows_parameter({"id": one} for one in free)}
    conn.execute(_begun(engine), given)
    return conn.execute(_BEGUN.where(lists.by_id(run.c.id, free)).order_by(run.c.id)).all()


_FREE = sa.select(run.c.id).with_hint(run, CLAIMING, "mssql").where(sa.text(f"state = '{RunState.QUEUED}'"))
_BEGUN = sa.select(run.c.id, run.c.attempt, run.c.notify).with_hint(run, FOUND_BY_KEY, "mssql")


@functools.cache
def _begun(engine: str) -> sa.Update:
    given = rows.rows_table(engine, id=BigId)
    return rows.by_primary_key(run.update().where(run.c.id == given.c.id).values(CLAIM_VALUES), run)


_QUEUED = (
    sa.select(run.c.id, run.c.job)
    .with_hint(run, PASS, "mssql")
    .where(sa.text(f"state = '{RunState.QUEUED}'"), run.c.queue == jobs.SEQUENCE_QUEUE)
    .order_by(run.c.priority.desc(), run.c.id)
)


_OTHERS = _QUEUED.where(run.c.id.not_in(sa.select(lists.ids().c.value)))

_child = run.alias("child")
_is_active = sa.text(f"child.state IN ({sql_literals(ACTIVE)})")
_of_sequence = _child.c.sequence_run_id == run.c.id
_of_visit = _child.c.visit_id == visit.c.id
_is_waiting = sa.and_(
    visit.c.result.is_(None),
    visit.c.waits_for.is_not(None),
    visit.c.decision.is_(None),
    sa.or_(visit.c.wake_at.is_(None), visit.c.wake_at > utcnow()),
)
_FINISHED = sa.and_(
    ~sa.exists().where(_of_sequence, _is_active),
    sa.or_(run.c.state == RunState.STOPPING, ~sa.exists().where(visit.c.run_id == run.c.id, _is_waiting)),
)
_UNDECIDED = sa.and_(
    run.c.state == RunState.RUNNING,
    sa.exists()
    .where(visit.c.run_id == run.c.id, visit.c.result.is_(None), ~_is_waiting)
    .where(
        sa.or_(
            ~sa.exists().where(_of_visit, _is_active),
            visit.c.proceed == "at_once",
            (visit.c.proceed == "when_any")
            & sa.exists().where(_of_visit, sa.text(f"child.state IN ({sql_literals(FINAL)})")),
        )
    ),
)
_count = sa.select(sa.func.count()).where(_of_visit).scalar_subquery()
_active_count = sa.select(sa.func.count()).where(_of_visit, _is_active).scalar_subquery()
_WITH_ROOM = sa.and_(
    run.c.state == RunState.RUNNING,
    sa.exists().where(
        visit.c.run_id == run.c.id,
        visit.c.result.is_(None),
        visit.c.refused.is_(None),
        visit.c.children > _count,
        visit.c.at_most > _active_count,
    ),
)
"""A step with ``for_each`` may start more runs: something that knows no sequences has ended one of them."""

_later = visit.alias("later")
_INTERRUPTED = sa.and_(
    run.c.state == RunState.RUNNING,
    sa.exists().where(
        visit.c.run_id == run.c.id,
        visit.c.goes_to == "step",
        ~sa.exists().where(_later.c.run_id == visit.c.run_id, _later.c.id > visit.c.id),
    ),
)
"""The next step is decided but not entered: one transaction has made as many moves as it may."""

_STOP_NOT_REQUESTED = sa.and_(
    run.c.state == RunState.STOPPING, sa.exists().where(_of_sequence, _is_active, _child.c.stop.is_(None))
)
STALLED = (
    sa.select(run.c.id, run.c.state, run.c.stop, run.c.stop_by)
    # No worker holds a running sequence, so the index of held runs finds all of them by ``worker_id``.
    .where(sa.text(f"run.state IN ({sql_literals(HELD)})"), run.c.worker_id.is_(None))
    .where(sa.or_(_FINISHED, _UNDECIDED, _WITH_ROOM, _INTERRUPTED, _STOP_NOT_REQUESTED))
)
"""Running sequences that do not wait for anything.

Either no job of the sequence is active and no step waits for a person or a time, or enough jobs ended to decide the
current visit but it is undecided, or a step with ``for_each`` may start more runs, or the next step is not entered yet,
or the sequence is stopping and the stop was not yet requested for one of its jobs.
"""


def sweep(conn: sa.Connection, by: str) -> list[Finished]:
    """Advance up to ``BATCH`` sequences that do not wait for anything. Returns those that ended.

    Any process may call it at any time. It finds nothing if all runs were ended by code that calls ``advance_after``.
    It is needed for runs that a DBA's statements or the T-SQL procedures ended, for runs that were replaced
    (``already_running: replace``), and for sequences that reached the limit of moves in one transaction.
    """
    found = {}

    def read(without: Collection[int]) -> Sequence[int]:
        without = {*without, *memory_of(conn).left_out()}
        some = conn.execute(STALLED.order_by(run.c.id).limit(BATCH + len(without)))
        found.update({row.id: row for row in some if row.id not in without})
        return [run_id for run_id in found if run_id not in without][:BATCH]

    stalled = [found[run_id] for run_id in _first_free(conn, read)]
    for row in stalled:
        if row.state == RunState.STOPPING:
            with guarded(conn, row.id):
                stop_jobs(conn, row.id, now=row.stop == Stop.NOW, by=row.stop_by or by)
    return conclude(conn, [row.id for row in stalled], by)


_RIPE = (
    sa.select(visit.c.run_id)
    .join(run, run.c.id == visit.c.run_id)
    .with_hint(visit, PASS, "mssql")
    .with_hint(run, PASS, "mssql")
    .where(sa.text(WAKES), visit.c.wake_at <= utcnow(), sa.text(f"run.state = '{RunState.RUNNING}'"))
    .order_by(visit.c.wake_at)
)
"""Running sequences whose step has waited long enough. One that is being stopped waits for its runs alone."""


def wake(conn: sa.Connection, by: str) -> int:
    """Advance up to ``BATCH`` sequences whose step has waited long enough. Returns how many there were."""

    def read(without: Collection[int]) -> Sequence[int]:
        without = {*without, *memory_of(conn).left_out()}
        found = conn.execute(_RIPE.limit(BATCH + len(without))).scalars()
        return [run_id for run_id in found if run_id not in without][:BATCH]

    ripe = _first_free(conn, read)
    conclude(conn, ripe, by)
    return len(ripe)


def _first_free(conn: sa.Connection, read: Callable[[Collection[int]], Sequence[int]]) -> Sequence[int]:
    """Return the first of these sequence runs whose locks are free, and take these."""
    return locks.first_free(read, BATCH, partial(locked_to_stop, conn)).found


def go_on(conn: sa.Connection, run_ids: Iterable[int], by: str) -> list[Finished]:
    """Advance ``BATCH`` sequences that an earlier transaction could not advance further. Returns those that ended."""
    every = sorted(run_ids)
    for run_id in every[BATCH:]:
        memory_of(conn).note_unfinished(run_id)
    found = every[:BATCH]
    locked = locked_to_stop(conn, found)  # the sweep finds these again
    return conclude(conn, [run_id for run_id in found if run_id not in locked], by)


_AHEAD = (
    sa.select(visit.c.id, visit.c.step, visit.c.waits_for, visit.c.entered_at, visit.c.wake_at)
    .add_columns(run.c.job, run.c.job_version, utcnow().label("now"))
    .join(run, run.c.id == visit.c.run_id)
    .with_hint(visit, PASS, "mssql")
    .with_hint(run, PASS, "mssql")
    .where(sa.text(WAKES), visit.c.entered_at > utcnow())
    .order_by(visit.c.id)
)
"""Steps that began to wait at a time that the clock has not reached yet."""

_TO_ASK = (
    sa.select(visit.c.id, visit.c.awaits, visit.c.look_at, utcnow().label("now"))
    .with_hint(visit, PASS, "mssql")
    .where(sa.text(ASKED), visit.c.look_at > utcnow())
    .order_by(visit.c.id)
)


def follow_clock(conn: sa.Connection) -> int:
    """After the database's clock was set back: let steps wait as long as they were to. Returns how many were moved.

    A step that waits until a time of day keeps it. An address that would be asked later than its interval allows is
    asked at once.
    """
    moved = 0
    for row in conn.execute(_AHEAD).all():
        if row.waits_for == Waiting.TIME and not _lasts(conn, row):
            continue
        times = {"wake_at": row.now + (row.wake_at - row.entered_at), "entered_at": row.now}
        change = visit.update().where(visit.c.id == row.id, visit.c.wake_at == row.wake_at, visit.c.result.is_(None))
        moved += conn.execute(change.values(times)).rowcount
    asked = visit.update().where(sa.text(ASKED))
    for row in conn.execute(_TO_ASK).all():
        if row.look_at - row.now > timedelta(seconds=json.loads(row.awaits)["every"]):
            conn.execute(asked.where(visit.c.id == row.id, visit.c.look_at == row.look_at).values(look_at=row.now))
    return moved


def _lasts(conn: sa.Connection, row: sa.Row[Any]) -> bool:
    """Whether the step waits for a duration, and not until a time of day."""
    try:
        sequence = jobs.load_version(conn, row.job, row.job_version)
    except DefinitionError:
        return False
    wait = step_of(sequence, row.step).wait if isinstance(sequence, Definition) else None
    return wait is not None and wait.duration is not None
