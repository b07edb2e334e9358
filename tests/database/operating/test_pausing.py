"""Schedules that pause after failures in a row, and what a job usually takes."""

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database import locks
from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import audit, outbox_event, run, schedule, visit
from jobfac.operations import approvals, holds, stopping
from jobfac.operations.bulk.backfill import BackfillRequest, backfill
from jobfac.operations.caller import Caller
from jobfac.operations.starting import retry
from jobfac.states import Role, RunState
from jobfac.store import jobs, runs, schedules, sequences, statistics
from jobfac.store.holds.placing import Scope
from jobfac.store.runs import Outcome
from jobfac.store.workers import Claimed
from jobfac.worker.executions.deliveries import Deliveries
from jobfac.worker.turn import Turn, TurnRequest
from tests.support.database import Hand, being_written, start, state
from tests.support.engines import DRIVERS
from tests.support.sequences import Player, children

S, F, T, L, X = RunState.SUCCEEDED, RunState.FAILED, RunState.TIMED_OUT, RunState.LOST, RunState.STOPPED


ME = Caller("me", role=Role.OPERATOR)


def define(db: Database, **jobs: dict[str, Any]) -> None:
    bodies = {job: body if "steps" in body else {"command": ["x"], **body} for job, body in jobs.items()}
    wanted = d.from_data({"jobs": bodies}).jobs
    for job, definition in wanted.items():
        db.transact(schedules.put, job, definition, "me")


def ends(db: Database, hand: Hand, *states: RunState, job: str = "a") -> list[list[str]]:
    """Let runs end so, one after the other; which jobs each of them paused."""
    paused = []
    for how in states:
        start(db, job)
        (claimed,) = hand.claim()
        finished = hand.end(claimed, how)
        paused.append(db.transact(schedules.pause_failing, finished))
    return paused


EVERY = {"schedules": [{"cron": "0 6 * * *"}, {"cron": "0 7 * * *", "name": "late"}]}
TOLD = {"notify": [{"on": "paused", "to": {"email": "ops@example.org"}}]}


def test_after_so_many_failures_in_a_row_its_schedules_pause_and_somebody_is_told(db: Database) -> None:
    define(db, a={"pause_after": 3, **EVERY, **TOLD}, b={**EVERY})
    hand = Hand(db)
    assert ends(db, hand, F, F, S, F, T, X, L, F) == [[], [], [], [], [], [], ["a"], []]
    with db.read() as conn:
        paused = conn.execute(sa.select(schedule.c.job).where(schedule.c.paused == sa.true())).scalars().all()
        (item,) = conn.execute(sa.select(outbox_event)).all()
        noted = conn.execute(sa.select(audit.c.by, audit.c.subject).where(audit.c.action == "pause")).all()
    assert paused == ["a", "a"]
    assert (item.job, item.event, item.detail) == ("a", "paused", "it has failed 3 times in a row")
    assert [tuple(row) for row in noted] == [("pause_after", "a/1"), ("pause_after", "a/late")]
    assert ends(db, hand, F, F, F, F, job="b") == [[]] * 4
    db.transact(schedules.resume, "a", None, "me")
    assert ends(db, hand, F, F, F) == [[], [], ["a"]], "it counts anew after it was resumed"


def test_a_due_time_under_a_hold_does_not_begin_the_count_anew(db: Database) -> None:
    define(db, a={"pause_after": 2, **EVERY})
    hand = Hand(db)
    assert ends(db, hand, F) == [[]]
    placed = holds.hold(db, ME, Scope(job="a"), "maintenance")
    with db.begin() as conn:
        conn.execute(schedule.update().values(next_due_at=utcnow(-2000), fire_at=utcnow(-1000)))
    db.transact(schedules.insert_due, "s1")
    with db.read() as conn:
        assert conn.execute(sa.select(sa.func.count(schedule.c.resumed_at))).scalar_one() > 0, "it was put off"
    holds.release(db, ME, placed.id)
    assert ends(db, hand, F) == [["a"]]


