"""Watch expectations: which jobs have not succeeded in time, and which have succeeded again."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import PASS, SKIP, utcnow
from jobfac.database.tables import expectation, job, run
from jobfac.database.types import BigId, sql_literals
from jobfac.definitions.execution.watching import Expect
from jobfac.recurrence import expected
from jobfac.recurrence.expected import Expectation, Success
from jobfac.states import RunState
from jobfac.store import expectations, outbox
from jobfac.store.history.recovery import DUE, has_worked
from jobfac.store.outbox import OutboxEvent
from jobfac.store.runs.subscribers import JUDGED
from jobfac.store.schedules.decision import UNUSABLE
from jobfac.store.schedules.inserting import Refusal
from jobfac.views.jobs import OverdueView
from jobfac.views.serialization import as_json

LAST_ID = 2**63 - 1
"""No run has a higher id."""

BATCH = 100
"""The maximum number of jobs that one transaction watches."""

PAGE = 500
"""How many of a job's ended runs one statement reads."""

PAGES = 100
"""How many pages are searched at most for a success in time. Of an overdue job only the first one is, at each look."""

_enabled = sa.select(job.c.enabled).where(job.c.id == expectation.c.job).scalar_subquery()
_TO_WATCH = (
    sa.select(expectation, utcnow().label("now"), _enabled.label("enabled"))
    .with_hint(expectation, SKIP, "mssql")
    .where(sa.or_(expectation.c.due_at <= utcnow(), expectation.c.overdue_at.is_not(None)))
    .where(expectation.c.job > sa.bindparam("p_after"))
    .order_by(expectation.c.job)
)

# Other origins may hold the outputs of the run that triggered this one.
_ORIGIN = sa.case((run.c.due_at.is_(None), run.c.origin)).label("origin")
_HAS_WORKED = sa.case((has_worked(), 1), else_=0).label("has_worked")
_ENDED = (
    # Without PASS: a success whose row somebody is just writing, perhaps to count it, would not be seen.
    sa.select(run.c.id, run.c.state, run.c.ended_at, run.c.due_at, _ORIGIN, _HAS_WORKED)
    .where(run.c.job == sa.bindparam("p_job"), run.c.id < sa.bindparam("p_below", type_=BigId))
    .where(sa.text(f"run.state IN ({sql_literals(JUDGED)})"))
    .order_by(run.c.id.desc())
)


class Watched(NamedTuple):
    """How many jobs changed, and after which job the next call continues; empty: there are no more.

    ``unread``: the expectations that cannot be read here.
    """

    changed: int
    last: str
    unread: list[Refusal]


def watch(conn: sa.Connection, after: str = "") -> Watched:
    """Look at the jobs whose success is due now, and at those that are overdue: ``BATCH`` of them, after a name.

    The jobs that stay overdue must not hide the others. Records the event ``overdue`` once for each delay, and
    ``on_time_again`` when the success has come: both of a delay that began and ended while nobody looked.
    """
    changed = 0
    events: list[OutboxEvent] = []
    unread: list[Refusal] = []
    found = conn.execute(_TO_WATCH.limit(BATCH), {"p_after": after}).mappings().all()
    for row in found:
        before = Expectation(row["since"], row["due_at"], row["overdue_at"], row["overdue_due_at"])
        expect, is_enabled = _read(row["definition"]), bool(row["enabled"])
        if isinstance(expect, Exception):
            unread.append(Refusal(row["job"], "expect", None, f"it cannot be watched here: {expect}"))
            continue
        successes = _successes(conn, row["job"], expect, before)
        state, news = expected.advance(expect, before, row["now"], successes, is_enabled)
        if state == before:
            continue
        changed += 1
        _write_state(conn, row["job"], state)
        events += _told(row["job"], before.missed_at, row["now"], news)
    outbox.record(conn, events)
    return Watched(changed, found[-1]["job"] if len(found) == BATCH else "", unread)


