"""Admission to the queue: the already-running policy and the concurrency limits."""

from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import run
from jobfac.states import RunState
from jobfac.store import runs, workers
from jobfac.store.history import search
from jobfac.store.runs import Outcome, StartRequest, admission
from tests.support.database import Hand, attempts, define, events, get, make_due, start, state, states, together

ALONE = {"already_running": "queue"}


def test_start_admits_every_run(db: Database) -> None:
    define(db, job={})
    assert states(db, [start(db, "job") for _ in range(3)]) == ["queued"] * 3


def test_deny_refuses_while_another_run_is_active(db: Database) -> None:
    define(db, job={"already_running": "deny"})
    first, second = start(db, "job"), start(db, "job")
    assert states(db, [first, second]) == ["queued", "denied"]
    row = get(db, second)
    assert (row["reason"], events(db, second)) == ("another run of the job is still active", ["denied"])
    assert row["ended_at"] == row["created_at"]
    hand = Hand(db)
    claimed = hand.take()
    assert state(db, start(db, "job")) == "denied"
    db.transact(runs.request_stop, first, now=False, by="me")
    assert state(db, start(db, "job")) == "denied"
    hand.end(claimed, RunState.STOPPED)
    assert state(db, start(db, "job")) == "queued"


def test_deny_counts_a_run_between_two_attempts_but_not_a_delayed_start(db: Database) -> None:
    define(db, job={"already_running": "deny"})
    start(db, "job", delay=86400.0)
    first = start(db, "job")
    assert state(db, first) == "queued"
    hand = Hand(db)
    hand.end(hand.take(), RunState.FAILED, retry_after=3600.0)
    assert states(db, [first, start(db, "job")]) == ["scheduled", "denied"]
    make_due(db)
    db.transact(runs.promote_due, "w1")
    assert state(db, first) == "queued"


def test_a_delayed_start_is_denied_when_it_is_due(db: Database) -> None:
    define(db, job={"already_running": "deny"})
    later = start(db, "job", delay=3600.0)
    start(db, "job")
    make_due(db)
    assert db.transact(runs.promote_due, "w1") == 1
    assert (state(db, later), events(db, later)) == ("denied", ["scheduled", "denied"])
    assert get(db, later)["reason"] == "another run of the job is still active"


def test_queue_admits_one_run_at_a_time_by_priority(db: Database) -> None:
    define(db, job=ALONE)
    ids = [start(db, "job", priority=priority) for priority in (0, 1, 5, 1)]
    assert states(db, ids) == ["queued", "blocked", "blocked", "blocked"]
    hand = Hand(db)
    order = []
    for _ in ids:
        claimed = hand.take()
        order.append(claimed.id)
        assert hand.claim() == []
        hand.end(claimed)
    assert order == [ids[0], ids[2], ids[1], ids[3]]
    assert events(db, ids[1]) == ["blocked", "queued", "running", "succeeded"]


def test_replace_stops_the_other_runs(db: Database) -> None:
    define(db, job={"already_running": "replace"})
    first = start(db, "job")
    hand = Hand(db)
    claimed = hand.take()
    second = start(db, "job")
    assert states(db, [first, second]) == ["stopping", "blocked"]
    assert get(db, first)["stop_by"] == "tester (replaced)"
    third = start(db, "job")
    assert states(db, [first, second, third]) == ["stopping", "stopped", "blocked"]
    hand.end(claimed, RunState.STOPPED)
    assert states(db, [first, second, third]) == ["stopped", "stopped", "queued"]


def test_replace_does_not_stop_a_delayed_start(db: Database) -> None:
    define(db, job={"already_running": "replace"})
    later = start(db, "job", delay=3600.0)
    first = start(db, "job")
    assert states(db, [later, first]) == ["scheduled", "queued"]
    hand = Hand(db)
    claimed = hand.take()
    make_due(db)
    assert db.transact(runs.promote_due, "w1") == 1
    assert states(db, [first, later]) == ["stopping", "blocked"]
    hand.end(claimed, RunState.STOPPED)
    assert state(db, later) == "queued"


def test_replace_stops_a_run_between_two_attempts(db: Database) -> None:
    define(db, job={"already_running": "replace"})
    first = start(db, "job")
    hand = Hand(db)
    hand.end(hand.take(), RunState.FAILED, retry_after=3600.0)
    second = start(db, "job", delay=3600.0)
    make_due(db)
    db.transact(runs.promote_due, "w1")
    assert states(db, [first, second]) == ["stopped", "queued"]


