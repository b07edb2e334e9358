"""Sequences under way: begun, advanced in the transaction in which one of their jobs ended, swept after a crash.

**Locks.** A sequence is advanced under a lock on its run's row, so that two jobs that end at the same moment advance it
once: the second one waits and then sees what the first did. Rows are locked from the outermost sequence inwards and
before the rows of their jobs; where that cannot be, a deadlock ends one transaction, which is tried again as a whole.
"""

from collections.abc import Iterable

import sqlalchemy as sa

from jobfac.database.dialects import LOCKED_BY_KEY, of
from jobfac.database.tables import run
from jobfac.definitions import DefinitionError
from jobfac.definitions import Sequence as Definition
from jobfac.states import HELD, RunState
from jobfac.store import jobs, runs, workers
from jobfac.store.runs import Finished
from jobfac.store.runs.event import Event
from jobfac.store.runs.finish import POISON_ATTEMPTS
from jobfac.store.sequences import visits
from jobfac.store.sequences.decide import Enter, Leave, decide, outcome
from jobfac.store.sequences.stepping import Course, enter

BEGINNINGS = 20
"""Sequences begun in one transaction at most."""

MOVES = 50
"""Steps that one sequence takes in one transaction at most; the sweep goes on with those that wait for nothing."""


def begin_queued(conn: sa.Connection, by: str, limit: int = BEGINNINGS) -> list[Finished]:
    """Begin up to ``limit`` queued sequence runs, highest priority first; returns the sequences that ended by it."""
    nobody = {"p_queue": jobs.SEQUENCE_QUEUE, "p_worker_id": None, "p_worker": None}
    begun = sorted(conn.execute(of(conn).claim(limit), nobody).mappings(), key=lambda row: row["id"])
    runs.record(conn, [Event(row["id"], row["attempt"], RunState.RUNNING, by, notify=row["notify"]) for row in begun])
    return advance_all(conn, [row["id"] for row in begun], by)


def settle(conn: sa.Connection, finished: Iterable[Finished], by: str) -> list[Finished]:
    """Advance the sequences of runs that have just ended, in the same transaction; returns the sequences that ended."""
    return advance_all(conn, [one.sequence_run_id for one in finished if one.sequence_run_id is not None], by)


def expire(
    conn: sa.Connection,
    by: str,
    only: int | None = None,
    finished: Iterable[Finished] = (),
    poison_attempts: int = POISON_ATTEMPTS,
) -> workers.Expiry:
    """``leases.expire`` with what follows from it: the sequences of its runs, and of ``finished``, go on."""
    expiry = workers.expire(conn, by, only, poison_attempts)
    settle(conn, [*finished, *expiry.finished], by)
    return expiry


def lock(conn: sa.Connection, run_ids: Iterable[int]) -> None:
    """Lock these sequence runs and those that contain them. To be called before the rows of their jobs are changed."""
    chain: set[int] = set()
    found = set(run_ids)
    while found:
        chain |= found
        parents = sa.select(run.c.sequence_run_id).where(run.c.id.in_(found), run.c.sequence_run_id.is_not(None))
        found = set(conn.execute(parents).scalars()) - chain
    if chain:
        rows = sa.select(run.c.id).with_hint(run, LOCKED_BY_KEY, "mssql").where(run.c.id.in_(chain))
        conn.execute(rows.order_by(run.c.id)).all()


def advance_all(conn: sa.Connection, run_ids: Iterable[int], by: str) -> list[Finished]:
    """Advance these sequence runs, and those that contain one that ends by it; returns the ones that ended."""
    waiting = set(run_ids)
    lock(conn, waiting)
    ended: list[Finished] = []
    while waiting:
        innermost = max(waiting)  # what is contained in a sequence was started after it
        waiting.remove(innermost)
        over = _advance(conn, innermost, by)
        if over is not None:
            ended.append(over)
            if over.sequence_run_id is not None:
                waiting.add(over.sequence_run_id)
    return ended


_RUN = (
    run.c.id,
    run.c.job,
    run.c.job_version,
    run.c.state,
    run.c.stop_by,
    run.c.priority,
    run.c.overrides,
    run.c.notify_jobs,
    run.c.retry_of,
)


def _advance(conn: sa.Connection, run_id: int, by: str) -> Finished | None:
    """Take one locked sequence run as far as it goes. Nothing happens where nothing is to be decided."""
    row = conn.execute(sa.select(*_RUN).where(run.c.id == run_id)).first()
    if row is None or row.state not in HELD:
        return None
    if row.state == RunState.STOPPING:
        if visits.is_busy(conn, run_id):
            return None
        return runs.end(conn, run_id, RunState.STOPPED, f"stopped by {row.stop_by}", by)
    try:
        sequence = jobs.load_version(conn, row.job, row.job_version)
    except DefinitionError as error:
        return runs.end(conn, run_id, RunState.FAILED, f"its definition cannot be read: {error}", by)
    assert isinstance(sequence, Definition)
    return _move(conn, Course(row, sequence, by))


def _move(conn: sa.Connection, course: Course) -> Finished | None:
    place = visits.last(conn, course.run_id)
    for _ in range(MOVES):
        goal = place.visit.to.step if place is not None and place.visit.to is not None else None
        entered = 0 if goal is None else visits.count(conn, course.run_id, goal)
        match decide(course.sequence, place.visit if place else None, entered, course.first):
            case None:
                return None
            case Enter(step):
                enter(conn, course, step, entered + 1)
                place = visits.last(conn, course.run_id)
            case Leave() as left:
                assert place is not None
                visits.leave(conn, place.id, left)
                place = place._replace(visit=place.visit._replace(result=left.result, to=left.to))
            case finish:
                if visits.is_busy(conn, course.run_id):
                    return None
                state, reason = outcome(finish, visits.all_of(conn, course.run_id))
                return runs.end(conn, course.run_id, state, reason, course.by)
    return None
