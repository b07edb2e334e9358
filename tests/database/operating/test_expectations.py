"""Jobs that are overdue: told once, told again when they have succeeded, and shown."""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import expectation, outbox_event, run
from jobfac.scheduler.poll import POLL, Poll
from jobfac.scheduler.scheduler import Scheduler
from jobfac.settings import Settings
from jobfac.states import RunState
from jobfac.store import expectations, jobs, overview, retention, runs, statistics, watching
from jobfac.store.retention import Keep
from jobfac.store.runs import StartRequest
from tests.support.database import Hand, being_written, define, now, start

TO = {"email": "ops@example.org"}


def late(db: Database, **body: Any) -> None:
    """A job whose success was due a second ago."""
    define(db, a={"expect": {"every": "1h"}, "notify": [{"on": ["overdue", "on_time_again"], "to": TO}], **body})
    with db.begin() as conn:
        conn.execute(expectation.update().values(since=utcnow(-3_601_000), due_at=utcnow(-1000)))


def told(db: Database) -> list[tuple[str, str]]:
    with db.read() as conn:
        return [(row.job, row.event) for row in conn.execute(sa.select(outbox_event).order_by(outbox_event.c.id))]


def poll(db: Database) -> Poll:
    with db.singles.connect() as conn:
        return Poll(*conn.execute(POLL).one())


def succeed(db: Database) -> None:
    hand = Hand(db)
    start(db, "a")
    (claimed,) = hand.claim()
    hand.end(claimed, RunState.SUCCEEDED)


@pytest.mark.parametrize(("days", "is_late"), [(0, False), (-20, True)])
def test_a_success_for_an_old_due_time_is_not_the_expected_one(sqlite_url: str, days: int, is_late: bool) -> None:
    db = Database(sqlite_url)
    define(db, a={"expect": {"every": "1h"}})
    hand, due = Hand(db), now(db) + timedelta(days=days)
    start(db, "a", manual=False, schedule_id=1, due_at=due)
    hand.end(hand.take(), RunState.FAILED)
    db.transact(runs.retry, 1, "me")
    hand.end(hand.take())
    with db.begin() as conn:
        conn.execute(expectation.update().values(since=utcnow(-3_590_000), due_at=utcnow()))
    db.transact(watching.watch)
    assert bool(db.query(expectations.overdue)) == is_late
    db.close()


def test_one_that_only_a_newer_scheduler_can_read_hides_no_other(db: Database) -> None:
    late(db)
    define(db, _of_a_newer_one={"expect": {"every": "1h"}})
    newer = sa.update(expectation).where(expectation.c.job == "_of_a_newer_one")
    with db.begin() as conn:
        conn.execute(newer.values(definition='{"expect_from": "the future"}', due_at=utcnow(-1000)))
        conn.execute(sa.update(expectation).values(since=utcnow(60_000)).where(expectation.c.job == "a"))
        conn.execute(newer.values(since=utcnow(60_000)))
        watching.follow_clock(conn)
        conn.execute(sa.update(expectation).values(due_at=utcnow(-1000)).where(expectation.c.job == "a"))
    watched = db.transact(watching.watch)
    assert (watched.changed, [one.job for one in watched.unread]) == (1, ["_of_a_newer_one"])
    assert told(db) == [("a", "overdue")]


def test_it_is_told_once_and_again_when_it_has_succeeded(db: Database) -> None:
    late(db)
    found = poll(db)
    assert (found.is_past(found.expected_at), found.overdue) == (True, False)
    assert db.transact(watching.watch).changed == 1
    found = poll(db)
    assert (found.is_past(found.expected_at), found.overdue) == (False, True)
    assert db.transact(watching.watch).changed == 0
    assert told(db) == [("a", "overdue")]
    (row,) = db.query(expectations.overdue)
    assert row.due_at <= row.overdue_at
    assert db.query(overview.read).overdue == [row]
    schema = "" if db.dialect.name == "sqlite" else "jobfac."
    with db.read() as conn:
        (shown,) = conn.execute(sa.text(f"SELECT job, overdue_seconds, last_success_at FROM {schema}v_overdue")).all()
    assert (shown.job, shown.last_success_at) == ("a", None)
    assert 0.9 < shown.overdue_seconds < 60
    succeed(db)
    assert db.transact(watching.watch).changed == 1
    assert told(db) == [("a", "overdue"), ("a", "on_time_again")]
    assert db.query(expectations.overdue) == []
    found = poll(db)
    assert not found.overdue
    assert found.expected_at is not None
    assert timedelta(minutes=59) < found.expected_at - now(db) < timedelta(minutes=61)


def test_a_delay_that_ended_while_no_scheduler_looked_is_told(db: Database) -> None:
    late(db)
    succeed(db)
    assert db.transact(watching.watch).changed == 1
    assert told(db) == [("a", "overdue"), ("a", "on_time_again")]
    assert db.query(expectations.overdue) == []
    assert db.transact(watching.watch).changed == 0


def test_a_success_in_time_says_nothing(db: Database) -> None:
    late(db)
    with db.begin() as conn:
        conn.execute(expectation.update().values(due_at=utcnow(3_600_000)))
    succeed(db)
    with db.begin() as conn:
        conn.execute(expectation.update().values(due_at=utcnow()))
    db.transact(watching.watch)
    assert told(db) == []


