"""The database's clock was ahead for a while and was set back: everything is due by the clock as it is now."""

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.engine import Database
from jobfac.database.tables import run, schedule, worker_lease
from jobfac.store import schedules, workers
from tests.support.database import Hand, define, now, start, state

DAY = timedelta(days=1)


def schedule_row(db: Database) -> Any:
    with db.read() as conn:
        return conn.execute(sa.select(schedule)).one()


def put(db: Database, **rule: Any) -> None:
    body = {"command": ["true"], "schedules": [rule]}
    db.transact(schedules.put, "job", d.from_data({"jobs": {"job": body}}).jobs["job"], "me")


def move(db: Database, **times: datetime | None) -> None:
    with db.begin() as conn:
        conn.execute(schedule.update().values(**times))


def due_times(db: Database) -> list[datetime]:
    with db.read() as conn:
        return list(conn.execute(sa.select(run.c.due_at).order_by(run.c.id)).scalars())


def test_a_schedule_that_moved_on_with_the_clock_is_due_again(db: Database) -> None:
    put(db, every="10m")
    first, at = schedule_row(db).next_due_at, now(db)
    assert db.transact(schedules.rewind, 0) == (None, 0)
    ahead = first + DAY
    move(db, next_due_at=ahead, fire_at=ahead, last_due_at=ahead - timedelta(minutes=10), resumed_at=at + DAY)
    assert db.transact(schedules.rewind, 0) == (None, 1)
    row = schedule_row(db)
    assert (row.next_due_at, row.fire_at, row.last_due_at, row.resumed_at <= now(db)) == (first, first, None, True)
    assert db.transact(schedules.rewind, 0) == (None, 0)


def test_a_due_time_that_has_a_run_gets_no_other_one(db: Database) -> None:
    at = now(db).replace(microsecond=0) + timedelta(hours=1)
    put(db, at=at.isoformat(), missed="once")
    row = schedule_row(db)
    define(db, other={})
    start(db, "other", schedule_id=row.id, due_at=at)  # it ran while the clock was ahead
    move(db, next_due_at=None, fire_at=None, last_due_at=at)
    assert db.transact(schedules.rewind, 0) == (None, 1)
    assert schedule_row(db).next_due_at == at
    move(db, fire_at=now(db) - timedelta(seconds=1))
    db.transact(schedules.insert_due, "s1")
    assert due_times(db) == [at]


def test_a_paused_or_disabled_schedule_and_one_that_is_late_stay_as_they_are(db: Database) -> None:
    put(db, every="10m", enabled=False)
    assert db.transact(schedules.rewind, 0) == (None, 0)
    put(db, every="10m")
    late = schedule_row(db).next_due_at - timedelta(hours=1)
    move(db, next_due_at=late, fire_at=late)
    assert db.transact(schedules.rewind, 0) == (None, 0)
    assert schedule_row(db).next_due_at == late


def test_the_lease_of_a_worker_that_died_while_the_clock_was_ahead_ends(db: Database) -> None:
    define(db, job={})
    dead, alive = Hand(db, "dead"), Hand(db, "alive")
    run_id = start(db, "job")
    dead.take()
    at = now(db) + DAY
    with db.begin() as conn:
        lease = worker_lease.update().where(worker_lease.c.worker_id == dead.id)
        conn.execute(lease.values(seen_at=at, lease_until=at + timedelta(seconds=15)))
    if db.dialect.gives_notice:  # SQLite: the lease clock does not step
        assert db.transact(workers.follow_clock) == 0
        return
    assert db.transact(workers.follow_clock) == 1
    with db.read() as conn:
        rows = {row.worker_id: row for row in conn.execute(sa.select(worker_lease))}
    left = (rows[dead.id].lease_until - now(db)).total_seconds()
    assert 0 < left <= 15
    assert rows[alive.id].lease_until > now(db) + timedelta(seconds=30)
    dead.lapse()
    db.transact(workers.expire, "sweeper")
    assert state(db, run_id) == "queued"
