"""Daily statistics: every ended run is counted once, even if a counting process dies. They outlive the runs."""

import contextlib
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac import reports
from jobfac.database.engine import Database
from jobfac.database.tables import attempt, daily_worker, run, worker
from jobfac.database.tables import daily as table
from jobfac.definitions import Retention
from jobfac.errors import NotFound, Unreachable
from jobfac.states import RunState
from jobfac.store import retention, statistics
from jobfac.store.retention import Keep
from tests.support.database import Hand, define, now, start, together
from tests.support.engines import ENGINES

DAY = 86400.0


def history(db: Database, job: str, *runs: tuple[datetime, float], state: RunState = RunState.SUCCEEDED) -> list[int]:
    """Create ended runs with these start times and durations in seconds."""
    ids = [start(db, job) for _ in runs]
    hand = Hand(db, f"w-{job}", slots=len(ids))
    for claimed in hand.claim():
        hand.end(claimed, state)
    with db.begin() as conn:
        for run_id, (begin, seconds) in zip(ids, runs, strict=True):
            times = {"started_at": begin, "ended_at": begin + timedelta(seconds=seconds)}
            queued = {"created_at": begin, "queued_at": begin}
            conn.execute(run.update().where(run.c.id == run_id).values({**times, **queued}))
            conn.execute(attempt.update().where(attempt.c.run_id == run_id).values(times))
    return ids


def test_usage_is_added_up_and_the_largest_peak_stays(db: Database) -> None:
    define(db, a={})
    for cpu, peak in ((1.5, 1 << 40), (None, None), (0.25, 7)):
        (run_id,) = history(db, "a", (at(1), 10))
        with db.begin() as conn:
            conn.execute(run.update().where(run.c.id == run_id).values(cpu_seconds=cpu, peak_memory=peak, slots=3))
        count_all(db)
    assert rows(db, table, "cpu_ms", "peak_memory") == [(1750, 1 << 40)]
    assert {busy for (busy,) in rows(db, daily_worker, "busy_ms")} == {3 * 3 * 10_000}


def at(day: int, hour: int = 12, minute: int = 0) -> datetime:
    return datetime(2026, 3, day, hour, minute, tzinfo=UTC)


def count_all(db: Database) -> int:
    counted = 0
    while more := db.transact(statistics.count):
        counted += more
    return counted


def rows(db: Database, what: sa.Table, *columns: str) -> list[tuple[Any, ...]]:
    with db.read() as conn:
        query = sa.select(*(what.c[name] for name in columns)).order_by(*what.primary_key.columns)
        return [tuple(row) for row in conn.execute(query)]


def test_a_run_counts_on_the_day_of_its_end_and_its_time_on_each_day_of_its_execution(
    db: Database,
) -> None:
    define(db, a={}, b={}, waiting={"pool": "none"})
    first, second, third = history(db, "a", (at(1), 10), (at(1, 23, 59), 120), (at(2), 30))
    (bad,) = history(db, "b", (at(2), 5), state=RunState.FAILED)
    start(db, "waiting")
    assert count_all(db) == 4
    names = ("day", "job", "succeeded", "failed", "attempts", "ran", "run_ms", "longest_ms", "longest_run")
    assert rows(db, table, *names) == [
        (date(2026, 3, 1), "a", 1, 0, 1, 1, 10_000, 10_000, first),
        (date(2026, 3, 2), "a", 2, 0, 2, 2, 150_000, 120_000, second),
        (date(2026, 3, 2), "b", 0, 1, 1, 1, 5_000, 5_000, bad),
    ]
    assert rows(db, daily_worker, "day", "worker", "attempts", "busy_ms") == [
        (date(2026, 3, 1), "w-a", 1, 70_000),
        (date(2026, 3, 2), "w-a", 2, 90_000),
        (date(2026, 3, 2), "w-b", 1, 5_000),
    ]
    assert count_all(db) == 0
    (late,) = history(db, "a", (at(1, 6), 90))
    with db.begin() as conn:
        conn.execute(run.update().where(run.c.id == late).values(due_at=at(1, 5)))
    assert count_all(db) == 1
    extremes = ("shortest_ms", "longest_ms", "longest_run", "late", "latest_ms", "latest_run")
    assert rows(db, table, *extremes)[0] == (10_000, 90_000, late, 1, 3_600_000, late)
    assert third


