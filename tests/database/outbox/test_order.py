"""The order of messages about one job, and who waits for whom in a storm."""

from collections import Counter

from jobfac.database.engine import Database
from jobfac.states import RunState
from jobfac.store import outbox
from tests.support.database import Hand, define, start
from tests.support.outbox import notified_events, on


def test_failures_and_recoveries_of_a_job_go_to_a_recipient_one_after_another(db: Database) -> None:
    define(db, a={"notify": [on("failed", "recovered", "started")]}, b={"notify": [on("failed")]})
    hand = Hand(db)
    for job, word in (("a", "failed"), ("a", "succeeded"), ("a", "failed"), ("b", "failed")):
        start(db, job)
        hand.end(hand.take(), RunState(word))
    notified_events(db)
    sent = []
    while taken := db.transact(outbox.take, 9, 60.0, None, outbox.Room(9, Counter())):
        busy = Counter(group for one in taken for group in one.groups)
        assert db.transact(outbox.take, 9, 60.0, None, outbox.Room(9, busy)) == []
        sent.append([(one.job, one.event) for one in taken])
    assert sent == [
        [("a", "started"), ("a", "failed"), ("a", "started"), ("a", "started"), ("b", "failed")],
        [("a", "recovered")],
        [("a", "failed")],
    ]


def test_a_storm_of_mails_to_one_address_leaves_a_place_to_others(db: Database) -> None:
    define(db, storm={"notify": [on("stopped", to={"email": "all@example.org"})]})
    define(db, other={"notify": [on("stopped", to={"email": "boss@example.org"})]})
    for job in ["storm"] * 6 + ["other"]:
        start(db, job)
    hand = Hand(db)
    for claimed in hand.claim():
        hand.end(claimed, RunState.STOPPED)
    notified_events(db)
    busy: Counter[str] = Counter()
    found = []
    while taken := db.transact(outbox.take, 4, 60.0, None, outbox.Room(3, busy)):
        found += [one.job for one in taken]
        busy.update(group for one in taken for group in one.groups)
    assert found == ["storm", "storm", "other"]
