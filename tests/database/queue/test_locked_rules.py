"""An open transaction that holds one rule's named lock, as one that called start_job, keeps no other job waiting."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac.database import locks
from jobfac.database.dialects import lease_now, utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import run, schedule, upstream_end, visit, worker_lease
from jobfac.states import RunState
from jobfac.store import jobs, runs, schedules, sequences
from jobfac.store.runs import Outcome, StartRequest
from jobfac.store.schedules import ArrivedFile
from jobfac.store.schedules.inserting import FREE_ROWS
from jobfac.worker.executions.deliveries import Deliveries
from jobfac.worker.files.targets import StepTarget
from jobfac.worker.turn import Turn, TurnRequest
from tests.database.triggers.test_after import after
from tests.support.database import Hand, start, states
from tests.support.sequences import Player
from tests.support.tsql import THROUGH_TSQL, define, execute, take

pytestmark = THROUGH_TSQL

LIMITED: dict[str, Any] = {"already_running": "queue"}
EVERY_MINUTE = {"schedules": [{"name": "s", "cron": "* * * * *"}]}
AT_ONCE = 5.0
"""Seconds: far less than the 20 for which a statement waits for a lock."""


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "MOMENT", 0.02)


@contextmanager
def held(db: Database, *jobs: str) -> Iterator[None]:
    """Inside, another transaction holds the named locks of these jobs' rules."""
    with db.engine.connect() as conn:
        locks.take(conn, {f"jobfac:job:{job}" for job in jobs})
        begun = time.monotonic()
        yield
        assert time.monotonic() - begun < AT_ONCE
        conn.rollback()


def started(db: Database) -> list[str]:
    with db.read() as conn:
        return list(conn.execute(sa.select(run.c.job).where(run.c.worker_id.is_(None)).order_by(run.c.job)).scalars())


def make_due(db: Database) -> None:
    late = {"fire_at": utcnow(-60_000), "next_due_at": utcnow(-60_000)}
    db.transact(lambda conn: conn.execute(schedule.update().values(late)))


def test_other_schedules_fire_and_the_locked_one_follows(db: Database) -> None:
    define(db, a={**LIMITED, **EVERY_MINUTE}, b=EVERY_MINUTE, c={**LIMITED, **EVERY_MINUTE})
    make_due(db)
    with held(db, "a"):
        inserted = db.transact(schedules.insert_due, "s1", 2, retry_for=0)  # a page of two, with the locked one
        assert (inserted.schedules, list(inserted.locked)) == (2, ["a"])
        assert started(db) == ["b", "c"]
        again = db.transact(schedules.insert_due, "s1", retry_for=0)
        assert (again.schedules, list(again.locked)) == (0, ["a"])
    assert db.transact(schedules.insert_due, "s1", retry_for=0).schedules == 1
    assert started(db) == ["a", "b", "c"]


def test_a_schedule_fires_although_many_take_turns_with_the_lock(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "MOMENT", 5.0)
    define(db, a={**LIMITED, **EVERY_MINUTE})
    make_due(db)
    taken = threading.Event()

    def take_a_turn() -> None:
        with db.engine.connect() as conn:
            locks.take(conn, {"jobfac:job:a"})
            taken.set()
            time.sleep(0.1)
            conn.rollback()

    other = threading.Thread(target=take_a_turn)
    other.start()
    assert taken.wait(AT_ONCE)
    assert db.transact(schedules.insert_due, "s1", retry_for=0).schedules == 1
    other.join()


@pytest.mark.alone
def test_a_lock_that_is_not_had_in_a_moment_is_not_waited_for_again_soon(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "MOMENT", 0.2)
    with held(db, "a", "b"):
        for waits in (True, True, False):
            with db.engine.connect() as conn, conn.begin():
                begun = time.monotonic()
                assert set(locks.take_soon(conn, {"jobfac:job:a", "jobfac:job:b", "jobfac:job:c"})) == {"jobfac:job:c"}
                assert (time.monotonic() - begun >= 0.2) == waits


def test_a_schedule_that_a_second_look_finds_waits_for_its_lock(db: Database) -> None:
    define(db, a={**LIMITED, **EVERY_MINUTE}, b=EVERY_MINUTE)
    make_due(db)
    db.transact(
        lambda conn: conn.execute(schedule.update().where(schedule.c.job == "b").values(fire_at=utcnow(-90_000)))
    )
    with held(db, "a"), db.engine.connect() as other:
        other.execute(FREE_ROWS.where(schedule.c.job == "b")).all()  # another scheduler, which inserts the first one
        assert db.transact(schedules.insert_due, "s1", 1, retry_for=0).schedules == 0
        other.rollback()
        assert db.transact(schedules.insert_due, "s1", 1, retry_for=0).schedules == 1
    assert started(db) == ["b"]