def test_runs_without_an_execution_are_counted(db: Database) -> None:
    define(db, a={"already_running": "deny"})
    start(db, "a")
    start(db, "a")
    assert count_all(db) == 1
    assert rows(db, table, "denied", "ran", "run_ms", "shortest_ms", "longest_run") == [(1, 0, 0, None, None)]
    hand = Hand(db)
    hand.end(hand.take())
    assert count_all(db) == 1
    ((denied, succeeded, ran, longest),) = rows(db, table, "denied", "succeeded", "ran", "longest_ms")
    assert (denied, succeeded, ran) == (1, 1, 1)
    assert longest is not None


def test_a_run_across_whose_midnight_the_clock_was_set_back_is_counted_shown_and_purged(db: Database) -> None:
    define(db, a={})
    history(db, "a", (at(2, 0), -5), (at(2), 10))
    found = db.query(reports.facts, db.query(reports.period, date(2026, 3, 1), date(2026, 3, 2)))
    assert [(row.worker, row.attempts) for row in reports.REPORTS["utilisation"](found).rows] == [("w-a", 2)]
    assert count_all(db) == 2
    assert rows(db, daily_worker, "day", "attempts", "busy_ms") == [
        (date(2026, 3, 1), 1, 0),
        (date(2026, 3, 2), 1, 10_000),
    ]
    assert retention.purge_all(db, Keep(DAY)).removed == 1, "the last success stays"


def test_concurrent_counting_counts_each_run_once(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "BATCH", 7)
    define(db, a={}, b={})
    history(db, "a", *[(at(1 + n % 3), 1.0) for n in range(40)])
    history(db, "b", *[(at(1 + n % 3), 1.0) for n in range(20)])
    assert sum(together(4, lambda _: count_all(db))) == 60
    assert sum(row[0] for row in rows(db, table, "succeeded")) == 60
    assert sum(row[0] for row in rows(db, daily_worker, "busy_ms")) == 60_000


@pytest.mark.each_driver
@pytest.mark.parametrize("url", [engine for engine in ENGINES if engine != "sqlite"], indirect=True)
def test_a_count_that_fails_at_one_of_its_rows_counts_nothing(db: Database, url: str) -> None:
    jobs = ["a", "b", "c", "d", "e"]
    define(db, **{job: {} for job in jobs})
    for job in jobs:
        history(db, job, (at(1, 12), 10))
    count_all(db)
    for job in jobs:
        history(db, job, (at(1, 13), 10))
    impatient = Database(url, lock_wait=0.2)
    with db.begin() as blocker:
        blocker.execute(table.update().where(table.c.job == "c").values(late=table.c.late))
        with pytest.raises(Unreachable):
            impatient.transact(statistics.count, retry_for=0)
    impatient.close()
    assert rows(db, table, "job", "succeeded") == [(job, 1) for job in jobs]
    assert count_all(db) == 5
    assert rows(db, table, "job", "succeeded") == [(job, 2) for job in jobs]


def test_an_uncommitted_count_is_counted_again(db: Database) -> None:
    define(db, a={})
    history(db, "a", (at(1), 1))
    with contextlib.suppress(InterruptedError), db.begin() as conn:
        assert statistics.count(conn) == 1
        raise InterruptedError
    assert rows(db, table, "day") == []
    assert count_all(db) == 1
    assert rows(db, table, "succeeded") == [(1,)]


def test_only_counted_runs_are_purged_and_their_statistics_stay(db: Database) -> None:
    define(db, a={"retention": {"count": 1}})
    history(db, "a", (at(1), 1), (at(1), 2))
    with db.begin() as conn:
        assert retention.purge(conn, "a", Retention(count=1)).runs == 0
    assert retention.purge_all(db, Keep(30 * DAY)).removed == 1
    assert rows(db, table, "succeeded", "run_ms") == [(2, 3_000)]
    assert retention.purge_all(db, Keep(30 * DAY, statistics=DAY)).removed == 0
    assert rows(db, table, "succeeded") == rows(db, daily_worker, "busy_ms") == []


