"""A category that is renamed while runs are under way costs no alarm."""

from jobfac.database.engine import Database
from jobfac.states import RunState
from tests.support.database import Hand, define, start
from tests.support.outbox import apply_defaults, notified_events, on


def test_runs_of_a_renamed_category_notify_by_the_defaults_of_its_new_name(db: Database) -> None:
    apply_defaults(db, money={"notify": [on("failed")]})
    define(db, a={"category": "money"}, b={"category": "money"})
    hand = Hand(db)
    start(db, "a")
    start(db, "b")
    running = hand.claim()
    start(db, "a")  # which waits
    apply_defaults(db, finance={"notify": [on("failed")]}, unused={"notify": [on("failed")]})
    define(db, a={"category": "finance"}, b={"category": "none"})
    for claimed in [*running, *hand.claim()]:
        hand.end(claimed, RunState.FAILED)
    assert notified_events(db) == [("a", "failed"), ("a", "failed")]


def test_a_run_keeps_the_recipients_of_the_category_with_which_it_started(db: Database) -> None:
    apply_defaults(db, money={"notify": [on("failed")]})
    define(db, a={"category": "money"})
    start(db, "a")
    define(db, a={"category": "other"})
    hand = Hand(db)
    for claimed in hand.claim():
        hand.end(claimed, RunState.FAILED)
    assert notified_events(db) == [("a", "failed")]
