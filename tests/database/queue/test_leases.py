"""A worker's lease: the heartbeat renews it. Once expired, it is lost for good, and its runs are requeued."""

import itertools
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.database.tables import worker
from jobfac.errors import Refused
from jobfac.states import RunState, WorkerState
from jobfac.store import runs, sequences, workers
from jobfac.store.runs import StartRequest
from jobfac.store.workers import LeaseLost, MachineLoad, draining, expiry
from jobfac.worker.executions.deliveries import Deliveries
from jobfac.worker.loop.leaving import NEVER_STARTED, deregister, end_registration
from jobfac.worker.turn import TurnRequest
from tests.support.database import Hand, attempts, define, events, get, now, start, state, states, together
from tests.support.engines import ENGINES


def fleet(db: Database) -> dict[str, dict[str, Any]]:
    with db.read() as conn:
        return {worker.name: worker._asdict() for worker in workers.workers(conn)}


def test_a_worker_registers_with_a_new_lease(db: Database) -> None:
    hand = Hand(db, "w1", slots=4, pools=["default", "big"], labels={"os": "linux"})
    found = fleet(db)["w1"]
    assert (found["id"], found["state"], found["slots"], found["busy"]) == (hand.id, "active", 4, 0)
    lease = found["lease_until"] - found["seen_at"]  # SQLite uses two clocks here, which agree to milliseconds
    assert abs(lease - timedelta(seconds=60)) < timedelta(milliseconds=100)
    assert (found["pools"], found["labels"]) == (["default", "big"], {"os": "linux"})
    assert "token" not in found


def test_a_heartbeat_renews_the_lease_and_a_survey_returns_the_stops(db: Database) -> None:
    define(db, job={})
    ids = [start(db, "job") for _ in range(3)]
    hand = Hand(db)
    before = fleet(db)["w1"]
    hand.claim()
    assert hand.renew().expiry > 50
    survey = hand.survey()
    assert (survey.state, survey.stops, survey.held) == (WorkerState.ACTIVE, [], 3)
    assert fleet(db)["w1"]["lease_until"] >= before["lease_until"]
    assert fleet(db)["w1"]["busy"] == 3
    db.transact(runs.request_stop, ids[1], now=False, by="me")
    db.transact(runs.request_stop, ids[2], now=True, by="me")
    assert sorted(hand.survey().stops) == [(ids[1], 1, "polite"), (ids[2], 1, "now")]


def test_an_expired_lease_is_lost(db: Database) -> None:
    define(db, job={})
    start(db, "job")
    hand = Hand(db)
    hand.lapse()
    with pytest.raises(LeaseLost):
        hand.renew()
    with pytest.raises(LeaseLost):
        hand.claim()
    hand.die()
    with pytest.raises(LeaseLost):
        hand.renew()
    with pytest.raises(LeaseLost):
        db.transact(workers.renew, 99999, 15.0)


def test_the_runs_of_a_dead_worker_are_requeued(db: Database) -> None:
    define(db, job={})
    run_id = start(db, "job")
    hand, heir = Hand(db, "w1"), Hand(db, "w2")
    hand.take()
    assert hand.die() == []
    row = get(db, run_id)
    assert (row["state"], row["attempt"], row["worker_id"], row["failures"]) == ("queued", 1, None, 0)
    (attempt,) = attempts(db, run_id)
    assert (attempt.state, attempt.reason) == ("lost", "its worker w1 died")
    assert attempt.ended_at is not None
    assert fleet(db)["w1"]["state"] == "dead"
    assert heir.take().attempt == 2
    assert events(db, run_id) == ["queued", "running", "queued", "running"]


def test_a_run_that_is_not_restartable_ends_as_lost(db: Database) -> None:
    define(db, job={"restartable": False})
    run_id = start(db, "job")
    hand = Hand(db)
    hand.take()
    (finished,) = hand.die()
    assert (finished.run_id, finished.state) == (run_id, RunState.LOST)
    row = get(db, run_id)
    assert (row["state"], row["reason"]) == ("lost", "its worker w1 died")
    assert row["ended_at"] is not None


def test_a_stopping_run_of_a_dead_worker_ends_as_stopped(db: Database) -> None:
    define(db, job={})
    run_id = start(db, "job")
    hand = Hand(db)
    hand.take()
    db.transact(runs.request_stop, run_id, now=False, by="me")
    (finished,) = hand.die()
    assert (finished.run_id, finished.state) == (run_id, RunState.STOPPED)
    assert state(db, run_id) == "stopped"
    assert attempts(db, run_id)[0].state == "lost"


def test_only_expired_leases_are_ended(db: Database) -> None:
    define(db, job={})
    start(db, "job"), start(db, "job")
    hand, other = Hand(db, "w1"), Hand(db, "w2")
    kept, lost = other.take(), hand.take()
    hand.die()
    assert states(db, [kept.id, lost.id]) == ["running", "queued"]
    other.renew()
    assert other.survey().state == WorkerState.ACTIVE


