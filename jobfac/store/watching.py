"""Watch expectations: which jobs have not succeeded in time, and which have succeeded again."""

from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import PASS, SKIP, utcnow
from jobfac.database.tables import expectation, job, run
from jobfac.database.types import sql_literals
from jobfac.recurrence import expected
from jobfac.recurrence.expected import Expectation
from jobfac.states import RunState
from jobfac.store import expectations, outbox
from jobfac.store.outbox import OutboxEvent
from jobfac.store.runs.subscribers import JUDGED
from jobfac.views.jobs import OverdueView
from jobfac.views.serialization import as_json

BATCH = 100
"""The maximum number of jobs that one transaction watches."""

LATEST = 200
"""How many of a job's latest runs are searched for its successes: of those that show whether the job works. Hundreds of
others may be newer: starts that were denied while it ran, or that wait for it."""

_enabled = sa.select(job.c.enabled).where(job.c.id == expectation.c.job).scalar_subquery()
_TO_WATCH = (
    sa.select(expectation, utcnow().label("now"), _enabled.label("enabled"))
    .with_hint(expectation, SKIP, "mssql")
    .where(sa.or_(expectation.c.due_at <= utcnow(), expectation.c.overdue_at.is_not(None)))
    .where(expectation.c.job > sa.bindparam("p_after"))
    .order_by(expectation.c.job)
)

_runs = (
    # Without PASS: a success whose row somebody is just writing, perhaps to count it, would not be seen.
    sa.select(run.c.state, run.c.ended_at)
    .where(run.c.job == sa.bindparam("p_job"), sa.text(f"run.state IN ({sql_literals(JUDGED)})"))
    .order_by(run.c.id.desc())
    .limit(LATEST)
    .subquery("latest")
)
_SUCCESSES = sa.select(_runs.c.ended_at).where(_runs.c.state == RunState.SUCCEEDED).order_by(_runs.c.ended_at)


class Watched(NamedTuple):
    """How many jobs changed, and after which job the next call continues; empty: there are no more."""

    changed: int
    last: str


def watch(conn: sa.Connection, after: str = "") -> Watched:
    """Look at the jobs whose success is due now, and at those that are overdue: ``BATCH`` of them, after a name.

    The jobs that stay overdue must not hide the others. Records the event ``overdue`` once for each delay, and
    ``on_time_again`` when the success has come.
    """
    changed = 0
    events = []
    found = conn.execute(_TO_WATCH.limit(BATCH), {"p_after": after}).mappings().all()
    for row in found:
        successes = conn.execute(_SUCCESSES, {"p_job": row["job"]}).scalars().all()
        before = Expectation(row["since"], row["due_at"], row["overdue_at"], row["overdue_due_at"])
        expect, is_enabled = expectations.read(row["definition"]), bool(row["enabled"])
        state, event = expected.advance(expect, before, row["now"], successes, is_enabled)
        if state == before:
            continue
        changed += 1
        _write_state(conn, row["job"], state)
        if event is None:
            continue
        if event.kind == "overdue":
            events.append(_overdue(row["job"], state))
        else:
            events.append(_on_time_again(row["job"], before, event.at))
    outbox.record(conn, events)
    return Watched(changed, found[-1]["job"] if len(found) == BATCH else "")


def follow_clock(conn: sa.Connection) -> int:
    """After the database's clock was set back: expect successes by the clock as it is now.

    A job that succeeded while the clock was ahead would not be watched until the clock comes to that time again.
    Returns the number of jobs.
    """
    ahead = sa.select(expectation, utcnow().label("now")).with_hint(expectation, PASS, "mssql")
    found = conn.execute(ahead.where(expectation.c.since > utcnow())).mappings().all()
    for row in found:
        state = expected.begin(expectations.read(row["definition"]), row["now"])
        if row["overdue_at"] is not None:
            state = state._replace(overdue_at=row["overdue_at"], missed_at=row["overdue_due_at"])
        _write_state(conn, row["job"], state)
    return len(found)


def _write_state(conn: sa.Connection, job_id: str, state: Expectation) -> None:
    change = expectation.update().where(expectation.c.job == job_id)
    overdue = {"overdue_at": state.overdue_at, "overdue_due_at": state.missed_at}
    conn.execute(change.values(since=state.since, due_at=state.due_at, **overdue))


def _on_time_again(job_id: str, before: Expectation, success_at: datetime) -> OutboxEvent:
    assert before.missed_at is not None
    why = f"it succeeded at {success_at.isoformat()}, and should have by {before.missed_at.isoformat()}"
    body = {"job": job_id, "since": before.missed_at.isoformat(), "until": success_at.isoformat()}
    return OutboxEvent(job_id, "on_time_again", body, detail=why)


def _overdue(job_id: str, state: Expectation) -> OutboxEvent:
    assert state.missed_at is not None
    assert state.overdue_at is not None
    view = OverdueView(job_id, state.missed_at, state.overdue_at, state.since)
    why = f"it has not succeeded since {state.since.isoformat()}, and should have by {state.missed_at.isoformat()}"
    return OutboxEvent(job_id, "overdue", as_json(view), detail=why)