@pytest.mark.parametrize("url", ["sqlite", "pyodbc"], indirect=True)
@pytest.mark.parametrize("limit", [{}, {"concurrency": {"key": "own", "limit": 3}}])
def test_runs_of_a_backfill_neither_pause_its_schedules_nor_hide_its_failures(
    db: Database, limit: dict[str, Any]
) -> None:
    define(db, a={"pause_after": 2, **EVERY, **limit})
    hand = Hand(db)
    assert ends(db, hand, F) == [[]]
    day = datetime(2026, 3, 2, tzinfo=UTC)
    found = backfill(db, ME, BackfillRequest("a", day, day + timedelta(days=3), "late", 3))
    for how in (F, F, S):
        finished = hand.end(hand.take(), how)
        assert db.transact(schedules.pause_failing, finished) == [], "of days that have passed"
    retry(db, ME, next(line.run for line in found.items if line.run))
    assert db.transact(schedules.pause_failing, hand.end(hand.take(), F)) == [], "nor does a retry of one"
    assert ends(db, hand, F) == [["a"]]


def test_starts_by_hand_that_begin_nothing_do_not_count(db: Database) -> None:
    """Over T-SQL an application may give wrong values, and the worker refuses them."""
    define(db, a={"pause_after": 2, **EVERY})
    hand = Hand(db)
    assert ends(db, hand, F, RunState.START_FAILED, RunState.START_FAILED) == [[], [], []]
    with db.begin() as conn:
        last = conn.execute(sa.select(sa.func.max(run.c.id))).scalar_one()
        some = conn.execute(sa.select(sa.func.min(schedule.c.id))).scalar_one()
        conn.execute(run.update().where(run.c.id == last).values(schedule_id=some))
    assert ends(db, hand, F) == [["a"]], "those of a schedule do"


def test_failures_that_are_stored_at_the_same_time_are_counted_together(db: Database) -> None:
    define(db, a={"pause_after": 2, **EVERY})
    hand = Hand(db)
    start(db, "a")
    start(db, "a")
    one, other = hand.claim()

    def fail(conn: sa.Connection, claimed: Claimed) -> list[str]:
        finished = runs.finish(conn, hand.id, [Outcome(claimed.id, claimed.attempt, F)], "w1")
        return schedules.pause_failing(conn, finished)

    waits = threading.Event()
    db.on_retry.append(waits.set)
    with ThreadPoolExecutor(1) as pool:
        with db.begin() as conn:
            assert fail(conn, one) == []
            late = pool.submit(db.transact, fail, other)
            late.add_done_callback(lambda _: waits.set())
            waits.wait(0.5)  # SQLite's second writer waits without a retry
        assert late.result(30) == ["a"]


@pytest.mark.parametrize("url", DRIVERS, indirect=True)
def test_a_turn_with_a_failure_waits_for_another_one_and_is_not_repeated(db: Database) -> None:
    define(db, a={"pause_after": 2, **EVERY})
    hand = Hand(db)
    start(db, "a")
    failed = hand.take()
    outcome = Outcome(failed.id, failed.attempt, F, rule=failed.rule)
    request = TurnRequest(hand.id, hand.name, {}, False, 0, 0, Deliveries([], [], [], [outcome], {}, [], {}, []))
    known: dict[Any, Any] = {("a", 1): db.query(jobs.load_version, "a", 1)}
    retries: list[int] = []
    waits = threading.Event()

    def listen(conn: Any, cursor: Any, statement: str, *more: Any) -> None:
        if "sp_getapplock" in statement:
            waits.set()

    with ThreadPoolExecutor(1) as pool, db.begin() as conn:
        locks.take(conn, schedules.failure_locks(conn, ["a"]))
        db.on_retry.append(lambda: retries.append(1))
        sa.event.listen(db.engine, "before_cursor_execute", listen)
        late = pool.submit(db.transact, Turn(request, known).take)
        assert waits.wait(30)
        wait([late], 0.5)  # a turn that does not wait for the lock is repeated meanwhile
        conn.commit()
        late.result(30)
    assert (state(db, failed.id), retries) == ("failed", [])


