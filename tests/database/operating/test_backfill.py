"""Runs for due times that have passed: one each, a few at a time, below the normal priority."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import job_version, run, schedule
from jobfac.errors import NotFound, Refused, Unreachable
from jobfac.operations import jobs as job_operations
from jobfac.operations import starting
from jobfac.operations.bulk import backfill as operations
from jobfac.operations.bulk.backfill import BackfillRequest
from jobfac.operations.caller import Caller
from jobfac.states import Role, RunState
from jobfac.store import runs, schedules
from jobfac.store.schedules import backfilling
from jobfac.views.results.backfill import Backfill, BackfillResult
from tests.support.database import Hand, get, origin, states, together
from tests.support.tsql import execute

ANN = Caller("ann")
DAY = datetime(2026, 3, 2, tzinfo=UTC)
WEEK = BackfillRequest("load", DAY, DAY + timedelta(days=7))


def put(db: Database, **body: object) -> None:
    job_operations.put(db, ANN, "load", {"command": ["true"], "schedules": [{"cron": "0 6 * * *"}], **body})


def fill(db: Database, wanted: BackfillRequest = WEEK, dry_run: bool = False) -> Backfill:
    return operations.backfill(db, ANN, wanted, dry_run=dry_run)


def test_each_due_time_gets_one_run_however_often_it_is_asked_for(db: Database) -> None:
    put(db, priority=5)
    shown = fill(db, dry_run=True)
    assert [line.due_at for line in shown.items] == [DAY + timedelta(days=n, hours=6) for n in range(7)]
    assert {(line.result, line.run) for line in shown.items} == {(BackfillResult.CHOSEN, None)}
    few = fill(db, WEEK._replace(until=DAY + timedelta(days=3)))
    assert [line.result for line in few.items] == [BackfillResult.STARTED] * 3
    rest = fill(db)
    assert [line.result for line in rest.items] == [BackfillResult.EXISTS] * 3 + [BackfillResult.STARTED] * 4
    assert [line.run for line in rest.items[:3]] == [line.run for line in few.items]
    rows = [get(db, line.run) for line in rest.items if line.run]
    assert [row["due_at"] for row in rows] == [line.due_at for line in rest.items]
    assert {(row["priority"], row["created_by"]) for row in rows} == {(-95, "ann")}
    assert origin(db, rows[0]["id"]) == "backfill of a schedule by ann"
    assert {line.result for line in fill(db).items} == {BackfillResult.EXISTS}


def test_the_answer_says_when_the_job_was_defined_first(sqlite_url: str) -> None:
    """A mistake in the period would repeat what was done before there was the job."""
    db = Database(sqlite_url)
    put(db)
    with db.begin() as conn:
        conn.execute(job_version.update().values(created_at=DAY + timedelta(days=3)))
    put(db, priority=5)
    assert fill(db, dry_run=True).defined_at == fill(db).defined_at == DAY + timedelta(days=3)
    db.close()


def test_the_runs_of_a_deleted_job_are_not_those_of_another_job(db: Database) -> None:
    put(db)
    fill(db)
    job_operations.delete(db, ANN, "load")
    for name, more in (("plain", {}), ("jittered", {"jitter": "1s"})):
        body = {"command": ["true"], "schedules": [{"cron": "0 6 * * *", **more}]}
        job_operations.put(db, ANN, name, body)
        assert {line.result for line in fill(db, WEEK._replace(job=name)).items} == {BackfillResult.STARTED}
        job_operations.delete(db, ANN, name)


def test_an_outage_in_the_middle_says_how_many_were_started(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    put(db)
    insert = backfilling.insert

    def failing(conn: sa.Connection, definition: Any, times: Sequence[backfilling.DueTime], *more: Any) -> Any:
        if times[0].due_at.day == 4:
            raise Unreachable("The database went away.")
        return insert(conn, definition, times, *more)

    with monkeypatch.context() as patched:
        patched.setattr(operations, "TOGETHER", 1)
        patched.setattr(backfilling, "insert", failing)
        with pytest.raises(Unreachable, match="2 of 7 runs were started; the same request starts the other"):
            fill(db)
    assert [line.result for line in fill(db).items] == [BackfillResult.EXISTS] * 2 + [BackfillResult.STARTED] * 5


def test_only_so_many_run_at_a_time(db: Database) -> None:
    put(db)
    ids = [line.run or 0 for line in fill(db, WEEK._replace(at_most=2)).items]
    assert states(db, ids) == ["queued", "queued", *["blocked"] * 5]
    hand = Hand(db)
    for left in range(7, 0, -1):
        assert len([state for state in states(db, ids) if state in ("queued", "running")]) == min(2, left)
        hand.end(hand.take())
    assert states(db, ids) == ["succeeded"] * 7


@pytest.mark.parametrize("policy", ["deny", "queue", "replace"])
def test_a_job_that_runs_alone_is_caught_up_one_after_another(db: Database, policy: str) -> None:
    put(db, already_running=policy, concurrency={"key": "erp", "limit": 3})
    ids = [line.run or 0 for line in fill(db, WEEK._replace(at_most=2)).items]
    assert states(db, ids) == ["queued", *["blocked"] * 6]
    assert (get(db, ids[0])["concurrency_key"], get(db, ids[0])["concurrency_limit"]) == ("erp", 2)


@pytest.mark.parametrize("policy", ["deny", "replace"])
def test_a_retry_of_a_day_waits_like_the_others(db: Database, policy: str) -> None:
    put(db, already_running=policy)
    ids = [line.run or 0 for line in fill(db).items]
    hand = Hand(db)
    hand.end(hand.take(), RunState.FAILED)
    retries = [starting.retry(db, ANN, ids[0]).id]
    assert states(db, [*ids[:3], *retries]) == ["failed", "queued", "blocked", "blocked"]
    if db.dialect.name != "sqlite":
        db.transact(runs.request_stop, retries[0], now=False, by="me")
        retries.append(execute(db, "retry_run", run=ids[0]))
    row = get(db, retries[-1])
    assert (row["already_running"], row["concurrency_key"], row["concurrency_limit"]) == ("queue", "backfill load", 1)
    while claimed := hand.claim(1):
        hand.end(claimed[0])
    assert states(db, [*ids[1:], retries[-1]]) == ["succeeded"] * 7


def test_two_at_once_and_a_scheduler_start_no_time_twice(db: Database) -> None:
    put(db, schedules=[{"cron": "* * * * *", "missed": "all"}])
    with db.begin() as conn:
        past = utcnow(-600_000)
        conn.execute(schedule.update().values(next_due_at=past, fire_at=past))
        now = conn.execute(sa.select(utcnow())).scalar_one()
    wanted = BackfillRequest("load", now - timedelta(minutes=30), now)

    def work(number: int) -> object:
        return db.transact(schedules.insert_due, "s") if number == 2 else fill(db, wanted)

    together(3, work)
    with db.read() as conn:
        times = conn.execute(sa.select(run.c.due_at)).scalars().all()
    assert len(times) == len(set(times)) >= 30


def test_times_to_come_are_left_to_the_scheduler(db: Database) -> None:
    put(db)
    now = datetime.now(UTC)
    lines = fill(db, BackfillRequest("load", now - timedelta(days=2), now + timedelta(days=5))).items
    assert len(lines) == 2
    assert all(line.due_at <= now + timedelta(seconds=5) for line in lines)


def test_one_of_several_schedules_and_a_long_period_in_parts(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "MOST", 4)
    put(db, schedules=[{"cron": "0 6 * * *", "name": "early"}, {"cron": "0 6,18 * * *", "name": "twice"}])
    assert len(fill(db, WEEK._replace(name="early", until=DAY + timedelta(days=3))).items) == 3
    wanted, found = WEEK, []
    while True:
        page = fill(db, wanted)
        found += page.items
        if page.next_from is None:
            break
        wanted = wanted._replace(since=page.next_from)
    assert len(found) == 21
    assert sum(line.result is BackfillResult.EXISTS for line in found) == 3


def test_what_may_not_be_started_by_hand_is_caught_up_by_admins_alone(db: Database) -> None:
    put(db, on_demand=False)
    operator = replace(ANN, role=Role.OPERATOR)
    for dry_run in (True, False):
        with pytest.raises(Refused, match=r"its definition says on_demand: false. An admin may start what was missed"):
            operations.backfill(db, operator, WEEK, dry_run=dry_run)
    assert len(fill(db).items) == 7


def test_what_cannot_be_is_refused(db: Database) -> None:
    put(db)
    with pytest.raises(NotFound, match="no schedule 'none'"):
        fill(db, WEEK._replace(name="none"))
    with pytest.raises(NotFound, match="no job 'none'"):
        fill(db, WEEK._replace(job="none"))
    with pytest.raises(Refused, match="The period is empty"):
        fill(db, WEEK._replace(until=DAY))
    with pytest.raises(Refused, match="begins in the year 1; give a time in the year 1970 or later"):
        fill(db, WEEK._replace(since=datetime(1, 1, 1, tzinfo=UTC)))
    job_operations.disable(db, ANN, "load")
    with pytest.raises(Refused, match="is disabled"):
        fill(db)
    with pytest.raises(NotFound, match="no job 'load'"):
        operations.backfill(db, Caller("x", categories=("red",)), WEEK)