def test_runs_that_ended_while_the_clock_was_ahead_keep_no_others(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    define(db, a={}, b={"retention": {"count": 1}})
    ahead = now(db).replace(microsecond=0) + timedelta(days=400)
    for job in ("a", "b"):
        history(db, job, *[(ahead, 1.0)] * 3, *[(at(1), 1.0)] * 3)
    assert retention.purge_all(db, Keep(30 * DAY)).removed == 2 + 5
    assert rows(db, run, "job", "ended_at") == [
        *[("a", ahead + timedelta(seconds=1))] * 3,
        ("a", at(1) + timedelta(seconds=1)),
        ("b", at(1) + timedelta(seconds=1)),
    ]


def test_the_presence_of_a_removed_worker_is_counted(db: Database) -> None:
    hand = Hand(db, "w1", slots=4)
    begin = now(db) - timedelta(days=50)
    with db.begin() as conn:
        gone = {"state": "dead", "started_at": begin, "ended_at": begin + timedelta(days=1)}
        conn.execute(worker.update().where(worker.c.id == hand.id).values(gone))
    retention.purge_all(db, Keep(30 * DAY))
    found = rows(db, daily_worker, "day", "worker", "attempts", "slot_ms")
    assert [row[0] for row in found] == [begin.date(), begin.date() + timedelta(days=1)]
    assert sum(row[3] for row in found) == 4 * 86_400_000


def test_a_run_that_is_retried_counts_each_worker_for_its_own_executions(db: Database) -> None:
    """The waits between the attempts, and the executions on other workers, counted for the worker that has it now."""
    define(db, a={"retry": {"attempts": 5}})
    start(db, "a")
    again, began = Hand(db, "second").take(), now(db)
    with db.begin() as conn:
        former = {"started_at": began - timedelta(days=3), "ended_at": began - timedelta(days=3, hours=-1)}
        conn.execute(run.update().values(attempt=2, started_at=former["started_at"]))
        conn.execute(attempt.update().values(number=2, started_at=began - timedelta(minutes=3)))
        first = {"run_id": again.id, "number": 1, "worker_id": 0, "worker": "first", "state": "failed"}
        conn.execute(attempt.insert().values(**first, **former))
    found = reports.REPORTS["utilisation"](db.query(reports.facts, db.query(reports.period)))
    busy = {row.worker: (row.attempts, row.busy_hours) for row in found.rows}
    assert busy == {"first": (1, 1.0), "second": (0, 0.05)}


def test_the_default_count_applies_to_jobs_without_retention(db: Database) -> None:
    define(db, a={}, b={"retention": "1000d"})
    moment = now(db)
    for job in ("a", "b"):
        history(db, job, *[(moment - timedelta(hours=5), 1.0)] * 4)
    assert retention.purge_all(db, Keep(30 * DAY, count=1)).removed == 3


def test_a_report_includes_counted_and_uncounted_runs(db: Database) -> None:
    define(db, a={"category": "x"}, b={})
    today = now(db).replace(hour=0, minute=0, second=0, microsecond=0)
    history(db, "a", (today - timedelta(days=3), 10), (today - timedelta(days=40), 10))
    (bad,) = history(db, "b", (today - timedelta(days=2), 10), state=RunState.FAILED)
    count_all(db)
    history(db, "a", (today - timedelta(days=1), 10))
    start(db, "b")
    Hand(db, "busy").take()
    when = db.query(reports.period)
    assert len(when.days) == 30
    found = db.query(reports.facts, when)
    assert {key: totals.states["succeeded"] for key, totals in found.runs.items()} == {
        (today.date() - timedelta(days=3), "a"): 1,
        (today.date() - timedelta(days=2), "b"): 0,
        (today.date() - timedelta(days=1), "a"): 1,
    }
    assert [key[1] for key in found.before] == ["a"]
    assert found.latest["b", "failed"].run_id == bad
    summed = {row.worker: row for row in reports.REPORTS["utilisation"](found).rows}
    assert (summed["w-a"].attempts, summed["w-b"].attempts, summed["busy"].attempts) == (2, 1, 0)
    assert sum(its.slot_ms for (_, name), its in found.work.items() if name == "busy") > 0
    only = db.query(reports.facts, when, category="x")
    assert {key[1] for key in only.runs} == {"a"}
    define(db, c={"already_running": "deny"})
    denied = [start(db, "c") for _ in range(2)][-1]
    (row,) = reports.REPORTS["failures"](db.query(reports.facts, when, job_id="c")).rows
    assert (row.state, row.last_run, row.reason) == ("denied", denied, "another run of the job is still active")
    unknown: tuple[dict[str, Any], ...] = ({"job_id": "none"}, {"category": "none"})
    for wrong in unknown:
        with pytest.raises(NotFound):
            db.query(reports.facts, when, **wrong)