def test_a_concurrency_key_is_shared_by_jobs(db: Database) -> None:
    limit = {"concurrency": {"limit": 2, "key": "orders"}}
    define(db, a=limit, b=limit, c={"concurrency": {"limit": 1, "key": "other"}})
    ids = [start(db, job) for job in "abbac"]
    assert states(db, ids) == ["queued", "queued", "blocked", "blocked", "queued"]
    hand = Hand(db)
    first, *_ = hand.claim()
    hand.end(first)
    assert states(db, ids)[1:] == ["running", "queued", "blocked", "running"]


def test_a_key_and_a_policy_apply_together(db: Database) -> None:
    define(db, a={**ALONE, "concurrency": {"key": "k"}}, b={"concurrency": {"key": "k"}})
    ids = [start(db, job) for job in "aab"]
    assert states(db, ids) == ["queued", "blocked", "blocked"]
    hand = Hand(db)
    done = []
    while claimed := hand.claim():
        assert len(claimed) == 1
        done.append(claimed[0].id)
        hand.end(claimed[0])
    assert done == ids


def stopped_between_two_attempts(db: Database, hand: Hand) -> None:
    claimed = hand.take()
    hand.end(claimed, RunState.FAILED, retry_after=3600.0)
    db.transact(runs.request_stop, claimed.id, now=False, by="me")


def stopped_in_the_queue(db: Database, hand: Hand) -> None:
    with db.read() as conn:
        (first,) = [row.id for row in search.find_all(conn, search.Filter(states=[RunState.QUEUED]), 50)]
    db.transact(runs.request_stop, first, now=False, by="me")


def lost_with_its_worker(db: Database, hand: Hand) -> None:
    hand.take()
    hand.die()


def requeued_and_not_restartable(db: Database, hand: Hand) -> None:
    hand.end(hand.take(), RunState.QUEUED, pid=1)


@pytest.mark.parametrize(
    "way",
    [stopped_between_two_attempts, stopped_in_the_queue, lost_with_its_worker, requeued_and_not_restartable],
    ids=lambda f: f.__name__,
)
def test_every_end_of_a_run_admits_a_waiting_run(db: Database, way: Any) -> None:
    define(db, job={**ALONE, "restartable": False})
    waiting = [start(db, "job"), start(db, "job")][1]
    assert state(db, waiting) == "blocked"
    way(db, Hand(db))
    assert state(db, waiting) == "queued"


def test_a_requeued_run_keeps_its_place(db: Database) -> None:
    define(db, job=ALONE)
    ids = [start(db, "job"), start(db, "job")]
    hand = Hand(db)
    hand.take()
    hand.die()
    assert states(db, ids) == ["queued", "blocked"]
    assert Hand(db, "w2").take().id == ids[0]


def test_a_retry_waits_for_runs_of_its_key_admitted_meanwhile(db: Database) -> None:
    define(db, job={"concurrency": {"key": "k"}})
    ids = [start(db, "job"), start(db, "job")]
    hand = Hand(db)
    hand.end(hand.take(), RunState.FAILED, retry_after=3600.0)
    second = hand.take()
    make_due(db)
    db.transact(runs.promote_due, "w1")
    assert states(db, ids) == ["blocked", "running"]
    hand.end(second)
    assert states(db, ids) == ["queued", "succeeded"]
    assert len(attempts(db, ids[0])) == 1


def test_the_sweep_admits_waiting_runs(db: Database) -> None:
    define(db, job=ALONE)
    first, waiting = start(db, "job"), start(db, "job")
    with db.begin() as conn:
        conn.execute(run.delete().where(run.c.id == first))
    assert db.transact(runs.release_blocked, None, "sweeper") == 1
    assert state(db, waiting) == "queued"
    assert db.transact(runs.release_blocked, None, "sweeper") == 0


def test_many_waiting_runs_cost_few_statements(db: Database) -> None:
    """Admission is decided once for all waiting runs with the same rule."""
    define(db, job=ALONE)
    db.transact(runs.start_many, StartRequest("job", "tester"), 40)
    hand = Hand(db)
    claimed = hand.take()
    statements: list[str] = []

    def listen(conn: Any, cursor: Any, statement: str, *more: Any) -> None:
        statements.append(statement)

    sa.event.listen(db.engine, "before_cursor_execute", listen)
    hand.end(claimed)
    assert len(statements) < 20


