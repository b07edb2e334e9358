"""A job with `each_worker`: one run for each live worker that fits, which no other worker takes."""

from typing import Any

import pytest
import sqlalchemy as sa

from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import run, worker
from jobfac.definitions import DefinitionError, from_data
from jobfac.doctor import factory
from jobfac.doctor.finding import State
from jobfac.errors import Refused
from jobfac.operations import holds, starting
from jobfac.operations.caller import Caller
from jobfac.states import RunState
from jobfac.store import overview, runs, sequences, statistics, workers
from jobfac.store.history import waiting
from jobfac.store.holds.placing import Scope
from jobfac.store.runs import StartRequest, pinning
from jobfac.store.workers import draining
from jobfac.store.workers.claiming import Claimed, Room
from jobfac.views.runs import RunView
from tests.support.database import Hand, define, get, state, states
from tests.support.outbox import notified_events, on

ME = Caller("me")
EACH: dict[str, dict[str, Any]] = {"each": {"each_worker": True, "labels": {"zone": "x"}, "slots": 2}}


def start(db: Database, job: str = "each", key: str | None = None) -> list[RunView]:
    return starting.start(db, ME, StartRequest(job, "me", key=key))


def claim(db: Database, hand: Hand, slots: int = 4) -> list[Claimed]:
    """Claim what is pinned to a worker, as a turn of its loop does."""

    def work(conn: sa.Connection) -> list[Claimed]:
        if not workers.hold(conn, hand.id).pinned:
            return []
        return workers.claim_pinned(conn, hand.id, hand.name, Room(slots, slots)).taken

    return db.transact(work)


@pytest.fixture
def fleet(db: Database) -> list[Hand]:
    """Two workers that fit, one without the label, one with too few slots, one that died, one draining."""
    define(db, **EACH)
    zone = {"zone": "x"}
    hands = [Hand(db, "w1", labels=zone, slots=2), Hand(db, "w2", labels=zone, slots=8)]
    Hand(db, "other", slots=8)
    Hand(db, "small", labels=zone, slots=1)
    Hand(db, "gone", labels=zone).die()
    db.transact(draining.drain, Hand(db, "leaves", labels=zone).id)
    return hands


def test_a_success_on_one_worker_is_no_recovery_of_another_one(db: Database, fleet: list[Hand]) -> None:
    define(db, each={**EACH["each"], "notify": [on("failed", "recovered")]})
    by_name = {hand.name: hand for hand in fleet}

    def run_all(*ends: RunState) -> list[int]:
        for one, end in zip(found := start(db), ends, strict=True):
            hand = by_name[one.for_worker or ""]
            (claimed,) = claim(db, hand)
            hand.end(claimed, end)
        return [one.id for one in found]

    def failures() -> list[list[int]]:
        in_view = sa.text(
            f"SELECT id FROM {'jobfac.' * (db.dialect.name == 'mssql')}v_failures WHERE unacknowledged = 1"
        )
        with db.read() as conn:
            rows = conn.execute(sa.select(run.c.id).where(run.c.state == "failed", run.c.acknowledged_at.is_(None)))
            stored = list(rows.scalars())
            return [[one.id for one in overview.read(conn).failures], list(conn.execute(in_view).scalars()), stored]

    bad, _ = run_all(RunState.FAILED, RunState.SUCCEEDED)
    db.transact(statistics.count)
    assert failures() == [[bad]] * 3
    run_all(RunState.SUCCEEDED, RunState.SUCCEEDED)
    assert failures() == [[], [], [bad]], "it is recorded within a minute"
    db.transact(statistics.count)
    assert failures() == [[], [], []]
    assert notified_events(db) == [("each", "failed"), ("each", "recovered")]


def test_one_run_for_each_worker_that_fits_and_only_that_worker_takes_it(db: Database, fleet: list[Hand]) -> None:
    started = start(db)
    assert [(row.for_worker, row.queue, row.slots, row.state) for row in started] == [
        ("w1", "@worker:w1", 2, "queued"),
        ("w2", "@worker:w2", 2, "queued"),
    ]
    assert [one.claim(9, ["default", "default[zone=x]*2"]) for one in fleet] == [[], []]
    for hand, row in zip(fleet, started, strict=True):
        assert [claimed.id for claimed in claim(db, hand)] == [row.id]
        assert claim(db, hand) == []


def test_what_does_not_fit_yet_waits(db: Database, fleet: list[Hand]) -> None:
    for _ in range(3):
        start(db)

    def work(conn: sa.Connection) -> workers.Pinned:
        workers.hold(conn, fleet[1].id)
        return workers.claim_pinned(conn, fleet[1].id, "w2", Room(5, 5))

    taken, waits = db.transact(work)
    assert ([claimed.weight for claimed in taken], waits) == ([2, 2], True)