def test_other_followers_start(db: Database) -> None:
    define(db, up={}, x={**LIMITED, **after("up", on=["succeeded"])}, y=after("up", on=["succeeded"]))
    ended = db.transact(runs.start, StartRequest("up", "me"))
    worker_id = take(db)
    db.transact(runs.finish, worker_id, [Outcome(ended, 1, RunState.SUCCEEDED)], "w1")
    with held(db, "x"):
        inserted = db.transact(schedules.insert_followers, "s1", retry_for=0)
        assert (inserted.schedules, list(inserted.locked), started(db)) == (1, ["x"], ["y"])
    db.transact(schedules.insert_followers, "s1", retry_for=0)
    assert started(db) == ["x", "y"]
    with db.read() as conn:
        assert conn.execute(sa.select(upstream_end)).all() == []


def test_a_worker_leaves_files_and_steps_that_need_the_lock_to_a_later_look(db: Database) -> None:
    looks = {"name": "look", "wait": {"file": "/in/x"}}
    with_a = {"steps": [looks, {"name": "one", "jobs": ["a"]}]}
    define(db, a={**LIMITED, "schedules": [{"file": "/in/*.csv"}]}, with_a=with_a)
    start(db, "with_a")
    db.transact(sequences.begin, "s1")
    (watch,), (step,) = db.query(schedules.watched, ["default"]), db.query(sequences.looked_for, ["default"])
    files = [ArrivedFile("/in/1.csv", 1, 1)]
    with held(db, "a"):
        assert db.transact(schedules.start_arrived, watch, files, retry_for=0) == ([], {}, [])
        taken = db.transact(lambda conn: StepTarget("/in/x", 0, step).take(conn, files, "w1"), retry_for=0)
        assert (len(taken.handled), taken.number) == (0, 0)
    assert len(db.transact(schedules.start_arrived, watch, files, retry_for=0).runs) == 1
    assert db.transact(sequences.found, step, "it is there", "w1", retry_for=0)


def test_other_runs_of_dead_workers_are_expired(db: Database) -> None:
    steps = [{"name": "one", "jobs": ["b"]}, {"name": "two", "jobs": ["a"]}]
    define(db, a=LIMITED, b={}, inside={"steps": steps})
    hand = Hand(db, "w1")
    free, limited = start(db, "b"), start(db, "a")
    start(db, "inside")
    db.transact(sequences.begin, "s1")
    (within,) = {one.id for one in hand.claim()} - {free, limited}
    db.transact(lambda conn: conn.execute(worker_lease.update().values(lease_until=lease_now(-60_000))))
    with held(db, "a"):
        for dead in (["w1"], []):
            expiry = db.transact(sequences.expire, "s1", retry_for=0)
            assert (expiry.workers, expiry.pending, expiry.locked) == (dead, 1, 1)
            assert states(db, [free, limited, within]) == ["queued", "running", "running"]
    assert not db.transact(sequences.expire, "s1", retry_for=0).pending
    assert states(db, [free, limited, within]) == ["queued", "queued", "queued"]


def test_a_run_whose_stop_is_not_committed_keeps_no_other_run_with_a_dead_worker(db: Database) -> None:
    define(db, a={}, b={})
    hand = Hand(db, "w1")
    first, second = start(db, "a"), start(db, "b")
    hand.take()
    db.transact(lambda conn: conn.execute(worker_lease.update().values(lease_until=lease_now(-60_000))))
    with db.engine.connect() as somebody:
        somebody.exec_driver_sql(f"EXEC jobfac.stop_run @run = {first}")
        begun = time.monotonic()
        assert db.transact(sequences.expire, "s1", retry_for=0).workers == ["w1"]
        db.transact(sequences.expire, "s1", retry_for=0)
        assert time.monotonic() - begun < AT_ONCE
        assert states(db, [first, second]) == ["running", "queued"]
        somebody.commit()
    db.transact(sequences.expire, "s1", retry_for=0)
    assert states(db, [first, second]) == ["stopped", "queued"]