def _read(text: str) -> Expect | Exception:
    """Return an expectation, or why it cannot be read. A newer scheduler may watch it, and the others must not wait."""
    try:
        return expectations.read(text)
    except UNUSABLE as error:
        return error


def _successes(conn: sa.Connection, job_id: str, expect: Expect, before: Expectation) -> list[Success]:
    """Return the job's latest successes in the order of their ends: back to one in time, or to the expectation's begin.

    After a success there may be thousands of runs that failed, were denied or have not ended.
    """
    found: list[Success] = []
    below = LAST_ID
    for _ in range(PAGES if before.missed_at is None else 1):
        page = conn.execute(_ENDED.limit(PAGE), {"p_job": job_id, "p_below": below}).all()
        found += [Success(row.ended_at, _due(row)) for row in page if _counts(row)]
        in_time = (one for one in found if before.since < one.ended <= before.due_at)
        is_met = any(expected.counts(expect, before, one) for one in in_time)
        if is_met or len(page) < PAGE or all(row.ended_at <= before.since for row in page):
            break
        below = page[-1].id
    return sorted(found, key=lambda one: one.ended)


def _counts(row: Any) -> bool:
    return row.state == RunState.SUCCEEDED and bool(row.has_worked)


def _due(row: Any) -> datetime | None:
    """Return the due time for which a run stands: its own, or that of the run that it retries or of its sequence."""
    due = None if row.origin is None else json.loads(row.origin).get(DUE)
    return row.due_at if due is None else datetime.fromisoformat(due).replace(tzinfo=UTC)


def follow_clock(conn: sa.Connection) -> int:
    """After the database's clock was set back: expect successes by the clock as it is now.

    A job that succeeded while the clock was ahead would not be watched until the clock comes to that time again.
    Returns the number of jobs.
    """
    ahead = sa.select(expectation, utcnow().label("now")).with_hint(expectation, PASS, "mssql")
    found = conn.execute(ahead.where(expectation.c.since > utcnow())).mappings().all()
    for row in found:
        if isinstance(expect := _read(row["definition"]), Exception):
            continue
        state = expected.begin_again(expect, row["now"])
        if row["overdue_at"] is not None:
            state = state._replace(overdue_at=row["overdue_at"], missed_at=row["overdue_due_at"])
        _write_state(conn, row["job"], state)
    return len(found)


def _write_state(conn: sa.Connection, job_id: str, state: Expectation) -> None:
    change = expectation.update().where(expectation.c.job == job_id)
    overdue = {"overdue_at": state.overdue_at, "overdue_due_at": state.missed_at}
    conn.execute(change.values(since=state.since, due_at=state.due_at, **overdue))


def _told(
    job_id: str, missed_at: datetime | None, now: datetime, news: Sequence[expected.Event]
) -> Iterator[OutboxEvent]:
    """Yield the events to record. ``missed_at``: that of the delay that people were told of."""
    for event in news:
        if event.kind == "overdue":
            missed_at = event.at
            yield _overdue(job_id, OverdueView(job_id, event.at, now, event.since))
        else:
            assert missed_at is not None
            yield _on_time_again(job_id, missed_at, event.at)


def _on_time_again(job_id: str, missed_at: datetime, success_at: datetime) -> OutboxEvent:
    why = f"it succeeded at {_second(success_at)}, and should have by {_second(missed_at)}"
    body = {"job": job_id, "since": missed_at.isoformat(), "until": success_at.isoformat()}
    return OutboxEvent(job_id, "on_time_again", body, detail=why)


def _overdue(job_id: str, view: OverdueView) -> OutboxEvent:
    why = f"it has not succeeded since {_second(view.since)}, and should have by {_second(view.due_at)}"
    return OutboxEvent(job_id, "overdue", as_json(view), detail=why)


def _second(moment: datetime) -> str:
    """A time in a sentence."""
    return moment.isoformat(" ", "seconds")