@pytest.mark.parametrize("url", DRIVERS, indirect=True)
def test_a_failure_of_a_job_whose_schedules_are_paused_waits_for_nobody(db: Database) -> None:
    define(db, a={"pause_after": 1, **EVERY})
    hand = Hand(db)
    with db.read() as conn:
        names = schedules.failure_locks(conn, ["a"])
    assert ends(db, hand, F) == [["a"]]
    db.on_retry.append(lambda: pytest.fail("it was repeated"))
    with db.begin() as conn:
        locks.take(conn, names)
        assert ends(db, hand, F) == [[]]


def test_a_success_that_is_just_being_counted_is_a_success(db: Database) -> None:
    define(db, a={"pause_after": 2, **EVERY})
    hand = Hand(db)
    ends(db, hand, F, S)
    with db.read() as conn:
        success = conn.execute(sa.select(run.c.id).where(run.c.state == S)).scalar_one()
    with being_written(db, success):
        assert ends(db, hand, F) == [[]]
    assert ends(db, hand, F) == [["a"]]


def test_a_job_without_schedules_has_nothing_to_pause(db: Database) -> None:
    define(db, a={"pause_after": 1})
    assert ends(db, Hand(db), F) == [[]]


def test_a_worker_that_dies_counts_as_a_failure(db: Database) -> None:
    define(db, a={"pause_after": 1, "restartable": False, **EVERY})
    hand = Hand(db)
    start(db, "a")
    hand.claim()
    hand.lapse()
    db.transact(sequences.expire, "sweeper")
    with db.read() as conn:
        assert set(conn.execute(sa.select(schedule.c.paused)).scalars()) == {True}


def test_a_sequence_that_fails_by_a_decision_a_time_limit_or_a_stop_counts(db: Database) -> None:
    ends = {"pause_after": 1, **EVERY}
    ask = {"name": "ask", "approve": {"timeout": "1h"}}
    define(
        db,
        a={},
        rejected={"steps": [ask], **ends},
        expired={"steps": [ask], **ends},
        broken={"steps": [{"name": "one", "jobs": ["a"]}], **ends},
    )
    player = Player(db)
    rejected, _, broken = (start(db, job) for job in ("rejected", "expired", "broken"))
    player.look()

    def paused() -> set[str]:
        with db.read() as conn:
            return set(conn.execute(sa.select(schedule.c.job).where(schedule.c.paused == sa.true())).scalars())

    approvals.approve(db, ME, rejected, "ask", approved=False)
    assert paused() == {"rejected"}
    with db.begin() as conn:
        conn.execute(visit.update().where(visit.c.wake_at.is_not(None)).values(wake_at=utcnow(-1000)))
    assert db.transact(sequences.wake, "s1") == 1
    assert paused() == {"rejected", "expired"}
    with db.begin() as conn:  # as if no worker had claimed it
        conn.execute(run.update().where(run.c.sequence_run_id == broken).values(state="queued", worker_id=None))
    (job,) = children(db, broken)
    stopping.stop(db, ME, job["id"])
    assert (state(db, broken), paused()) == ("failed", {"rejected", "expired", "broken"})


def test_the_usual_duration_is_the_median_of_the_last_30_successes(db: Database) -> None:
    define(db, a={})
    assert db.query(statistics.usual_seconds, "a") is None
    hand = Hand(db)
    ends(db, hand, *[S] * 32, F)
    with db.read() as conn:
        ids = list(conn.execute(sa.select(run.c.id).order_by(run.c.id)).scalars())
    with db.begin() as conn:
        for place, run_id in enumerate(ids):
            seconds = 10_000 if place in (0, 1, 32) else place  # two that are too old, and the failure
            change = run.update().where(run.c.id == run_id)
            conn.execute(change.values(started_at=utcnow(-seconds * 1000), ended_at=utcnow()))
    assert db.query(statistics.usual_seconds, "a") == pytest.approx(16.5, abs=0.5)
