"""The database's clock was ahead for a while and was set back: everything is due by the clock as it is now."""

import re
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import expectation, notification, run, schedule, upstream_end, visit, worker_lease
from jobfac.scheduler import Scheduler
from jobfac.scheduler.purging import STEP_PAUSE, Purging
from jobfac.settings import Settings
from jobfac.states import RunState
from jobfac.store import outbox, retention, runs, schedulers, schedules, sequences, upstream, watching, workers
from jobfac.store.runs import admission
from jobfac.telemetry.logs import SILENCE
from tests.support.database import Hand, define, get, now, start, state
from tests.support.factory import wait_for

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


@pytest.mark.parametrize("passed", [None, timedelta(minutes=50), timedelta(minutes=10)])
def test_a_stored_time_that_newer_data_on_zones_do_not_have_is_moved(db: Database, passed: timedelta | None) -> None:
    """06:00 is half an hour later than it was: once before it, once after its run, once just before the new time."""
    at = now(db).replace(second=0, microsecond=0)
    if passed is None:
        put(db, at=(at + DAY).isoformat())
        due, stored, last = at + DAY, at + DAY - timedelta(minutes=30), None
    else:
        first = at - passed + timedelta(minutes=30)
        put(db, every="24h", starts=first.isoformat())
        due, stored, last = first + DAY, at - passed + DAY, at - passed
    move(db, next_due_at=stored, fire_at=stored, last_due_at=last)
    assert db.transact(schedules.rewind, 0, False) == (None, 1)
    row = schedule_row(db)
    assert (row.next_due_at, row.fire_at, row.last_due_at) == (due, due, last)
    assert db.transact(schedules.rewind, 0, False) == (None, 0)


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


