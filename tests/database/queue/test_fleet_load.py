"""The load of the fleet and the number of queued runs, as a fair claim reads them, and when queues are read again."""

import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.doctor.starts import Start, judge_starts, starts
from jobfac.operations import holds
from jobfac.operations.caller import Caller
from jobfac.states import RunState
from jobfac.store import workers
from jobfac.store.holds.placing import Scope
from jobfac.store.workers import fleet_load
from jobfac.store.workers.fleet_load import Load
from jobfac.worker.executions.deliveries import Deliveries
from jobfac.worker.loop.fair_share import Share, share_of
from jobfac.worker.turn import Turn, TurnRequest
from tests.support.database import Hand, define, start


def test_the_load_of_every_live_worker_is_read(db: Database) -> None:
    define(db, a={}, b={"pool": "big", "labels": {"zone": "x"}})
    first, second = Hand(db, "w1", slots=4), Hand(db, "w2", slots=2, pools=["default", "big"], labels={"zone": "x"})
    gone = Hand(db, "w3")
    gone.lapse()
    for _ in range(3):
        start(db, "a")
    first.claim(3)

    queues = ["default", "big[zone=x]"]
    found = {load.worker_id: load for load in db.query(fleet_load.fleet, queues)}
    assert found.keys() == {first.id, second.id}
    assert found[first.id] == Load(first.id, 4, 3, frozenset({"default"}))
    assert found[second.id] == Load(second.id, 2, 0, frozenset(queues))
    assert found[first.id].free == 1


def test_queued_runs_are_counted_up_to_a_limit(db: Database) -> None:
    define(db, a={}, b={"pool": "big"})
    for job in ("a", "a", "a", "b"):
        start(db, job)
    hand = Hand(db)
    assert hand.claim(1)

    def read(conn: sa.Connection) -> dict[str, int]:
        return fleet_load.queued(conn, ["default", "big", "none"], 10)

    assert db.query(read) == {"default": 2, "big": 1, "none": 0}
    assert db.query(fleet_load.queued, ["default"], 1) == {"default": 1}


def test_a_worker_that_says_why_it_claims_nothing_gets_no_share(db: Database) -> None:
    define(db, a={})
    well, sick = Hand(db, "w1", slots=4), Hand(db, "w2", slots=8)
    db.transact(workers.set_message, sick.id, "unhealthy: no space in /spool")
    found = db.query(fleet_load.fleet, ["default"])
    assert [load.worker_id for load in found] == [well.id]
    assert share_of(well.id, found, {"default": 3}) == Share({"default": 3}, 0, False)
    db.transact(workers.set_message, sick.id, None)
    assert {load.worker_id for load in db.query(fleet_load.fleet, ["default"])} == {well.id, sick.id}


def test_a_long_queue_keeps_no_better_run_of_another_queue_waiting(db: Database) -> None:
    define(db, bulk={}, urgent={"pool": "big", "priority": 9}, older={"slots": 2})
    queues = {"default": 1, "big": 1, "default*2": 2}
    first, second = (Hand(db, name, slots=2, pools=["default", "big"]) for name in ("w1", "w2"))
    older = start(db, "older")
    for _ in range(9):
        start(db, "bulk")
    urgent = start(db, "urgent")
    nothing = Deliveries([], [], [], [], {}, [], {}, [])
    requests = [TurnRequest(one.id, one.name, queues, False, 2, 2, nothing, fair=True) for one in (first, second)]
    taken = [db.transact(Turn(request, {}).take).claimed for request in requests]
    assert taken[0][0].id == urgent
    assert [one.id for one in taken[1]] == [older]


def test_a_worker_notices_that_one_hold_has_followed_two(db: Database) -> None:
    define(db, a={}, b={"pool": "big"})
    hand, me = Hand(db), Caller("me")
    first, second = (holds.hold(db, me, Scope(pool=pool), "why").id for pool in ("default", "big"))
    before = hand.survey().queues
    holds.release(db, me, first)
    holds.release(db, me, second)
    third = holds.hold(db, me, Scope(), "why").id
    assert third == first + second, "the sum of the ids alone would be the same"
    assert hand.survey().queues != before


def test_the_doctor_names_a_worker_on_which_starts_fail_that_others_begin(db: Database) -> None:
    define(db, pay={}, other={})
    bare, well = Hand(db, "bare"), Hand(db, "well")

    def fail(job: str, hand: Hand, reason: str = "there is no program") -> None:
        start(db, job)
        hand.end(hand.take(), RunState.START_FAILED, reason=reason)

    for job in ("pay", "other"):
        for _ in range(2):
            fail(job, bare)
    start(db, "pay")
    well.end(well.take(), pid=4711)
    assert db.query(lambda conn: list(starts(conn))) == [], "two are not enough"
    start(db, "pay")
    bare.end(bare.take(), RunState.QUEUED, reason="not started: its worker lost its lease", retry_after=60.0)
    assert db.query(lambda conn: list(starts(conn))) == [], "that says nothing of the machine"
    fail("pay", bare, "there is no program 'pay'")
    for job in ("other", "other"):
        fail(job, bare)
        fail(job, well)
    (finding,) = db.query(lambda conn: list(starts(conn)))
    assert finding.found == "the last 3 starts of pay failed on worker bare, not on well: there is no program 'pay'"
    start(db, "pay")
    bare.end(bare.take(), pid=4712)
    assert db.query(lambda conn: list(starts(conn))) == [], "it has recovered"


def test_starts_that_fail_everywhere_or_of_another_version_are_no_fault_of_a_machine() -> None:
    bare = [Start("bare", "pay", 2, "no program")] * 5
    assert list(judge_starts([*bare, Start("well", "pay", 2, "no program"), Start("well", "pay", 2, "")])) == []
    assert list(judge_starts([*bare, Start("well", "pay", 1, "")])) == []
    assert len(list(judge_starts([*bare, Start("well", "pay", 2, "")]))) == 1