def test_a_run_that_needs_more_slots_than_its_worker_has_keeps_nothing_waiting(db: Database, fleet: list[Hand]) -> None:
    _, big = start(db)
    db.transact(workers.deregister, fleet[1].id)
    small = Hand(db, "w2", labels={"zone": "x"}, slots=1)

    def work(conn: sa.Connection) -> workers.Pinned:
        workers.hold(conn, small.id)
        return workers.claim_pinned(conn, small.id, "w2", Room(1, 1))

    assert db.transact(work) == workers.Pinned([], waits=False)
    assert db.transact(runs.end_unserved, "s1") == [], "the worker may come back with its slots"
    _leave_long_ago(db)
    assert [one.run_id for one in db.transact(runs.end_unserved, "s1")] == [big.id]
    assert get(db, big.id)["reason"] == "its worker 'w2' came back with too few slots before it began"


def test_the_same_key_gives_the_same_runs_whoever_is_alive(db: Database, fleet: list[Hand]) -> None:
    first = start(db, key="k")
    Hand(db, "w3", labels={"zone": "x"})
    assert [row.id for row in start(db, key="k")] == [row.id for row in first]
    assert [row.for_worker for row in start(db, key="another")] == ["w1", "w2", "w3"]


def test_without_a_worker_that_fits_a_start_is_refused(db: Database) -> None:
    define(db, each={"each_worker": True})
    Hand(db, "w1", pools=["other"])
    with pytest.raises(Refused, match="runs on each worker, but no live worker takes runs of the queue 'default'"):
        start(db)
    Hand(db, "w2")
    with pytest.raises(Refused, match="start it without a count"):
        starting.start_many(db, ME, StartRequest("each", "me"), 2)


def test_a_run_whose_worker_left_while_the_clock_was_ahead_is_stopped(db: Database, fleet: list[Hand]) -> None:
    left = start(db)[1]
    db.transact(workers.deregister, fleet[1].id)
    with db.begin() as conn:
        conn.execute(worker.update().where(worker.c.id == fleet[1].id).values(ended_at=utcnow(100 * 86_400_000)))
    assert [one.run_id for one in db.transact(runs.end_unserved, "s1")] == [left.id]


def test_a_run_whose_worker_left_is_stopped(db: Database, fleet: list[Hand]) -> None:
    kept, left = start(db)
    assert db.transact(runs.end_unserved, "s1") == []
    db.transact(workers.deregister, fleet[1].id)
    _leave_long_ago(db)
    (ended,) = db.transact(runs.end_unserved, "s1")
    assert (ended.run_id, ended.state) == (left.id, RunState.STOPPED)
    assert get(db, left.id)["reason"] == "its worker 'w2' left before it began"
    with db.begin() as conn:
        conn.execute(run.update().where(run.c.id == left.id).values(state=RunState.QUEUED, ended_at=None, attempt=1))
    db.transact(runs.end_unserved, "s1")
    assert get(db, left.id)["reason"] == "its worker 'w2' left before its next attempt"
    assert state(db, kept.id) == "queued"


def test_a_retry_is_for_the_same_worker(db: Database, fleet: list[Hand]) -> None:
    first, second = start(db)
    for hand in fleet:
        (claimed,) = claim(db, hand)
        hand.end(claimed, RunState.FAILED)
    assert starting.retry(db, ME, second.id).for_worker == "w2"
    db.transact(workers.deregister, fleet[0].id)
    with pytest.raises(Refused, match="but the worker 'w1' is not alive or no longer takes its runs"):
        starting.retry(db, ME, first.id)
    define(db, each={})
    assert starting.retry(db, ME, first.id).for_worker is None


def test_runs_that_share_a_key_run_one_after_another(db: Database) -> None:
    define(db, each={"each_worker": True, "concurrency": {"key": "reboot"}})
    hands = [Hand(db, "w1"), Hand(db, "w2")]
    ids = [row.id for row in start(db)]
    assert states(db, ids) == ["queued", "blocked"]
    (claimed,) = claim(db, hands[0])
    hands[0].end(claimed)
    assert states(db, ids) == ["succeeded", "queued"]


def test_a_step_waits_for_all_of_them(db: Database, fleet: list[Hand]) -> None:
    define(db, **EACH, series={"steps": [{"name": "all", "jobs": ["each"]}]})
    (parent,) = start(db, "series")
    db.transact(sequences.begin, "s1")
    for hand in fleet:
        assert state(db, parent.id) == "running"
        (claimed,) = claim(db, hand)
        db.transact(sequences.advance_after, hand.end(claimed), "s1")
    assert state(db, parent.id) == "succeeded"