def test_a_success_that_is_just_being_counted_is_in_time(db: Database) -> None:
    late(db)
    succeed(db)
    with db.begin() as conn:
        success = conn.execute(sa.select(run.c.id)).scalar_one()
        conn.execute(expectation.update().values(due_at=utcnow()))
    with being_written(db, success):
        db.transact(watching.watch)
    assert told(db) == []


@pytest.mark.parametrize("has_failed", [True, False])
def test_a_success_in_time_is_found_behind_many_later_runs(
    db: Database, has_failed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "PAGE", 2)
    late(db)
    succeed(db)
    hand = Hand(db)
    for _ in range(5):
        start(db, "a")
    for claimed in hand.claim() if has_failed else []:
        hand.end(claimed, RunState.FAILED)
    with db.begin() as conn:
        conn.execute(expectation.update().values(due_at=utcnow()))
    db.transact(watching.watch)
    assert told(db) == []


def test_a_success_that_waits_for_its_expectation_is_not_purged(db: Database) -> None:
    late(db)
    for _ in range(2):
        succeed(db)
    with db.begin() as conn:
        conn.execute(run.update().values(counted=True))
        conn.execute(expectation.update().values(due_at=utcnow(1000)))
    assert retention.purge_all(db, Keep(age=0.001)).removed == 1
    with db.begin() as conn:
        conn.execute(expectation.update().values(due_at=utcnow()))
    assert db.transact(watching.watch).changed == 1
    assert told(db) == []


def test_a_disabled_job_is_not_expected_to_succeed(db: Database) -> None:
    late(db)
    db.transact(jobs.enable, "a", False, "me")
    assert db.transact(watching.watch).changed == 1
    assert told(db) == []
    late_again = db.query(expectations.overdue)
    assert late_again == []


def test_the_row_follows_the_definition(db: Database) -> None:
    def rows() -> dict[str, Any]:
        with db.read() as conn:
            return {row.job: row.due_at for row in conn.execute(sa.select(expectation))}

    define(db, a={"expect": {"every": "1h"}}, b={})
    first = rows()
    assert set(first) == {"a"}
    define(db, a={"expect": {"every": "1h"}, "priority": 3})
    assert rows() == first, "an unchanged expectation keeps its time"
    define(db, a={"expect": {"success_by": "06:00", "timezone": "Europe/Berlin", "days": "weekdays"}})
    assert rows() != first
    define(db, a={}, b={"expect": {"every": "24h"}})
    assert set(rows()) == {"b"}
    definition = d.loads("jobs: {c: {command: [x], expect: {every: 5m}}}").jobs["c"]
    db.transact(jobs.put, "c", definition, "me")
    db.transact(jobs.remove, "c", "me")
    assert set(rows()) == {"b"}


def test_a_changed_expectation_counts_what_succeeded_before_and_ends_no_delay(db: Database) -> None:
    notify = [{"on": ["overdue", "on_time_again"], "to": TO}]
    late(db)
    db.transact(watching.watch)
    define(db, a={"expect": {"every": "2h"}, "notify": notify})
    assert [one.job for one in db.query(expectations.overdue)] == ["a"], "it has not succeeded"
    succeed(db)
    db.transact(watching.watch)
    assert told(db) == [("a", "overdue"), ("a", "on_time_again")]
    succeed(db)
    define(db, a={"expect": {"every": "3h"}, "notify": notify})
    with db.begin() as conn:
        conn.execute(expectation.update().values(due_at=utcnow()))
    db.transact(watching.watch)
    assert told(db)[2:] == [], "it succeeded before the change"


def test_many_overdue_jobs_do_not_hide_one_that_has_succeeded(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "BATCH", 2)
    entry = {"command": ["true"], "expect": {"every": "1h"}, "notify": [{"on": ["overdue", "on_time_again"], "to": TO}]}
    define(db, **dict.fromkeys(("b", "c", "d", "a"), entry))
    with db.begin() as conn:
        conn.execute(expectation.update().values(since=utcnow(-3_601_000), due_at=utcnow(-1000)))
    scheduler = Scheduler(db, Settings(), "s")
    pauses = [scheduler._watch() for _ in range(5)]
    assert len(told(db)) == 4
    with db.begin() as conn:  # the next times of the others are earlier than that of `a`
        conn.execute(expectation.update().where(expectation.c.job == "a").values(due_at=utcnow(7_200_000)))
    succeed(db)
    pauses = [scheduler._watch() for _ in range(3)]
    assert told(db)[4:] == [("a", "on_time_again")]
    assert 0.0 in pauses


@pytest.mark.parametrize("is_overdue", [False, True])
def test_hundreds_of_newer_runs_that_wait_or_were_denied_hide_no_success(db: Database, is_overdue: bool) -> None:
    """A schedule that is due every ten seconds makes them while one run takes an hour."""
    late(db)
    if is_overdue:
        db.transact(watching.watch)
    else:
        with db.begin() as conn:
            conn.execute(expectation.update().values(due_at=utcnow(60_000)))
    start(db, "a")
    hand = Hand(db)
    (claimed,) = hand.claim()
    db.transact(runs.start_many, StartRequest("a", "tester"), max(watching.PAGE, statistics.SEARCHED) + 1)
    hand.end(claimed, RunState.SUCCEEDED)
    assert db.query(statistics.usual_seconds, "a") is not None
    with db.begin() as conn:
        conn.execute(expectation.update().where(expectation.c.overdue_at.is_(None)).values(due_at=utcnow()))
    assert db.transact(watching.watch).changed == 1
    assert told(db) == ([("a", "overdue"), ("a", "on_time_again")] if is_overdue else [])