@pytest.mark.parametrize(
    ("policy", "others"),
    [({"already_running": "deny"}, "denied"), (ALONE, "blocked"), ({"concurrency": {"key": "k"}}, "blocked")],
)
def test_of_many_concurrent_starts_one_is_admitted(db: Database, policy: dict[str, Any], others: str) -> None:
    define(db, job=policy)
    ids = together(8, lambda _: start(db, "job"))
    assert sorted(states(db, ids)) == [others] * 7 + ["queued"]


def test_of_many_runs_that_replace_each_other_one_remains(db: Database) -> None:
    define(db, job={"already_running": "replace"})
    ids = together(8, lambda _: start(db, "job"))
    assert sorted(states(db, ids)) == ["queued"] + ["stopped"] * 7


def test_concurrent_starts_and_ends_leave_no_run_waiting(db: Database) -> None:
    """A start that is concurrent with the last run's end either sees the end, or the end sees the start."""
    define(db, job=ALONE)
    hands = [Hand(db, f"w{number}") for number in range(3)]
    running: list[int] = []

    def work(position: int) -> int:
        if position >= len(hands):
            return len([start(db, "job") for _ in range(8)])
        done = 0
        while done < 8:
            for claimed in hands[position].claim(1):
                running.append(claimed.id)
                assert len(running) == 1, "two runs of the job at once"
                running.remove(claimed.id)
                hands[position].end(claimed)
                done += 1
        return done

    assert together(6, work) == [8] * 6


def test_a_start_waits_for_a_concurrent_end(db: Database) -> None:
    define(db, job=ALONE)
    start(db, "job")
    hand = Hand(db)
    claimed = hand.take()
    with ThreadPoolExecutor(1) as pool:
        with db.begin() as conn:
            runs.finish(conn, hand.id, [Outcome(claimed.id, claimed.attempt, RunState.SUCCEEDED)], "w1")
            later = pool.submit(start, db, "job")
            wait([later], timeout=0.3)
        assert state(db, later.result(30)) == "queued"


def test_an_end_waits_for_a_concurrent_start(db: Database) -> None:
    define(db, job=ALONE)
    start(db, "job")
    hand = Hand(db)
    claimed = hand.take()
    with ThreadPoolExecutor(1) as pool:
        with db.begin() as conn:
            waiting = runs.start(conn, StartRequest("job", "tester"))
            end = pool.submit(hand.end, claimed)
            wait([end], timeout=0.3)
        end.result(30)
    assert state(db, waiting) == "queued"


def test_the_limit_holds_after_a_crash_of_all_workers(db: Database) -> None:
    define(db, job={"concurrency": {"limit": 2, "key": "k"}})
    ids = [start(db, "job") for _ in range(4)]
    hands = [Hand(db, "w1"), Hand(db, "w2")]
    for hand in hands:
        hand.take()
        hand.lapse()
    together(4, lambda _: db.transact(workers.expire, "sweeper"))
    assert states(db, ids) == ["queued", "queued", "blocked", "blocked"]
    heir = Hand(db, "w3")
    for _ in range(2):
        claimed = heir.claim()
        assert len(claimed) == 2
        for one in claimed:
            heir.end(one)
    assert states(db, ids) == ["succeeded"] * 4


def test_a_long_backlog_hides_no_other_waiting_run(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "BATCH", 5)
    define(db, long=ALONE, short=ALONE, keyed={"concurrency": {"key": "k"}})
    jobs = ["long", "short", "keyed"]
    first = [start(db, job) for job in jobs]
    backlog = [start(db, "long") for _ in range(7)]
    others = [start(db, job) for job in jobs[1:]]
    hand = Hand(db)
    ended = [Outcome(one.id, one.attempt, RunState.SUCCEEDED) for one in hand.claim()]
    assert {one.run_id for one in ended} == set(first)
    db.transact(runs.finish, hand.id, ended, hand.name)  # in one turn
    assert states(db, others) == ["queued"] * 2
    assert states(db, backlog) == ["queued"] + ["blocked"] * 6


def test_the_sweep_admits_what_waits_behind_a_long_backlog(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "BATCH", 5)
    define(db, long=ALONE, short=ALONE)
    for _ in range(7):
        start(db, "long")
    running, waits = start(db, "short"), start(db, "short")
    with db.begin() as conn:  # as a statement of a DBA
        conn.execute(run.update().where(run.c.id == running).values(state="stopped", ended_at=utcnow()))
    assert db.transact(runs.release_blocked, None, "sweeper") == 1
    assert state(db, waits) == "queued"
