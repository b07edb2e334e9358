"""The load of the coming days as the database knows it: schedules, usual durations, slots."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.database.tables import daily
from jobfac.operations import jobs, schedules
from jobfac.operations.caller import Caller
from jobfac.states import FINAL
from jobfac.store.schedules import load as store_load
from jobfac.store.schedules import read_load
from tests.support.database import Hand, now

ANN = Caller("ann")


def put(db: Database, job: str, **body: object) -> None:
    jobs.put(db, ANN, job, {"command": ["true"], **body} if "steps" not in body else body)


def took(db: Database, job: str, seconds: float, runs: int = 4) -> None:
    """Let a job have this average duration."""
    zeros = {column.name: 0 for column in daily.c if not column.nullable} | dict.fromkeys(map(str, FINAL), 0)
    row = zeros | {"day": now(db).date(), "job": job, "ran": runs, "run_ms": int(seconds * 1000 * runs)}
    with db.begin() as conn:
        conn.execute(daily.insert(), row)


def test_the_hours_of_a_pool_with_usual_durations(db: Database) -> None:
    put(db, "load", schedules=[{"cron": "0 * * * *"}])
    put(db, "new", pool="gpu", schedules=[{"cron": "30 * * * *"}])
    put(db, "off", enabled=False, schedules=[{"cron": "0 * * * *"}])
    put(db, "held", schedules=[{"cron": "0 * * * *"}])
    schedules.pause(db, ANN, ("held", None))
    took(db, "load", 1800)
    Hand(db, slots=2, pools=["default", "other"])
    found = db.query(read_load, 2)
    pools = {pool.pool: pool for pool in found.pools}
    assert {name: pool.slots for name, pool in pools.items()} == {"default": 2, "other": 2, "gpu": 0}
    assert found.until - found.since == timedelta(days=2)
    assert [(hour.runs, hour.busy_percent) for hour in pools["default"].hours] == [(1, 25.0)] * 48
    assert {hour.busy_percent for hour in pools["gpu"].hours} == {None}
    assert found.unknown == ["new"]
    assert found.moves == []


def test_the_steps_of_a_sequence_count_one_after_another(db: Database) -> None:
    put(db, "a")
    put(db, "b", pool="etl")
    put(db, "inner", steps=[{"name": "only", "jobs": ["b"]}])
    put(
        db,
        "all",
        steps=[{"name": "one", "jobs": ["a"]}, {"name": "two", "jobs": ["inner"]}],
        schedules=[{"cron": "0 12 * * *"}],
    )
    took(db, "a", 7200)
    took(db, "b", 600)
    Hand(db, pools=["default", "etl"])
    pools = {pool.pool: {hour.at.hour for hour in pool.hours if hour.runs} for pool in db.query(read_load, 2).pools}
    assert pools["default"] == {12}
    assert pools["etl"] == {14}


def test_labels_limits_followers_and_each_worker_count(db: Database) -> None:
    linux = {"labels": {"os": "linux"}}
    put(db, "extract", schedules=[{"cron": "0 * * * *"}])
    put(db, "load", schedules=[{"after": {"job": "extract"}}], **linux)
    put(db, "daily", schedules=[{"cron": "0 12 * * *"}], concurrency={"limit": 1, "key": "Ledger"})
    put(db, "cube", schedules=[{"after": {"all": [{"job": "extract"}, {"job": "daily"}]}}])
    put(db, "books", schedules=[{"cron": "0 12 * * *"}], concurrency={"limit": 1, "key": "ledger"})
    put(db, "clean", schedules=[{"cron": "0 3 * * *"}], each_worker=True)
    put(db, "alarm", schedules=[{"after": {"job": "extract", "on": ["failed"]}}])
    put(db, "wide", schedules=[{"cron": "0 4 * * *"}], slots=9)
    for job in ("extract", "load", "cube", "daily", "books", "clean", "wide"):
        took(db, job, 600)
    Hand(db, slots=4, pools=["default"])
    Hand(db, "w2", slots=4, pools=["default"])
    found = db.query(read_load, 2)
    (pool,) = found.pools
    assert pool.slots == 8
    hours, days = 48, 2
    assert sum(hour.runs for hour in pool.hours) == 2 * hours + days * (3 + 2 + 1)
    assert found.unserved == ["load", "wide"]
    assert found.limited == ["daily"]  # "books" comes first
    assert {hour.wait_seconds for hour in pool.hours} == {0}


def test_a_dense_schedule_is_counted_in_part(db: Database) -> None:
    put(db, "often", schedules=[{"every": "2s"}])
    found = db.query(read_load, 1)
    assert found.dense == ["often/1"]
    with db.read() as conn:
        assert conn.execute(sa.select(sa.func.count()).select_from(daily)).scalar_one() == 0


def test_many_schedules_that_are_due_very_often_share_the_work(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_load, "SPARSE", 10)
    monkeypatch.setattr(store_load, "TOTAL", 15)
    monkeypatch.setattr(store_load, "DENSE", 20)
    for job in "abc":
        put(db, job, schedules=[{"every": "1s"}])
    found = db.query(read_load, 1)
    assert sum(hour.runs for pool in found.pools for hour in pool.hours) == (10 + 10) + (10 + 5) + 10
    assert found.dense == ["a/1", "b/1", "c/1"]


def test_the_programs_of_large_sequences_are_counted_in_part(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each due time stands for all programs, and sequences in sequences for their product."""
    monkeypatch.setattr(store_load, "LARGE", 50)
    monkeypatch.setattr(store_load, "PROGRAMS", 90)
    put(db, "one")
    for level in range(8):
        inner = "one" if level == 0 else f"s{level - 1}"
        steps = [{"name": f"n{number}", "jobs": [inner]} for number in range(4)]
        put(db, f"s{level}", steps=steps, **({"schedules": [{"every": "1h"}]} if level == 7 else {}))
    put(db, "daily", schedules=[{"cron": "0 * * * *"}])
    found = db.query(read_load, 4)
    runs = sum(hour.runs for pool in found.pools for hour in pool.hours)
    assert 45 <= runs <= 2 * 90
    assert found.dense == ["daily/1", "s7/1"]