def test_a_scheduler_notices_it(db: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    put(db, every="10m")
    first = schedule_row(db).next_due_at
    scheduler = Scheduler(db, settings, "s1")
    scheduler._turn()
    move(db, next_due_at=first + DAY, fire_at=first + DAY)
    poll = scheduler._poll
    with monkeypatch.context() as ahead:
        ahead.setattr(scheduler, "_poll", lambda: (seen := poll())._replace(now=seen.now + timedelta(hours=1)))
        scheduler._turn()
    assert schedule_row(db).next_due_at == first + DAY
    wait_for(lambda: scheduler._turn() is not None and schedule_row(db).next_due_at == first)  # between writes it rests


def test_a_scheduler_that_starts_after_it_notices_it_by_the_runs(db: Database, settings: Settings) -> None:
    put(db, every="10m")
    first = schedule_row(db).next_due_at
    assert not db.query(schedules.is_behind)
    move(db, next_due_at=first + DAY, fire_at=first + DAY, last_due_at=first + DAY - timedelta(minutes=10))
    assert db.query(schedules.is_behind)
    scheduler = Scheduler(db, settings, "s1")
    scheduler.stop()
    scheduler.run()
    assert schedule_row(db).next_due_at == first + DAY, "it had no turn"
    scheduler._turn()
    assert schedule_row(db).next_due_at == first
    assert not db.query(schedules.is_behind)


def test_nothing_is_purged_for_hours_after_the_clock_was_set_forward(
    db: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The history would be gone when the clock is right again."""
    define(db, job={})
    hand, run_id, last = Hand(db), start(db, "job"), start(db, "job")
    for claimed in hand.claim():
        hand.end(claimed)
    scheduler = Scheduler(db, settings, "s1")
    scheduler._turn()
    with db.begin() as conn:  # what a clock that is a year ahead sees
        conn.execute(run.update().values(ended_at=utcnow(-365 * 86_400_000)))
    poll = scheduler._poll
    monkeypatch.setattr(scheduler, "_poll", lambda: (seen := poll())._replace(now=seen.now + 365 * DAY))
    scheduler._turn()
    assert scheduler._purging.step() > 3600
    assert state(db, run_id) == "succeeded"
    again = Purging(db, settings, SILENCE)
    while again.step() == STEP_PAUSE:
        pass
    with db.read() as conn:
        assert conn.execute(sa.select(run.c.id)).scalars().all() == [last], "without a doubt it is purged"


def test_a_scheduler_that_starts_long_after_the_last_run_purges_nothing_for_hours(
    db: Database, settings: Settings
) -> None:
    define(db, job={})
    assert not db.query(retention.is_silent)
    start(db, "job")
    assert not db.query(retention.is_silent)
    with db.begin() as conn:
        conn.execute(run.update().values(created_at=utcnow(-2 * 86_400_000)))
    scheduler = Scheduler(db, settings, "s1")
    scheduler.stop()
    scheduler.run()
    assert scheduler._purging.step() > 3600


def test_a_scheduler_that_starts_uses_its_own_data_on_zones_and_holidays(db: Database, settings: Settings) -> None:
    """The stored time was computed with older data: the day was no holiday, or the zone's clocks were not to change."""
    put(db, dates={"days_of_month": [1]}, times={"at": ["06:00"]})
    first, month = schedule_row(db).next_due_at, timedelta(days=30)
    later = first + timedelta(hours=1)
    for last in (None, first - month):
        move(db, next_due_at=later, fire_at=later, last_due_at=last)
        Scheduler(db, settings, "s1")._turn()
        row = schedule_row(db)
        assert (row.next_due_at, row.fire_at, row.last_due_at) == (first, first, last)


def test_a_due_time_that_newer_data_have_made_later_gets_no_second_run(db: Database, settings: Settings) -> None:
    put(db, dates={"days_of_month": [1]}, times={"at": ["06:00"]})
    first = schedule_row(db).next_due_at
    following = (first + timedelta(days=31)).replace(day=1)
    move(db, next_due_at=following, fire_at=following, last_due_at=first - timedelta(days=3))  # it ran early
    Scheduler(db, settings, "s1")._turn()
    assert schedule_row(db).next_due_at == following


def test_a_schedule_that_was_resumed_while_the_clock_was_ahead_misses_nothing_for_that(db: Database) -> None:
    define(db, first={})
    bodies = {"first": {"command": ["true"]}, "job": {"command": ["true"], "schedules": [{"after": {"job": "first"}}]}}
    db.transact(schedules.put, "job", d.from_data({"jobs": bodies}).jobs["job"], "me")
    move(db, resumed_at=now(db) + DAY)
    assert db.transact(schedules.rewind, 0) == (None, 1)
    assert schedule_row(db).resumed_at <= now(db)
    assert db.transact(schedules.rewind, 0) == (None, 0)
    hand, run_id = Hand(db), start(db, "first")
    hand.end(hand.take())
    inserted = db.transact(schedules.insert_followers, "s1")
    assert (len(inserted.runs), inserted.misses) == (1, [])
    assert state(db, run_id) == "succeeded"


def test_a_retry_waits_as_long_as_it_was_to(db: Database) -> None:
    define(db, job={}, other={})
    hand, retried = Hand(db), start(db, "job")
    hand.end(hand.take(), RunState.FAILED, retry_after=60.0)
    delayed = start(db, "other", delay=60.0)
    assert db.transact(runs.follow_clock) == 0
    with db.begin() as conn:
        conn.execute(run.update().values(queued_at=utcnow(86_400_000), ready_at=utcnow(86_460_000)))
    assert db.transact(runs.follow_clock) == 1
    waits = {one: (get(db, one)["ready_at"] - now(db)).total_seconds() for one in (retried, delayed)}
    assert 50 < waits[retried] <= 60
    assert waits[delayed] > 86_400, "somebody may have named its time"
    assert db.transact(runs.follow_clock) == 0


def test_many_retries_and_ends_are_moved_in_many_transactions(
    db: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On SQLite nobody else writes meanwhile, and SQL Server would lock the whole table."""
    bodies = {"job": {"command": ["true"]}, "next": {"command": ["true"], "schedules": [{"after": {"job": "job"}}]}}
    for name, body in d.from_data({"jobs": bodies}).jobs.items():
        db.transact(schedules.put, name, body, "me")
    hand = Hand(db)
    for _ in range(5):
        start(db, "job")
        hand.end(hand.take())
    with db.begin() as conn:
        waits = {"state": "scheduled", "attempt": 1, "queued_at": utcnow(86_400_000), "ready_at": utcnow(86_460_000)}
        conn.execute(run.update().values(waits))
        conn.execute(upstream_end.update().values(ended_at=utcnow(86_400_000)))
    monkeypatch.setattr(admission, "BATCH", 2)
    monkeypatch.setattr(upstream, "BATCH", 2)
    assert [db.transact(store.follow_clock) for store in (runs, schedules)] == [2, 2]
    scheduler = Scheduler(db, settings, "s1")
    wait_for(lambda: scheduler._rewind() == 0.0 and scheduler._rewind_after is None)
    assert [db.transact(store.follow_clock) for store in (runs, schedules)] == [0, 0]


def test_a_seek_is_forced_only_by_the_first_column_of_an_index(db: Database) -> None:
    """SQL Server refuses any other one (error 8622), and each scheduler that starts sends these statements."""
    put(db, cron="0 6 * * *")
    sent: list[str] = []
    sa.event.listen(db.engine, "before_cursor_execute", lambda *given: sent.append(given[2]))
    for store in (workers, runs, sequences, outbox, watching, schedules, schedulers):
        db.transact(store.follow_clock)
    db.transact(schedules.rewind, 0)
    forced = [one.partition("WHERE")[2].partition("ORDER BY")[0] for one in sent if "FORCESEEK" in one]
    first = {index.columns[0].name for table in (run, schedule, visit) for index in table.indexes} | {"id"}
    assert all(first & set(re.findall(r"\w+", one)) for one in forced), forced
    assert len(sent) >= 5


def test_a_notification_does_not_wait_for_the_time_that_the_clock_showed(db: Database) -> None:
    recipient = {"recipient": "{}", "body": "{}", "state": "waiting", "tries": 1, "created_at": utcnow()}
    with db.begin() as conn:
        for dedupe, due in (("soon", 3_000_000), ("far", 7_000_000)):
            values = {"job": "job", "event": "failed", "dedupe": dedupe, "due_at": utcnow(due), **recipient}
            conn.execute(notification.insert().values(values))
    assert db.transact(outbox.follow_clock) == 1
    with db.read() as conn:
        found = conn.execute(sa.select(notification.c.dedupe).where(notification.c.due_at <= utcnow())).scalars().all()
    assert found == ["far"]


def test_a_job_that_succeeded_while_the_clock_was_ahead_is_watched_again(db: Database) -> None:
    define(db, **{name: {"expect": {"every": "1h"}} for name in ("ahead", "late", "well")})
    with db.begin() as conn:
        is_ahead = expectation.update().where(expectation.c.job != "well")
        conn.execute(is_ahead.values(since=utcnow(86_400_000), due_at=utcnow(90_000_000)))
        is_late = expectation.update().where(expectation.c.job == "late")
        conn.execute(is_late.values(overdue_at=utcnow(90_000_000), overdue_due_at=utcnow(90_000_000)))
    assert db.transact(watching.follow_clock) == 2
    with db.read() as conn:
        found = {row.job: row for row in conn.execute(sa.select(expectation))}
    assert all(row.since <= now(db) < row.due_at <= now(db) + timedelta(hours=1) for row in found.values())
    assert [name for name, row in found.items() if row.overdue_at is not None] == ["late"]
    assert db.transact(watching.follow_clock) == 0


def test_a_step_waits_as_long_as_it_was_to(db: Database) -> None:
    waits = {"lasts": {"duration": "10m"}, "clock": {"until": "23:59"}}
    bodies: dict[str, Any] = {name: {"steps": [{"name": "w", "wait": wait}]} for name, wait in waits.items()}
    bodies["asks"] = {"steps": [{"name": "w", "approve": {"timeout": "10m"}}]}
    define(db, **bodies)
    for name in bodies:
        start(db, name)
    db.transact(sequences.begin, "me", 3)
    assert db.transact(sequences.follow_clock) == 0
    with db.begin() as conn:
        conn.execute(visit.update().values(entered_at=utcnow(86_400_000), wake_at=utcnow(87_000_000)))
    assert db.transact(sequences.follow_clock) == 2
    with db.read() as conn:
        found = conn.execute(sa.select(visit.c.wake_at, run.c.job).join(run, run.c.id == visit.c.run_id))
        left = {row.job: (row.wake_at - now(db)).total_seconds() for row in found}
    assert all(590 < left[name] <= 600 for name in ("lasts", "asks"))
    assert left["clock"] > 86_400
    assert db.transact(sequences.follow_clock) == 0


def test_an_address_is_asked_again_only_if_that_is_further_away_than_its_interval(db: Database) -> None:
    define(db, asks={"steps": [{"name": "w", "wait": {"http": "http://a.example.org", "every": "1h"}}]})
    start(db, "asks")
    db.transact(sequences.begin, "me", 1)
    (one,) = db.transact(sequences.take_due, 10)
    db.transact(sequences.follow_clock)
    assert db.transact(sequences.take_due, 10) == [], "each start of a scheduler would ask it"
    with db.begin() as conn:
        conn.execute(visit.update().values(look_at=utcnow(86_400_000)))
    db.transact(sequences.follow_clock)
    assert [again.id for again in db.transact(sequences.take_due, 10)] == [one.id]