def test_a_run_whose_stop_is_not_committed_delays_only_what_replaces_it(db: Database) -> None:
    define(db, a={"already_running": "replace", **EVERY_MINUTE}, b=EVERY_MINUTE)
    first = start(db, "a")
    later = start(db, "a", delay=60), start(db, "b", delay=60)
    make_due(db)
    db.transact(
        lambda conn: conn.execute(run.update().where(run.c.state == "scheduled").values(ready_at=utcnow(-1000)))
    )
    with db.engine.connect() as somebody:
        somebody.exec_driver_sql(f"EXEC jobfac.stop_run @run = {first}")
        begun = time.monotonic()
        assert db.transact(schedules.insert_due, "s1", retry_for=0).schedules == 1
        assert db.transact(runs.promote_due, "s1", retry_for=0) == 1
        assert time.monotonic() - begun < AT_ONCE
        assert states(db, later) == ["scheduled", "queued"]
        somebody.commit()
    assert db.transact(schedules.insert_due, "s1", retry_for=0).schedules == 1
    assert db.transact(runs.promote_due, "s1", retry_for=0) == 1


def test_a_delayed_start_waits_for_the_lock_of_what_it_replaces(db: Database) -> None:
    """That run has the key of an earlier definition."""
    define(db, a={"concurrency": {"key": "k", "limit": 1}}, b={})
    start(db, "a")
    define(db, a={"already_running": "replace"})
    later = start(db, "a", delay=60), start(db, "b", delay=60)
    is_later = run.c.state == "scheduled"
    db.transact(lambda conn: conn.execute(run.update().where(is_later).values(ready_at=utcnow(-1000))))
    with db.engine.connect() as other:
        locks.take(other, {"jobfac:key:k"})
        assert db.transact(runs.promote_due, "s1", retry_for=0) == 1
        assert states(db, later) == ["scheduled", "queued"]
        other.rollback()
    assert db.transact(runs.promote_due, "s1", retry_for=0) == 1


def test_delayed_starts_that_wait_for_a_lock_do_not_hide_others(db: Database) -> None:
    define(db, a=LIMITED, b={})
    later = [start(db, job, delay=60) for job in ("a", "a", "b")]
    db.transact(lambda conn: conn.execute(run.update().values(ready_at=utcnow(-1000))))
    with held(db, "a"):
        assert db.transact(runs.promote_due, "s1", 1, retry_for=0) == 1  # a page of one, which is locked
        assert states(db, later) == ["scheduled", "scheduled", "queued"]


def test_other_sequences_begin_wake_and_are_swept(db: Database) -> None:
    steps = [{"name": "wait", "wait": {"duration": 3600}}]
    bodies = {job: {"steps": [*steps, {"name": "one", "jobs": [job]}]} for job in ("a", "b")}
    define(db, a=LIMITED, b={}, with_a=bodies["a"], with_b=bodies["b"])
    first, second = start(db, "with_a"), start(db, "with_b")
    with held(db, "a"):
        begun = db.transact(sequences.begin, "s1", 1, retry_for=0)  # a page of one, which is locked
        assert (begun.number, begun.locked) == (1, {"with_a"})
        assert states(db, [first, second]) == ["queued", "running"]
    assert db.transact(sequences.begin, "s1", retry_for=0).number == 1
    db.transact(lambda conn: conn.execute(visit.update().values(wake_at=utcnow(-1000))))
    with held(db, "a"):
        assert db.transact(sequences.wake, "s1", retry_for=0) == 1
        assert started(db) == ["b", "with_a", "with_b"]
    with db.engine.connect() as somebody:  # a stop of the sequence that is not committed
        somebody.exec_driver_sql(f"EXEC jobfac.stop_run @run = {first}")
        assert db.transact(sequences.wake, "s1", retry_for=0) == 0
        somebody.commit()
    assert db.transact(sequences.wake, "s1", retry_for=0) == 0
    db.transact(sequences.sweep, "s1", retry_for=0)
    assert states(db, [first, second]) == ["stopped", "running"]


def test_what_ends_the_runs_of_a_worker_locks_their_sequences_first(db: Database) -> None:
    """Who stops such a sequence at this moment would otherwise wait for them, and they for that: a deadlock."""
    define(db, a={"restartable": False}, s={"steps": [{"name": "one", "jobs": ["a"]}]})
    for leaves in (False, True):
        run_id = start(db, "s")
        player = Player(db)
        player.look()
        with ThreadPoolExecutor(1) as pool, db.begin() as conn:
            sequences.lock(conn, [run_id])
            late: Future[Any]
            if leaves:
                late = pool.submit(partial(db.transact, sequences.deregister, player.id, "w1", retry_for=0))
                wait([late], 0.2)
            else:
                player.lapse()
                late = pool.submit(partial(db.transact, sequences.expire, "s1", retry_for=0))
                assert late.result(AT_ONCE).runs == []
            sequences.stop(conn, run_id, now=False, by="ann")
        late.result(AT_ONCE)
        db.transact(sequences.expire, "s1", retry_for=0)
        assert states(db, [run_id]) == ["stopped"]


