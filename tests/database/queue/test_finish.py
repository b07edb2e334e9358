"""The end of an execution: stored once, under its fence, with the database's time."""

import json
import time
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.states import RunState
from jobfac.store import output, runs
from jobfac.store.runs import Outcome
from jobfac.store.workers import Claimed
from tests.support.database import Hand, attempts, define, events, get, make_due, now, start, state


@pytest.fixture
def hand(db: Database) -> Hand:
    return Hand(db)


@pytest.fixture
def claimed(db: Database, hand: Hand) -> Claimed:
    """A run of ``job`` that ``hand`` executes."""
    define(db, job={})
    start(db, "job")
    return hand.take()


def test_a_success_is_stored_with_all_its_fields(db: Database, hand: Hand, claimed: Claimed) -> None:
    (finished,) = hand.end(
        claimed,
        exit_code=0,
        exit_message="12 Dateien ✓",
        outputs='{"file": "ä"}',
        pid=4711,
        paths={"stdout": "/tmp/ä.log"},
        cpu_seconds=1.25,
        peak_memory=5 << 30,
    )
    assert finished == (claimed.id, "job", RunState.SUCCEEDED, None, None)
    row = get(db, claimed.id)
    assert (row["state"], row["exit_code"], row["signal"], row["reason"]) == ("succeeded", 0, None, None)
    assert (row["exit_message"], row["outputs"], row["worker"]) == ("12 Dateien ✓", '{"file": "ä"}', "w1")
    (attempt,) = attempts(db, claimed.id)
    assert (attempt.state, attempt.exit_code, attempt.pid) == ("succeeded", 0, 4711)
    assert (attempt.stdout_path, attempt.stderr_path) == ("/tmp/ä.log", None)
    assert (attempt.cpu_seconds, attempt.peak_memory) == (row["cpu_seconds"], row["peak_memory"]) == (1.25, 5 << 30)
    assert abs(attempt.ended_at - row["ended_at"]) < timedelta(seconds=1)
    assert events(db, claimed.id) == ["queued", "running", "succeeded"]


@pytest.mark.parametrize("state", [RunState.FAILED, RunState.TIMED_OUT, RunState.START_FAILED, RunState.STOPPED])
def test_a_failure_is_stored_with_its_reason(db: Database, hand: Hand, claimed: Claimed, state: RunState) -> None:
    hand.end(claimed, state, signal=9, reason="killed: é" + "x" * 2000)
    row = get(db, claimed.id)
    assert (row["state"], row["exit_code"], row["signal"], row["failures"]) == (state, None, 9, 0)
    assert row["reason"] == "killed: é" + "x" * 991
    assert attempts(db, claimed.id)[0].reason == row["reason"]


ODD = "\"quoted\" 'too' \\n\\ \t\n\u2028 \x01\x7f \ufeff ${x} %s ? :y 🙂"


def test_texts_are_stored_unchanged(db: Database, hand: Hand, claimed: Claimed) -> None:
    hand.end(
        claimed, exit_message=ODD, reason=ODD * 2, outputs=f'{{"x": {json.dumps(ODD * 3000)}}}', paths={"stdout": ODD}
    )
    row = get(db, claimed.id)
    assert (row["exit_message"], row["reason"], json.loads(row["outputs"])) == (ODD, ODD * 2, {"x": ODD * 3000})
    assert attempts(db, claimed.id)[0].stdout_path == ODD


def test_the_end_is_stored_relative_to_the_databases_time(db: Database, hand: Hand, claimed: Claimed) -> None:
    before = now(db)
    hand.end(claimed, ended=time.monotonic() - 2 * 86400.0 - 1.5)
    ended = get(db, claimed.id)["ended_at"] + timedelta(days=2, seconds=1.5)
    assert before <= ended <= now(db) + timedelta(milliseconds=1)


def test_a_retry_waits_and_counts_as_a_failure(db: Database, hand: Hand, claimed: Claimed) -> None:
    before = now(db)
    used = {"cpu_seconds": 0.5, "peak_memory": 1000}
    assert hand.end(claimed, RunState.FAILED, exit_code=3, reason="exit code 3", retry_after=90.0, **used) == []
    row = get(db, claimed.id)
    assert (row["state"], row["failures"], row["attempt"], row["worker_id"]) == ("scheduled", 1, 1, None)
    assert before <= row["ready_at"] - timedelta(seconds=90) <= now(db)
    assert row["ended_at"] is None
    assert (row["exit_code"], row["reason"], row["cpu_seconds"]) == (3, "exit code 3", 0.5)
    assert attempts(db, claimed.id)[0].state == "failed"
    with db.read() as conn:
        last = runs.events_of(conn, claimed.id)[-1]
    assert (last.event, last.by, last.detail) == ("scheduled", "w1", "failed: exit code 3; again in 90.0 s")
    make_due(db)
    db.transact(runs.promote_due, "w1")
    again = hand.take()
    assert (again.id, again.attempt, again.failures) == (claimed.id, 2, 1)
    hand.end(again, exit_code=0)
    row = get(db, claimed.id)
    assert (row["state"], row["attempt"], row["failures"], row["exit_code"]) == ("succeeded", 2, 1, 0)
    assert row["reason"] is None
    assert [(one.number, one.state) for one in attempts(db, claimed.id)] == [(1, "failed"), (2, "succeeded")]


