"""What was put off or recorded while the database's clock was far ahead holds nothing back after it was set back."""

from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import run, schedule, scheduler, upstream_end
from jobfac.store import jobs, schedulers, schedules
from tests.support.database import Hand, define, now, start

DAY = timedelta(days=1)


def put(db: Database, **rule: Any) -> None:
    """Store a job with this schedule; it may follow the jobs that exist."""
    with db.read() as conn:
        known = {one.id: {"command": ["true"]} for one in jobs.load_all(conn)}
    bodies = {**known, "job": {"command": ["true"], "schedules": [rule]}}
    db.transact(schedules.put, "job", d.from_data({"jobs": bodies}).jobs["job"], "me")


def schedule_row(db: Database) -> Any:
    with db.read() as conn:
        return conn.execute(sa.select(schedule)).one()


def move(db: Database, **times: datetime | None) -> None:
    with db.begin() as conn:
        conn.execute(schedule.update().values(**times))


@pytest.mark.parametrize("more", [{}, {"blackout": ["SAT 00:00 - SAT 00:01"]}])
def test_a_schedule_that_was_put_off_while_the_clock_was_ahead_fires(db: Database, more: dict[str, Any]) -> None:
    """By a hold or a blackout, which end long before the time for which it was put off."""
    put(db, cron="0 6 * * *", **more)
    first, at = schedule_row(db).next_due_at, now(db)
    move(db, fire_at=at + 100 * DAY, resumed_at=at + 100 * DAY)
    assert db.transact(schedules.rewind, 0) == (None, 1)
    row = schedule_row(db)
    assert (row.next_due_at, row.fire_at) == (first, first)
    late = (at - timedelta(minutes=5)).replace(microsecond=0)
    soon = at + timedelta(seconds=50)
    move(db, next_due_at=late, fire_at=soon)
    assert db.transact(schedules.rewind, 0) == (None, 0), "a hold looks at it again every minute"
    move(db, fire_at=at + DAY)
    db.transact(schedules.rewind, 0)
    assert schedule_row(db).fire_at == late


def test_a_schedule_in_a_blackout_is_not_due_before_its_end(db: Database) -> None:
    put(db, every="10m", blackout=["2020-01-01 00:00 - 2099-01-01 00:00"])
    at = now(db)
    end = datetime(2099, 1, 1, tzinfo=at.tzinfo)
    move(db, next_due_at=at - timedelta(minutes=5), fire_at=end)
    db.transact(schedules.rewind, 0)
    assert schedule_row(db).fire_at == end


def test_what_an_end_or_a_file_starts_is_due_by_the_clock_as_it_is_now(db: Database) -> None:
    """The run that came while the clock was ahead has a due time that the others must not follow."""
    define(db, first={})
    put(db, after={"job": "first"})
    ahead = now(db) + 100 * DAY
    define(db, other={})
    start(db, "other", schedule_id=schedule_row(db).id, due_at=ahead)
    move(db, last_due_at=ahead)
    assert db.transact(schedules.rewind, 0) == (None, 1)
    assert schedule_row(db).last_due_at is None
    hand = Hand(db)
    hand.claim()
    for _ in range(2):
        start(db, "first")
        hand.end(hand.take())
    db.transact(schedules.insert_followers, "s1")
    with db.read() as conn:
        found = conn.execute(sa.select(run.c.due_at).where(run.c.job == "job").order_by(run.c.id)).scalars().all()
    assert [due <= now(db) for due in found] == [True, True]
    assert found[0] < found[1]
    assert not db.query(schedules.is_behind)


def test_an_end_while_the_clock_was_ahead_makes_no_other_one_too_old(db: Database) -> None:
    names = ("first", "second")
    define(db, **{name: {} for name in names})
    put(db, after={"all": [{"job": name} for name in names]}, within="1h")
    hand = Hand(db)
    start(db, "first")
    hand.end(hand.take())
    with db.begin() as conn:
        conn.execute(upstream_end.update().values(ended_at=utcnow(100 * 86_400_000)))
    assert db.transact(schedules.follow_clock) == 1
    assert db.transact(schedules.follow_clock) == 0
    start(db, "second")
    hand.end(hand.take())
    assert len(db.transact(schedules.insert_followers, "s1").runs) == 1


@pytest.mark.parametrize(
    ("ran", "missed"),
    [((60, 50, 40), [30]), ((60, 40, 10, 0), [50]), ((0,), [60]), ((60, 50, 40, 30, 20, 10, 0), []), ((), [60])],
)
def test_due_times_that_have_runs_are_not_missed_after_the_clock_was_behind(
    db: Database, ran: tuple[int, ...], missed: list[int]
) -> None:
    """They ran before it was set back, and the schedule was due at them again."""
    put(db, every="10m")
    last = schedule_row(db).next_due_at - timedelta(minutes=10)
    define(db, other={})
    for minutes in ran:
        start(db, "other", schedule_id=schedule_row(db).id, due_at=last - timedelta(minutes=minutes))
    begin = last - timedelta(minutes=60)
    move(db, next_due_at=begin, fire_at=begin)
    found = db.transact(schedules.insert_due, "s1").misses
    assert [one.since for one in found] == [last - timedelta(minutes=minutes) for minutes in missed]


def test_a_scheduler_that_died_while_the_clock_was_ahead_is_not_alive(db: Database) -> None:
    db.transact(schedulers.register, "dead")
    with db.begin() as conn:
        conn.execute(scheduler.update().values(seen_at=utcnow(100 * 86_400_000)))
    assert db.query(schedulers.number_alive) == 0
    assert db.transact(schedulers.follow_clock) == 1
    assert db.transact(schedulers.follow_clock) == 0
    assert db.query(schedulers.number_alive) == 1, "one that lives is not missed before its next report"