def test_sequences_that_wait_for_a_lock_cost_few_statements(db: Database) -> None:
    """Every worker looks at all of them after each of its turns while there are any."""
    define(db, a=LIMITED, s={"steps": [{"name": "one", "jobs": ["a"]}]})
    waiting = [start(db, "s") for _ in range(10)]
    sent: list[str] = []
    with held(db, "a"):
        sa.event.listen(db.engine, "before_cursor_execute", lambda conn, cursor, text, *more: sent.append(text))
        assert db.transact(sequences.begin, "s1", retry_for=0).locked == {"s"}
    assert len(sent) < 2 * len(waiting)


def test_a_worker_stores_other_outcomes_and_claims_while_some_wait(db: Database) -> None:
    define(db, a=LIMITED, b={}, c={}, inside={"steps": [{"name": "one", "jobs": ["a"]}]})
    hand = Hand(db, "w1")
    free, stopping, limited = start(db, "b"), start(db, "c"), start(db, "inside")
    db.transact(sequences.begin, "s1")
    taken = hand.claim()
    outcomes = [Outcome(one.id, 1, RunState.SUCCEEDED, rule=one.rule) for one in taken]
    within = {one.id: one.sequence_run_id for one in taken if one.sequence_run_id is not None}
    deliveries = Deliveries([], [], [], outcomes, within, [], {}, set(), {one.key: one.identity for one in taken})
    request = TurnRequest(hand.id, hand.name, {"default": 1}, False, 9, 9, deliveries, doubtful=True, patient=False)
    queued = start(db, "b")
    with held(db, "a"), db.engine.connect() as somebody:
        somebody.exec_driver_sql(f"EXEC jobfac.stop_run @run = {stopping}")  # not committed
        result = db.transact(Turn(request, {}).take, retry_for=0)
        assert set(result.left) == {stopping, *within}
        assert [one.id for one in result.claimed] == [queued], "a program that has ended is not started again"
        assert list(result.unowned) == []
        assert states(db, [free, stopping, *within]) == ["succeeded", "running", "running"]
        somebody.rollback()
    (again,) = result.claimed
    rest = replace(deliveries.without({free}), live={again.key: again.identity})
    assert not db.transact(Turn(replace(request, deliveries=rest), {}).take, retry_for=0).left
    assert states(db, [free, stopping, limited, queued]) == ["succeeded", "succeeded", "succeeded", "running"]


def test_a_worker_leaves_a_failure_whose_count_somebody_holds(db: Database) -> None:
    define(db, a={"pause_after": 2, **EVERY_MINUTE}, b={})
    hand = Hand(db, "w1")
    start(db, "a"), start(db, "b")
    taken = hand.claim()
    outcomes = [Outcome(one.id, 1, RunState.FAILED, rule=one.rule) for one in taken]
    deliveries = Deliveries([], [], [], outcomes, {}, [], {}, set(), {one.key: one.identity for one in taken})
    request = TurnRequest(hand.id, hand.name, {"default": 1}, False, 9, 9, deliveries, patient=False)
    definitions = {("a", 1): db.query(jobs.find_version, "a", 1)}
    with db.engine.connect() as other:
        locks.take(other, {schedules.failure_lock("a")})
        result = db.transact(Turn(request, definitions).take, retry_for=0)
    assert (list(result.left), states(db, [one.id for one in taken])) == ([taken[0].id], ["running", "failed"])


def test_sequences_begin_although_a_queued_run_of_a_held_job_is_locked(db: Database) -> None:
    """By a transaction that somebody has forgotten."""
    define(db, a={}, b={}, seq={"steps": [{"name": "one", "jobs": ["b"]}]})
    one, sequence = start(db, "a"), start(db, "seq")
    execute(db, "hold", job="a", reason="migration", by="boss")
    with db.engine.connect() as conn:
        conn.execute(sa.text(f"SELECT id FROM jobfac.run WITH (UPDLOCK, ROWLOCK) WHERE id = {one}"))
        assert db.transact(sequences.begin, "s1", retry_for=0).number == 1
        conn.rollback()
    assert states(db, [one, sequence]) == ["queued", "running"]