def test_a_stopping_run_is_not_retried(db: Database, hand: Hand, claimed: Claimed) -> None:
    db.transact(runs.request_stop, claimed.id, now=False, by="me")
    (finished,) = hand.end(claimed, RunState.FAILED, retry_after=1.0)
    assert finished.state == RunState.FAILED
    assert get(db, claimed.id)["failures"] == 0


def test_a_requeued_run_is_unchanged(db: Database, hand: Hand, claimed: Claimed) -> None:
    assert hand.end(claimed, RunState.QUEUED, reason="its worker is shutting down") == []
    row = get(db, claimed.id)
    assert (row["state"], row["attempt"], row["failures"], row["worker"]) == ("queued", 1, 0, None)
    assert attempts(db, claimed.id)[0].state == "stopped"
    assert Hand(db, "w2").take().attempt == 2


def test_a_requeue_of_a_run_that_is_not_restartable_ends_it_as_lost(db: Database, hand: Hand) -> None:
    define(db, once={"restartable": False})
    start(db, "once")
    (finished,) = hand.end(hand.take(), RunState.QUEUED, pid=1)
    assert finished.state == RunState.LOST


def test_a_requeue_of_a_stopping_run_ends_it_as_stopped(db: Database, hand: Hand, claimed: Claimed) -> None:
    db.transact(runs.request_stop, claimed.id, now=False, by="me")
    (finished,) = hand.end(claimed, RunState.QUEUED)
    assert finished.state == RunState.STOPPED


@pytest.mark.parametrize(
    "outcome",
    [
        {"state": RunState.SUCCEEDED},
        {"state": RunState.FAILED, "retry_after": 60.0},
        {"state": RunState.QUEUED},
        {"state": RunState.STOPPED},
    ],
    ids=["an end", "a retry", "requeued", "stopped"],
)
def test_storing_an_outcome_twice_stores_it_once(
    db: Database, hand: Hand, claimed: Claimed, outcome: dict[str, Any]
) -> None:
    hand.end(claimed, **outcome)
    row, words = dict(get(db, claimed.id)), events(db, claimed.id)
    assert hand.end(claimed, **outcome) == []
    assert (dict(get(db, claimed.id)), events(db, claimed.id)) == (row, words)
    make_due(db)
    db.transact(runs.promote_due, "w1")
    hand.claim()
    words = events(db, claimed.id)
    assert hand.end(claimed, **outcome) == []
    assert events(db, claimed.id) == words


@pytest.mark.parametrize("restartable", [True, False])
@pytest.mark.parametrize("stopping", [True, False])
def test_a_late_result_is_discarded_with_an_event(db: Database, hand: Hand, restartable: bool, stopping: bool) -> None:
    define(db, job={"restartable": restartable})
    run_id = start(db, "job")
    claimed = hand.take()
    if stopping:
        db.transact(runs.request_stop, run_id, now=False, by="me")
    hand.die()
    before = dict(get(db, run_id))
    assert hand.end(claimed) == []
    assert dict(get(db, run_id)) == before
    assert attempts(db, run_id)[0].state == "lost"
    with db.read() as conn:
        last = runs.events_of(conn, run_id)[-1]
    assert (last.event, last.attempt, last.by) == ("discarded", 1, "w1")
    assert last.detail == "attempt 1 ended succeeded after its lease was lost; the result was discarded"


def test_a_late_result_does_not_change_the_next_attempt(db: Database, hand: Hand, claimed: Claimed) -> None:
    hand.die()
    heir = Hand(db, "w2")
    again = heir.take()
    hand.end(claimed, RunState.FAILED, retry_after=1.0)
    db.transact(runs.report_progress, claimed.id, claimed.attempt, 0.9, "late")
    row = get(db, claimed.id)
    assert (row["state"], row["attempt"], row["worker"], row["failures"]) == ("running", 2, "w2", 0)
    assert row["progress"] is row["message"] is None
    heir.end(again)
    assert [one.state for one in attempts(db, claimed.id)] == ["lost", "succeeded"]