def test_the_overview_and_the_queue_name_the_worker(db: Database, fleet: list[Hand]) -> None:
    started = start(db)
    with db.read() as conn:
        shown = waiting.explained(conn, started)
    assert [row.waits_for for row in shown] == [
        "worker w1, which alone may claim it",
        "worker w2, which alone may claim it",
    ]
    assert [(one.pool, one.number) for one in db.query(overview.read).queued] == [("@worker:w1", 1), ("@worker:w2", 1)]
    schema = "jobfac." if db.dialect.name == "mssql" else ""
    with db.read() as conn:
        waits = conn.exec_driver_sql(f"SELECT waits_for FROM {schema}v_queue ORDER BY id").scalars().all()
        kept = conn.exec_driver_sql(f"SELECT for_worker FROM {schema}v_runs ORDER BY id").scalars().all()
        live = conn.exec_driver_sql(f"SELECT pool_workers FROM {schema}v_queue ORDER BY id").scalars().all()
        problems = conn.exec_driver_sql(f"SELECT problem FROM {schema}v_health").scalars().all()
    assert (waits, kept) == (
        ["worker w1, which alone may claim it", "worker w2, which alone may claim it"],
        ["w1", "w2"],
    )
    assert (live, problems) == ([1, 1], []), "the worker is there, so nothing asks for another one"


def test_a_run_that_waits_for_the_hold_of_a_pool_of_its_worker_says_so(db: Database) -> None:
    define(db, each={"each_worker": True}, other={"pool": "etl"})
    Hand(db, "w1")
    Hand(db, "w2", pools=["default", "etl"])
    ids = [row.id for row in start(db)]
    holds.hold(db, ME, Scope(pool="etl"), "why")
    schema = "jobfac." if db.dialect.name == "mssql" else ""
    with db.read() as conn:
        held = [runs.get(conn, one).held for one in ids]
        waits = list(waiting.reasons(conn, ids).values())
        in_view = conn.exec_driver_sql(f"SELECT waits_for, hold_id FROM {schema}v_queue ORDER BY id").all()
    assert held == [None, "hold 1 of pool etl: why"]
    assert sorted(waits) == ["hold 1 of pool etl: why", "worker w1, which alone may claim it"]
    assert [tuple(row) for row in in_view] == [("worker w1, which alone may claim it", None), (held[1], 1)]
    holds.hold(db, ME, Scope(pool="default"), "its own pool")
    with db.read() as conn:
        assert [runs.get(conn, one).held for one in ids] == ["hold 2 of pool default: its own pool", held[1]]


def test_a_run_whose_worker_claims_nothing_says_why(db: Database) -> None:
    define(db, each={"each_worker": True}, plain={})
    hand = Hand(db, "w1")
    ids = [one.id for name in ("each", "plain") for one in start(db, name)]
    db.transact(workers.set_message, hand.id, "claims nothing: 1 MiB of memory is free")
    schema = "jobfac." if db.dialect.name == "mssql" else ""
    with db.read() as conn:
        waits = waiting.reasons(conn, ids)
        in_view = conn.exec_driver_sql(f"SELECT waits_for FROM {schema}v_queue").scalars().all()
    assert [*waits.values(), *in_view] == ["worker w1 claims nothing: 1 MiB of memory is free"] * 4
    hand.lapse()
    with db.read() as conn:
        waits = waiting.reasons(conn, ids)
        in_view = conn.exec_driver_sql(f"SELECT waits_for FROM {schema}v_queue").scalars().all()
    assert sorted(in_view) == sorted(waits.values()), "a worker whose lease has expired says nothing"


def test_a_rule_that_would_keep_the_others_out_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"has each_worker and already_running: deny, .* use concurrency with"):
        from_data({"jobs": {"a": {"command": ["x"], "each_worker": True, "already_running": "deny"}}})


def test_a_run_waits_for_a_worker_that_is_being_started_again(db: Database, fleet: list[Hand]) -> None:
    """Or whose lease could not be renewed, because the database was locked or away."""
    kept, left = start(db)
    fleet[0].lapse()
    db.transact(workers.deregister, fleet[1].id)
    assert db.transact(runs.end_unserved, "s1") == []
    assert states(db, [kept.id, left.id]) == ["queued", "queued"]
    fleet[0].die()
    db.transact(draining.drain, Hand(db, "w2", labels={"zone": "x"}).id)
    assert db.transact(runs.end_unserved, "s1") == []
    _leave_long_ago(db)
    assert [one.run_id for one in db.transact(runs.end_unserved, "s1")] == [kept.id]


def _leave_long_ago(db: Database) -> None:
    long_ago = utcnow(-(pinning.RETURN + 1) * 1000)
    with db.begin() as conn:
        conn.execute(worker.update().where(worker.c.ended_at.is_not(None)).values(ended_at=long_ago))


def test_workers_whose_lease_nobody_could_renew_are_alive_until_an_expiry_says_otherwise(
    db: Database, fleet: list[Hand]
) -> None:
    """The database was away, or SQLite's write lock was held, for longer than a lease. One worker renews it first."""
    fleet[0].lapse()
    assert [row.for_worker for row in start(db)] == ["w1", "w2"]


def test_the_doctor_warns_of_live_workers_with_one_name(db: Database) -> None:
    """They share one run of a job with `each_worker`: it is executed on one of their machines only."""
    for name in ("batch", "other", "batch"):
        Hand(db, name=name)
    warning, _ = db.query(factory.workers)
    assert (warning.state, warning.found) == (State.WARNING, "several live workers have one name: batch")
    assert warning.remedy.startswith("Give each worker a --name of its own")
