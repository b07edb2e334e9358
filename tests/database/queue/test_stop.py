"""Stops: a waiting run ends at once, and a running one gets a stop request."""

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.errors import NotFound
from jobfac.states import RunState
from jobfac.store import runs
from jobfac.store.runs import Stopped
from tests.support.database import Hand, define, events, get, start, state, states


def stop(db: Database, run_id: int, now: bool = False) -> Stopped:
    return db.transact(runs.request_stop, run_id, now=now, by="me")


def test_a_waiting_run_ends_at_once(db: Database) -> None:
    define(db, job={}, one={"already_running": "queue"})
    start(db, "one")
    waiting = {"queued": start(db, "job"), "scheduled": start(db, "job", delay=60.0), "blocked": start(db, "one")}
    for word, run_id in waiting.items():
        assert stop(db, run_id) == (word, "stopped")
        row = get(db, run_id)
        assert (row["state"], row["stop"], row["stop_by"]) == ("stopped", "polite", "me")
        assert row["reason"] == "stopped by me before it began"
        assert row["ended_at"] >= row["created_at"]
        assert events(db, run_id) == [word, "stopped"]


def test_a_stop_of_a_running_run_can_be_escalated(db: Database) -> None:
    define(db, job={})
    run_id = start(db, "job")
    hand = Hand(db)
    claimed = hand.take()
    assert stop(db, run_id) == ("running", "stopping")
    assert stop(db, run_id) == ("stopping", "stopping")
    assert get(db, run_id)["stop"] == "polite"
    assert stop(db, run_id, now=True) == ("stopping", "stopping")
    assert get(db, run_id)["stop"] == "now"
    assert stop(db, run_id) == ("stopping", "stopping")
    assert get(db, run_id)["stop"] == "now"
    assert events(db, run_id) == ["queued", "running", "stopping", "stopping"]
    assert get(db, run_id)["worker_id"] == hand.id
    hand.end(claimed, RunState.STOPPED, signal=15)
    assert (state(db, run_id), get(db, run_id)["reason"]) == ("stopped", "stopped by me")


def test_an_ended_run_stays_unchanged(db: Database) -> None:
    define(db, job={})
    run_id = start(db, "job")
    hand = Hand(db)
    hand.end(hand.take())
    assert stop(db, run_id, now=True) == ("succeeded", "succeeded")
    assert get(db, run_id)["stop"] is None
    assert events(db, run_id) == ["queued", "running", "succeeded"]


def test_an_unknown_run_is_not_found(db: Database) -> None:
    with pytest.raises(NotFound, match="There is no run 99999; `jobfac runs list` shows what there is"):
        stop(db, 99999)


def test_a_stopped_run_is_never_claimed(db: Database) -> None:
    define(db, job={})
    stop(db, start(db, "job"))
    assert Hand(db).claim() == []


def test_a_run_that_is_stopped_between_two_attempts_has_begun(db: Database) -> None:
    define(db, job={"retry": {"attempts": 2}})
    hand = Hand(db)
    failed, lost = (start(db, "job") for _ in range(2))
    first, second = hand.claim()
    hand.end(first, RunState.FAILED, reason="exit code 4", retry_after=60.0)
    hand.end(second, RunState.QUEUED, reason="its worker was drained", pid=77)
    for run_id in (failed, lost):
        assert stop(db, run_id)[1] == "stopped"
        assert get(db, run_id)["reason"] == "stopped by me before its next attempt"


def test_a_run_whose_worker_died_while_it_was_stopped_says_both(db: Database) -> None:
    define(db, job={})
    run_id, hand = start(db, "job"), Hand(db)
    hand.claim()
    stop(db, run_id)
    hand.die()
    assert get(db, run_id)["reason"] == "its worker w1 died while it was being stopped by me"


def test_a_run_that_its_worker_gave_back_ends_as_stopped_and_says_by_whom(db: Database) -> None:
    """The worker had not seen the stop yet: it was drained, or could not start the program."""
    define(db, job={})
    hand = Hand(db)
    ids = [start(db, "job") for _ in range(2)]
    first, second = hand.claim()
    for run_id in ids:
        db.transact(runs.request_stop, run_id, now=False, by="me")
    hand.end(first, RunState.QUEUED, reason="not started: its worker was drained")
    hand.end(second, RunState.QUEUED, reason="its worker was drained", pid=77)
    found = [(get(db, run_id)["state"], get(db, run_id)["reason"]) for run_id in ids]
    assert found == [("stopped", "stopped by me before it began"), ("stopped", "stopped by me")]


def test_many_stops_take_few_statements_and_do_what_single_ones_do(db: Database) -> None:
    define(db, job={}, alone={"already_running": "queue"}, keyed={"concurrency": {"key": "k"}})
    hand = Hand(db)
    running = [start(db, "job") for _ in range(2)]
    claimed = hand.claim()
    queued = [start(db, "job") for _ in range(20)]
    waiting = [start(db, "job", delay=60.0), start(db, "alone"), start(db, "alone"), start(db, "keyed")]
    other = start(db, "keyed")
    hand.end(claimed.pop())
    statements: list[str] = []
    sa.event.listen(db.engine, "before_cursor_execute", lambda *call: statements.append(call[2]))
    every = [*running, *queued, *waiting]
    db.transact(runs.request_stops, every, now=False, by="me")
    assert len(statements) < 20
    assert states(db, every) == ["stopping", "succeeded", *["stopped"] * 24]
    assert state(db, other) == "queued"  # its key is free
    row = get(db, queued[0])
    assert (row["reason"], row["stop"], row["stop_by"]) == ("stopped by me before it began", "polite", "me")
    assert row["ended_at"] is not None
    assert events(db, queued[0]) == ["queued", "stopped"]
    db.transact(runs.request_stops, every, now=True, by="you")
    row = get(db, running[0])
    assert (row["state"], row["stop"], row["stop_by"], row["reason"]) == ("stopping", "now", "you", None)
    db.transact(runs.request_stops, every, now=False, by="me")
    assert events(db, running[0]) == ["queued", "running", "stopping", "stopping"]


def test_a_run_that_has_tried_is_not_said_to_be_stopped_before_it_began(db: Database) -> None:
    define(db, job={}, again={"retry": {"attempts": 2}})
    again, lost = start(db, "again"), start(db, "job")
    hand = Hand(db)
    first, second = hand.claim()
    hand.end(first, RunState.FAILED, retry_after=60.0)
    hand.end(second, RunState.QUEUED)
    assert [stop(db, again), stop(db, lost)] == [("scheduled", "stopped"), ("queued", "stopped")]
    assert [get(db, one)["reason"] for one in (again, lost)] == ["stopped by me before its next attempt"] * 2