def test_outcomes_of_one_turn_are_stored_together_or_not_at_all(db: Database, hand: Hand) -> None:
    define(db, job={"restartable": False})
    for _ in range(5):
        start(db, "job")
    taken = hand.claim()
    states = [RunState.SUCCEEDED, RunState.FAILED, RunState.QUEUED, RunState.FAILED, RunState.QUEUED]
    outcomes = [Outcome(c.id, c.attempt, s) for c, s in zip(taken, states, strict=True)]
    outcomes[3] = Outcome(taken[3].id, taken[3].attempt, RunState.FAILED, retry_after=5.0)
    outcomes[4] = Outcome(taken[4].id, taken[4].attempt, RunState.QUEUED, reason="not started: x", retry_after=10.0)

    def broken(conn: sa.Connection) -> None:
        runs.finish(conn, hand.id, outcomes, "w1")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        db.transact(broken)
    assert {state(db, c.id) for c in taken} == {"running"}
    finished = db.transact(runs.finish, hand.id, outcomes, "w1")
    assert [(f.run_id, f.state) for f in finished] == [(taken[0].id, "succeeded"), (taken[1].id, "failed")]
    assert [state(db, c.id) for c in taken] == ["succeeded", "failed", "queued", "scheduled", "scheduled"]
    put_off = get(db, taken[4].id)
    assert (put_off["failures"], put_off["reason"], put_off["worker"]) == (0, "not started: x", None)


def test_an_outcome_of_a_purged_run_is_ignored(db: Database, hand: Hand) -> None:
    assert db.transact(runs.finish, hand.id, [Outcome(99999, 1, RunState.SUCCEEDED)], "w1") == []
    assert events(db, 99999) == []


def test_what_belongs_to_a_forgotten_run_is_not_stored_for_another_with_its_number(
    db: Database, hand: Hand, claimed: Claimed
) -> None:
    """As after the restore of a backup: the execution of the forgotten run still ships."""
    before = claimed.created_at - timedelta(hours=1)
    mine = output.Stored(claimed.id, 1, "stdout", 0, b"mine", claimed.created_at)
    db.transact(output.append, [mine, mine._replace(offset=4, data=b"not mine", created_at=before)])
    db.transact(output.cut, claimed.id, 1, "stdout", 0, 9, before)
    db.transact(runs.report_progress, claimed.id, 1, 0.5, "mine", claimed.created_at)
    db.transact(runs.report_progress, claimed.id, 1, 0.7, "not mine", before)
    assert db.transact(runs.finish, hand.id, [Outcome(claimed.id, 1, RunState.FAILED, created_at=before)], "w1") == []
    assert db.query(output.end_of, claimed.id, 1, "stdout") == 4
    assert (get(db, claimed.id)["state"], get(db, claimed.id)["message"]) == ("running", "mine")
    assert "discarded" not in str(events(db, claimed.id))
    ended = Outcome(claimed.id, 1, RunState.SUCCEEDED, created_at=claimed.created_at)
    assert len(db.transact(runs.finish, hand.id, [ended], "w1")) == 1
    db.transact(output.cut, claimed.id, 1, "stdout", 0, 9, claimed.created_at)
    assert db.query(output.end_of, claimed.id, 1, "stdout") == 0


def test_progress_and_process_are_stored_while_the_run_executes(db: Database, hand: Hand, claimed: Claimed) -> None:
    db.transact(runs.report_progress, claimed.id, 1, 0.25, "ein Viertel ½")
    db.transact(runs.note_program, claimed.id, 1, 4711, {"stderr": "/tmp/err"})
    row = get(db, claimed.id)
    assert (row["progress"], row["message"]) == (0.25, "ein Viertel ½")
    (attempt,) = attempts(db, claimed.id)
    assert (attempt.pid, attempt.stdout_path, attempt.stderr_path) == (4711, None, "/tmp/err")
    hand.end(claimed, RunState.FAILED, retry_after=1.0)
    assert get(db, claimed.id)["progress"] is None


def test_a_late_result_beside_a_current_one_of_the_same_run_changes_nothing(
    db: Database, hand: Hand, claimed: Claimed
) -> None:
    hand.end(claimed, RunState.QUEUED)
    again = hand.take()
    assert (again.id, again.attempt) == (claimed.id, 2)
    outcomes = [Outcome(claimed.id, 1, RunState.FAILED, exit_code=9), Outcome(claimed.id, 2, RunState.SUCCEEDED)]
    finished = db.transact(runs.finish, hand.id, outcomes, "w1")
    assert [one.state for one in finished] == [RunState.SUCCEEDED]
    assert [one.state for one in attempts(db, claimed.id)] == ["stopped", "succeeded"]
    assert events(db, claimed.id) == ["queued", "running", "queued", "running", "succeeded"]