def test_concurrent_expiries_expire_a_worker_once(db: Database) -> None:
    define(db, job={})
    ids = db.transact(runs.start_many, StartRequest("job", "tester"), 20)
    hand = Hand(db, slots=20)
    hand.claim()
    assert [one.silent for one in db.query(workers.workers)] == [False]
    hand.lapse()
    assert [one.silent for one in db.query(workers.workers)] == [True]
    together(6, lambda _: db.transact(workers.expire, "sweeper"))
    assert [(one.state, one.silent) for one in db.query(workers.workers)] == [("dead", False)]
    assert set(states(db, ids)) == {"queued"}
    assert all(events(db, run_id) == ["queued", "running", "queued"] for run_id in ids)


@pytest.mark.parametrize("url", ENGINES[1:], indirect=True)
def test_a_dead_worker_whose_row_is_locked_is_pending(db: Database) -> None:
    """The scheduler then said that clocks disagree, and looked again only after up to 30 s."""
    hand = Hand(db)
    hand.lapse()
    with db.begin() as conn:  # a DBA, or another expiry
        conn.execute(worker.update().where(worker.c.id == hand.id).values(message="x"))
        found = db.transact(workers.expire, "sweeper")
    assert (found.workers, found.pending) == ([], 1)
    found = db.transact(workers.expire, "sweeper")
    assert (len(found.workers), found.pending) == (1, 0)


