"""A run whose workers die is retried up to a limit."""

import pytest

from jobfac.database.engine import Database
from jobfac.states import RunState
from jobfac.store import workers
from tests.support.database import Hand, attempts, define, events, get, start


def lose(db: Database, run_id: int, number: int, **options: int) -> None:
    """Let a worker claim the run and die, and expire it."""
    hand = Hand(db, f"w{number}")
    (claimed,) = hand.claim()
    assert (claimed.id, claimed.lost or 0) == (run_id, number)
    hand.lapse()
    db.transact(workers.expire, "another", **options)


def test_a_run_ends_after_three_lost_attempts(db: Database) -> None:
    define(db, job={})
    run_id = start(db, "job")
    for number in range(3):
        lose(db, run_id, number)
    found = get(db, run_id)
    assert (found["state"], found["reason"]) == (RunState.LOST, "its worker died three times while it ran")
    assert [one.reason for one in attempts(db, run_id)] == [
        "its worker w0 died", "its worker w1 died", "its worker died three times while it ran",
    ]  # fmt: skip
    assert events(db, run_id)[-1] == "lost"


@pytest.mark.parametrize(
    ("most", "reason"), [(1, "its worker died once while it ran"), (2, "its worker died twice while it ran")]
)
def test_poison_attempts_is_a_setting(db: Database, most: int, reason: str) -> None:
    define(db, job={})
    run_id = start(db, "job")
    for number in range(most):
        lose(db, run_id, number, poison_attempts=most)
    assert (get(db, run_id)["state"], get(db, run_id)["reason"]) == (RunState.LOST, reason)


def test_a_worker_that_comes_back_was_not_dead(db: Database) -> None:
    """Its network was cut: others have taken it for dead. Three times in the life of a long run end it otherwise."""
    define(db, job={})
    run_id = start(db, "job")
    for number in range(4):
        hand = Hand(db, "w")
        (claimed,) = hand.claim()
        assert (claimed.id, claimed.attempt, claimed.lost) == (run_id, number + 1, None)
        hand.lapse()
        db.transact(workers.expire, "another")
        assert get(db, run_id)["lost"] == 1
        for _ in range(2):  # also if the answer of the first one was lost
            db.transact(workers.forgive, hand.id, "w", [(run_id, number + 1)])
    assert {one.reason for one in attempts(db, run_id)} == {"its worker w lost its lease"}


def test_a_lost_lease_of_a_live_worker_does_not_count(db: Database) -> None:
    define(db, job={})
    run_id = start(db, "job")
    for number in range(4):
        hand = Hand(db, f"w{number}")
        (claimed,) = hand.claim()
        assert (claimed.id, claimed.lost) == (run_id, None)
        hand.lapse()
        db.transact(workers.expire, f"w{number}", only=hand.id)
    found = get(db, run_id)
    assert (found["state"], found["reason"]) == (RunState.QUEUED, "its worker w3 lost its lease")


def test_a_run_that_was_not_started_is_requeued_even_if_not_restartable(db: Database) -> None:
    define(db, job={"restartable": False})
    ids = [start(db, "job") for _ in range(2)]
    hand = Hand(db)
    first, second = hand.claim()
    hand.end(first, RunState.QUEUED, reason="not started: the disk is full")
    hand.end(second, RunState.QUEUED, reason="its worker was drained", pid=77)
    assert [get(db, run_id)["state"] for run_id in ids] == [RunState.QUEUED, RunState.LOST]
    assert get(db, ids[0])["failures"] == 0


def test_the_message_of_a_worker_is_shown_in_the_fleet(db: Database) -> None:
    hand = Hand(db)
    messages = []
    for message in ("unhealthy: no space in /spool", "x" * 500, None):
        db.transact(workers.set_message, hand.id, message)
        with db.read() as conn:
            messages.append(workers.workers(conn)[0].message)
    assert messages == ["unhealthy: no space in /spool", "x" * 400, None]
