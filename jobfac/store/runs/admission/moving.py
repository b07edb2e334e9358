"""Admit runs, one or many: read what the decision needs, decide, and change their state."""

import functools
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from jobfac.database import locks
from jobfac.database.dialects import CLAIMING, rows, utcnow
from jobfac.database.tables import run
from jobfac.database.types import BigId, sql_literals
from jobfac.states import OCCUPYING, RunState
from jobfac.store.runs.admission.rules import (
    BATCH,
    GIVES_WAY,
    IS_ACTIVE,
    IS_BETWEEN_ATTEMPTS,
    IS_BLOCKED,
    UNDER_WAY,
    Candidate,
    decide,
    names_of,
)
from jobfac.store.runs.event import Event
from jobfac.store.runs.events import record

_OCCUPYING = sa.text(f"state IN ({sql_literals(OCCUPYING)})")


def admit(conn: sa.Connection, candidate: Candidate) -> RunState:
    """Decide about one run. The caller must hold its named locks."""
    if not candidate.rule.has_limits:
        return RunState.QUEUED
    is_denied, has_others = (False, False) if candidate.already_running == "start" else _others_of_job(conn, candidate)
    return decide(
        candidate.already_running,
        is_denied=is_denied,
        has_others_of_job=has_others,
        others_of_key=_others_of_key(conn, candidate) if candidate.concurrency_key else 0,
        limit=candidate.concurrency_limit,
        retrying=candidate.attempt > 0,
    )


def goes_behind(conn: sa.Connection, candidate: Candidate) -> bool:
    """Whether a run that queues, and that nothing else keeps, goes behind blocked runs of its job.

    They wait for somebody who admits them, as when their hold has just ended. The next call of ``release_blocked`` then
    keeps the order.
    """
    if candidate.already_running != "queue" or candidate.attempt > 0:
        return False
    others = sa.exists().where(IS_ACTIVE, IS_BLOCKED, run.c.job == candidate.job, run.c.id != candidate.id)
    return bool(conn.execute(sa.select(sa.case((others, 1), else_=0))).scalar_one())


def on_entry(state: RunState) -> dict[str, Any]:
    """Return the other columns that change when a run enters the state that ``admit`` decided."""
    if state == RunState.QUEUED:
        return {"queued_at": utcnow()}
    if state == RunState.DENIED:
        return {"ended_at": utcnow(), "reason": "another run of the job is still active"}
    return {}


def _others_of_job(conn: sa.Connection, candidate: Candidate) -> tuple[bool, bool]:
    """Return ``is_denied`` and ``has_others_of_job`` as ``decide`` takes them."""
    others = sa.exists().where(IS_ACTIVE, run.c.job == candidate.job, run.c.id != candidate.id)
    # State by state: SQLite would read all runs of the job that wait, since the index has them, too.
    each = [others.where(sa.text(f"state = '{state}'")) for state in sorted(OCCUPYING)]
    if candidate.already_running == "queue" and candidate.attempt == 0:
        each.append(others.where(IS_BETWEEN_ATTEMPTS))
    asked = [sa.or_(*each)]
    if candidate.already_running == "deny" and candidate.attempt == 0:
        asked.append(others.where(UNDER_WAY, GIVES_WAY))
    has_others, *is_denied = conn.execute(sa.select(*(sa.case((one, 1), else_=0) for one in asked))).one()
    return any(is_denied), bool(has_others)


def _others_of_key(conn: sa.Connection, candidate: Candidate) -> int:
    query = sa.select(sa.func.count()).where(
        run.c.concurrency_key == candidate.concurrency_key, _OCCUPYING, run.c.id != candidate.id
    )
    return conn.execute(query).scalar_one()


def move_free(conn: sa.Connection, candidates: Sequence[Candidate], before: RunState, by: str) -> int:
    """Call ``move`` for the runs whose named locks are free or already held by this transaction."""
    held = set(locks.take_free(conn, names_of(candidate.rule for candidate in candidates)))
    return move(conn, [candidate for candidate in candidates if candidate.rule.names <= held], before, by)


def move(conn: sa.Connection, candidates: Iterable[Candidate], before: RunState, by: str) -> int:
    """Move runs from the state ``before`` to the state that admission decides. Returns the number of moved runs.

    Skips runs that are no longer in ``before``. The caller must hold the named locks of their rules.
    """
    candidates = list(candidates)
    plain = [candidate for candidate in candidates if not candidate.rule.has_limits]
    queued = change_state(conn, [candidate.id for candidate in plain], before, RunState.QUEUED)
    moved = [_moved(candidate, RunState.QUEUED, by) for candidate in plain if candidate.id in queued]
    closed: set[Candidate] = set()
    # One by one: each decision must see the one before it.
    for candidate in candidates:
        if not candidate.rule.has_limits:
            continue
        alike = candidate._replace(id=0, notify=None)
        if alike in closed:
            continue
        after = admit(conn, candidate)
        if before == RunState.SCHEDULED and after == RunState.QUEUED and goes_behind(conn, candidate):
            after = RunState.BLOCKED  # until the scheduler's next look at blocked runs
        if after == before:
            closed.add(alike)  # other runs for which the same decision would be made must wait too
            continue
        change = run.update().where(run.c.id == candidate.id, run.c.state == before)
        if conn.execute(change.values({"state": after, **on_entry(after)})).rowcount:
            moved.append(_moved(candidate, after, by))
    record(conn, moved)
    return len(moved)


def _moved(candidate: Candidate, after: RunState, by: str) -> Event:
    return Event(candidate.id, candidate.attempt, after, by, notify=candidate.notify)


def change_state(conn: sa.Connection, run_ids: Collection[int], before: RunState, after: RunState) -> set[int]:
    """Move up to ``BATCH`` runs that depend on no other run from one waiting state to another, in one statement.

    Returns the ids of the moved runs. Passes over runs that are no longer in ``before`` or that another transaction has
    locked.
    """
    if not run_ids:
        return set()
    engine, given = conn.dialect.name, [{"id": run_id} for run_id in sorted(run_ids)]
    locked = {row.id for row in conn.execute(_locked(engine, before), rows.rows_parameter(given))}
    if locked:
        conn.execute(_changed(engine, after), rows.rows_parameter({"id": run_id} for run_id in sorted(locked)))
    return locked


@functools.cache
def _locked(engine: str, before: RunState) -> sa.Select[tuple[int]]:
    given = rows.rows_table(engine, id=BigId)
    query = sa.select(run.c.id).with_hint(run, CLAIMING, "mssql")
    these = (run.c.id == given.c.id, sa.text(f"run.state = '{before}'"))
    return query.where(*these).order_by(run.c.id).limit(BATCH)


@functools.cache
def _changed(engine: str, after: RunState) -> sa.Update:
    given = rows.rows_table(engine, id=BigId)
    change = run.update().where(run.c.id == given.c.id).values({"state": after, **on_entry(after)})
    return rows.by_primary_key(change, run)