def test_many_held_runs_are_requeued_in_batches(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    assert expiry.EXPIRY_BATCH <= 1000
    monkeypatch.setattr(expiry, "EXPIRY_BATCH", 10)
    define(db, job={})
    ids = db.transact(runs.start_many, StartRequest("job", "tester"), 45)
    hand = Hand(db, slots=45)
    assert len(hand.claim()) == 45
    hand.lapse()
    counts = [0]
    while counts[-1] < 45 and len(counts) < 10:
        db.transact(workers.expire, "sweeper")
        counts.append(states(db, ids).count("queued"))
    assert counts[-1] == 45
    assert {get(db, one)["lost"] for one in ids} == {1}, "each of them was lost with its worker"
    assert all(later - earlier <= 20 for earlier, later in itertools.pairwise(counts))


def test_a_worker_expires_its_own_former_registration(db: Database) -> None:
    define(db, job={})
    run_id = start(db, "job")
    hand, other = Hand(db, "w1"), Hand(db, "w2")
    hand.take()
    found = db.transact(workers.expire, "w1", only=hand.id)
    assert found == (["w1"], [(run_id, 1, "job", "w1", "queued", "w1")], [], 0, 0, 0)
    assert state(db, run_id) == "queued"
    assert {name: row["state"] for name, row in fleet(db).items()} == {"w1": "dead", "w2": "active"}
    assert db.transact(workers.expire, "w1", only=hand.id) == ([], [], [], 0, 0, 0)
    other.renew()
    assert other.survey().state == WorkerState.ACTIVE


def test_a_survey_reports_a_drain_and_the_lease_stays_valid(db: Database) -> None:
    hand = Hand(db)
    assert db.transact(draining.drain, hand.id)
    hand.renew()
    assert hand.survey().state == WorkerState.DRAINING
    assert db.transact(workers.hold, hand.id).state == WorkerState.DRAINING
    assert not db.transact(draining.drain, 99999)


def test_a_drain_by_a_signal_cannot_be_taken_back(db: Database) -> None:
    """The answer was that the worker is active."""
    hand = Hand(db)
    db.transact(draining.drain, hand.id)
    assert db.transact(draining.undrain, hand.id) == WorkerState.DRAINING
    db.transact(workers.set_message, hand.id, draining.LEAVING)
    with pytest.raises(Refused, match=rf"Worker {hand.id} \('w1'\) was told by a signal to drain"):
        db.transact(draining.undrain, hand.id)


def test_a_deregistered_workers_runs_are_requeued(db: Database) -> None:
    define(db, job={})
    run_id = start(db, "job")
    hand = Hand(db)
    hand.take()
    db.transact(workers.deregister, hand.id)
    found = fleet(db)["w1"]
    assert (found["state"], found["ended_at"] is not None) == ("stopped", True)
    assert not db.transact(draining.drain, hand.id)
    with db.read() as conn:
        assert workers.workers(conn, alive_only=True) == []
    db.transact(workers.expire, "sweeper")
    assert state(db, run_id) == "queued"
    assert fleet(db)["w1"]["state"] == "stopped"


def test_a_concurrent_expiry_and_finish_agree(db: Database) -> None:
    """Either the result is stored first, or the expiry comes first and the result is discarded with an event."""
    define(db, job={})
    for number in range(10):
        run_id = start(db, "job")
        hand = Hand(db, f"w{number}")
        claimed = hand.take()
        hand.lapse()

        def both(position: int, hand: Hand = hand, claimed: workers.Claimed = claimed) -> None:
            if position:
                hand.end(claimed)
            else:
                db.transact(workers.expire, "sweeper")

        together(2, both)
        words = events(db, run_id)
        if state(db, run_id) == "succeeded":
            assert words == ["queued", "running", "succeeded"]
        else:
            assert state(db, run_id) == "queued"
            assert sorted(words) == ["discarded", "queued", "queued", "running"]
            Hand(db, f"heir{number}").end(Hand(db, f"taker{number}").take())
            db.transact(runs.request_stop, run_id, now=False, by="me")


def test_the_lease_is_counted_on_the_databases_clock(db: Database) -> None:
    hand = Hand(db)
    before = now(db)
    db.transact(workers.renew, hand.id, 15.0)
    after = now(db)
    apart = timedelta(milliseconds=10)  # SQLite uses two clocks here
    lease_until = fleet(db)["w1"]["lease_until"] - timedelta(seconds=15)
    assert before - apart <= lease_until <= after + apart


def test_a_heartbeat_stores_the_load_of_the_machine(db: Database) -> None:
    hand = Hand(db)
    for load in (MachineLoad(10.0, 3 << 30), MachineLoad(0.0, 0)):
        for sent in (load, MachineLoad()):  # without a load, the stored one stays
            db.single(workers.renew, hand.id, 60.0, sent)
            (seen,) = db.query(workers.workers)
            assert (seen.cpu_pressure, seen.free_memory) == load


def test_a_worker_does_not_act_for_the_registration_that_has_its_id_now(db: Database) -> None:
    define(db, job={})
    start(db, "job")
    hand = Hand(db)
    hand.take()

    def held(conn: sa.Connection) -> object:
        return workers.hold(conn, hand.id, "of another process")

    with pytest.raises(LeaseLost):
        db.transact(held)
    assert db.transact(workers.expire, "w2", only=hand.id, token="of another process").workers == []
    assert db.transact(workers.deregister, hand.id, "of another process") == []
    assert (hand.survey().state, hand.survey().held, hand.survey().token) == (WorkerState.ACTIVE, 1, "w1")


@pytest.mark.parametrize("uncertain", [True, False])
def test_a_worker_that_loses_its_lease_queues_again_what_it_has_claimed_without_learning_it(
    db: Database, uncertain: bool
) -> None:
    """A failover has cut the answer to its claim. Nothing was started, so also a run that must not repeat begins."""
    define(db, once={"restartable": False}, inside={"steps": [{"name": "one", "jobs": ["once"]}]})
    hand = Hand(db, "w1")
    claimed, running, within = start(db, "once"), start(db, "once"), start(db, "inside")
    db.transact(sequences.begin, "s1")
    first, second, third = hand.claim()
    assert ([first.id, second.id], third.sequence_run_id) == ([claimed, running], within)
    deliveries = Deliveries([], [], [], [], {}, [], {second.key: second.identity}, set())
    request = TurnRequest(hand.id, hand.name, {"default": 1}, False, 9, 9, deliveries, uncertain=uncertain)
    db.transact(end_registration, request, "of another worker with this id")
    assert states(db, [claimed, running, within]) == ["running"] * 3
    db.transact(end_registration, request, hand.name)
    never = ("queued", NEVER_STARTED) if uncertain else ("lost", "its worker w1 lost its lease")
    found = [(state(db, one), attempts(db, one)[0].reason) for one in (claimed, third.id)]
    assert found == [never, never]
    assert (state(db, running), state(db, within)) == ("lost", "running" if uncertain else "failed")


@pytest.mark.parametrize("uncertain", [True, False])
def test_a_worker_that_leaves_queues_again_what_it_has_claimed_without_learning_it(
    db: Database, uncertain: bool
) -> None:
    define(db, once={"restartable": False}, inside={"steps": [{"name": "one", "jobs": ["once"]}]})
    hand = Hand(db, "w1")
    claimed, within = start(db, "once"), start(db, "inside")
    db.transact(sequences.begin, "s1")
    assert len(hand.claim()) == 2
    nothing = Deliveries([], [], [], [], {}, [], {}, set())
    request = TurnRequest(hand.id, hand.name, {"default": 1}, False, 0, 0, nothing, uncertain=uncertain)
    db.transact(deregister, request, hand.name)
    found = (state(db, claimed), attempts(db, claimed)[0].reason, state(db, within))
    assert found == (("queued", NEVER_STARTED, "running") if uncertain else ("lost", "its worker w1 left", "failed"))
    assert fleet(db)["w1"]["state"] == "stopped"
