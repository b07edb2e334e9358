"""A run that waited to run alone when its worker died was not the cause of that death."""

import pytest

from jobfac.database.engine import Database
from jobfac.database.tables import run
from jobfac.store.runs.event import Event
from jobfac.store.runs.events import record
from jobfac.store.workers.expiry import ALONE, ISOLATED
from tests.support.database import Hand, define, get, start


@pytest.mark.parametrize("restartable", [True, False])
@pytest.mark.parametrize("is_started", [False, True])
def test_a_run_that_was_not_started_does_not_lose_a_life(db: Database, is_started: bool, restartable: bool) -> None:
    define(db, poison={"restartable": restartable})
    run_id = start(db, "poison")
    with db.begin() as conn:
        conn.execute(run.update().values(lost=2))
    hand = Hand(db, "w1")
    claimed = hand.take()
    with db.begin() as conn:
        for event in [ISOLATED, ALONE] if is_started else [ISOLATED]:
            record(conn, [Event(run_id, claimed.attempt, event, hand.name)])
    hand.die()
    found = get(db, run_id)
    assert (found["state"], found["lost"]) == (("lost", 3) if is_started else ("queued", 2))
