"""The event `recovered`: a success that follows a failure."""

import json

import sqlalchemy as sa

from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import run
from jobfac.states import RunState
from jobfac.store import overview, statistics
from tests.support.database import Hand, define, start
from tests.support.outbox import notified_events, on, rows
from tests.support.sequences import Player


def test_a_recovery_is_the_first_success_after_a_failure(db: Database) -> None:
    define(db, a={"notify": [on("recovered")]}, b={"notify": [on("succeeded")]})
    hand = Hand(db)
    for word in ("succeeded", "failed", "stopped", "succeeded", "succeeded", "timed_out", "lost", "succeeded"):
        for job in ("a", "b"):
            start(db, job)
        for claimed in hand.claim():
            hand.end(claimed, RunState(word))
    found = notified_events(db)
    assert [event for job, event in found if job == "a"] == ["recovered", "recovered"]
    assert [event for job, event in found if job == "b"] == ["succeeded"] * 4
    assert json.loads(rows(db)[1]["body"])["event"] in ("recovered", "succeeded")


def test_who_asks_for_recoveries_and_for_all_ends_hears_of_a_recovery(db: Database) -> None:
    define(db, a={"notify": [on("finished"), on("recovered")]})
    hand = Hand(db)
    for word in ("failed", "succeeded", "succeeded"):
        start(db, "a")
        hand.end(hand.take(), RunState(word))
    assert [event for _, event in notified_events(db)] == ["failed", "recovered", "succeeded"]


def test_a_success_with_another_value_is_no_recovery(db: Database) -> None:
    steps = [{"name": "fan", "jobs": ["a"], "for_each": {"x": ["eu", "us"]}, "on_mixed": "end"}]
    define(db, a={"parameters": {"x": {}}, "notify": [on("failed", "recovered")]}, s={"steps": steps})
    hand = Player(db)
    for number, ends in enumerate(((hand.fail, hand.finish), (hand.finish, hand.finish))):
        start(db, "s")
        hand.look()
        for end in ends:
            end("a")
        db.transact(statistics.count)
        with db.read() as conn:
            assert [one.job for one in overview.read(conn).failures] == ["a"] * (1 - number)
            waiting = sa.select(sa.func.count()).where(run.c.state == "failed", run.c.acknowledged_at.is_(None))
            assert conn.execute(waiting).scalar_one() == 1 - number
    assert [event for _, event in notified_events(db)] == ["failed", "recovered"]


def test_a_success_beside_a_failed_run_does_not_hide_the_recovery(db: Database) -> None:
    define(db, a={"notify": [on("failed", "recovered")]})
    hand = Hand(db)
    slow, quick = start(db, "a"), start(db, "a")
    claims = {one.id: one for one in hand.claim()}
    hand.end(claims[quick])
    hand.end(claims[slow], RunState.FAILED)
    with db.begin() as conn:
        conn.execute(run.update().where(run.c.id == quick).values(ended_at=utcnow(-60_000)))
    start(db, "a")
    hand.end(hand.take())
    assert [event for _, event in notified_events(db)] == ["failed", "recovered"]


def test_a_success_that_follows_no_failure_does_not_hide_the_recovery(db: Database) -> None:
    """A slow run succeeds after a quick one that was started later has failed: it says nothing about that failure."""
    define(db, a={"notify": [on("failed", "recovered")]})
    hand = Hand(db)
    slow, quick = start(db, "a"), start(db, "a")
    claims = {one.id: one for one in hand.claim()}
    hand.end(claims[quick], RunState.FAILED)
    with db.begin() as conn:
        conn.execute(run.update().where(run.c.id == quick).values(ended_at=utcnow(-60_000)))
    hand.end(claims[slow])
    for _ in range(2):
        start(db, "a")
        hand.end(hand.take())
    assert [event for _, event in notified_events(db)] == ["failed", "recovered"]
