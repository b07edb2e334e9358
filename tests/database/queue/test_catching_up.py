"""Runs that queue behind each other, as those that catch up, and the other starts of their job."""

import pytest

from jobfac.database.engine import Database
from jobfac.states import RunState
from jobfac.store import runs
from tests.support.database import Hand, define, make_due, start, states


def test_a_run_that_queues_waits_for_one_between_two_attempts(db: Database) -> None:
    define(db, job={"already_running": "queue"})
    ids = [start(db, "job"), start(db, "job")]
    hand = Hand(db)
    hand.end(hand.take(), RunState.FAILED, retry_after=3600.0)
    ids.append(start(db, "job"))
    assert states(db, ids) == ["scheduled", "blocked", "blocked"]
    assert db.transact(runs.release_blocked, None, "sweeper") == 0
    make_due(db)
    db.transact(runs.promote_due, "w1")
    hand.end(hand.take())
    assert states(db, ids) == ["succeeded", "queued", "blocked"]


@pytest.mark.parametrize("policy", ["deny", "replace"])
def test_runs_that_catch_up_let_the_next_start_wait(db: Database, policy: str) -> None:
    """It is neither denied because of them, nor stops one: a backfill may last for hours."""
    define(db, job={"already_running": policy})
    several = [start(db, "job", queues=True) for _ in range(3)]
    hand = Hand(db)
    claimed = hand.take()
    today = start(db, "job")
    assert states(db, [*several, today]) == ["running", "blocked", "blocked", "blocked"]
    hand.end(claimed)
    assert states(db, [*several, today]) == ["succeeded", "blocked", "blocked", "queued"]
    hand.end(hand.take(), RunState.FAILED, retry_after=3600.0)
    assert states(db, [*several, today]) == ["succeeded", "blocked", "blocked", "scheduled"]
    again = start(db, "job")
    assert states(db, [today, again]) == (["scheduled", "denied"] if policy == "deny" else ["stopped", "blocked"])
    make_due(db)
    db.transact(runs.promote_due, "w1")
    while claimed_now := hand.claim(1):
        hand.end(claimed_now[0])
    ended = {"deny": ["succeeded", "denied"], "replace": ["stopped", "succeeded"]}
    assert states(db, [*several, today, again]) == ["succeeded"] * 3 + ended[policy]
