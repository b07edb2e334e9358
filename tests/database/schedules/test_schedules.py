"""Schedules in the database, on every engine: each due time becomes exactly one run."""

import json
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import audit, run, schedule
from jobfac.errors import NotFound
from jobfac.states import RunState
from jobfac.store import jobs as job_store
from jobfac.store import runs, schedules
from jobfac.store.history import search
from jobfac.views.serialization import all_as_json
from tests.support.database import Hand

MINUTE = timedelta(minutes=1)


def apply(db: Database, jobs: Mapping[str, Any]) -> None:
    wanted = d.from_data({"jobs": {name: {"command": ["true"], **body} for name, body in jobs.items()}}).jobs

    def work(conn: sa.Connection) -> None:
        stored = {one.id: d.canonical(one.definition) for one in job_store.load_all(conn)}
        plan = d.plan(stored, {name: d.canonical(body) for name, body in wanted.items()}, prune=False)
        schedules.apply(conn, plan, wanted, "me")

    db.transact(work)


def now_of(db: Database) -> datetime:
    with db.read() as conn:
        now: datetime = conn.execute(sa.select(utcnow())).scalar_one()
    return now.replace(microsecond=0)


def rows(db: Database, job: str = "a") -> dict[str, Any]:
    with db.read() as conn:
        query = sa.select(schedule).where(schedule.c.job == job).order_by(schedule.c.id)
        return {row["name"]: row for row in conn.execute(query).mappings()}


def simulate_outage_since(db: Database, since: datetime, job: str = "a") -> None:
    """Simulate that no scheduler has run since ``since``, when the job's schedules were due."""
    with db.begin() as conn:
        change = schedule.update().where(schedule.c.job == job)
        conn.execute(change.values(next_due_at=since, fire_at=since, last_due_at=None))


def insert(db: Database) -> schedules.Inserted:
    return db.transact(schedules.insert_due, "s1")


def due_times(db: Database, job: str = "a") -> list[datetime]:
    with db.read() as conn:
        return [row.due_at for row in reversed(search.find_all(conn, search.Filter(job=job), 1000))]


def every(minutes: int, since: datetime, **more: Any) -> dict[str, Any]:
    return {"every": minutes * 60, "starts": since.isoformat(), **more}


def test_a_due_time_becomes_a_run(db: Database) -> None:
    due = now_of(db) - timedelta(seconds=20)
    apply(db, {"a": {"schedules": [every(10, due, arguments=["x"], payload="p")]}})
    assert rows(db)["1"]["next_due_at"] == due + 10 * MINUTE
    simulate_outage_since(db, due)
    done = insert(db)
    assert (done.schedules, len(done.runs), done.refusals, done.misses) == (1, 1, [], [])
    with db.read() as conn:
        found = runs.get(conn, done.runs[0])
        events = [(e.event, e.by) for e in runs.events_of(conn, done.runs[0])]
    assert (found.state, found.due_at, found.arguments, found.payload) == ("queued", due, ["x"], "p")
    assert found.schedule_id == rows(db)["1"]["id"]
    assert events == [("queued", "schedule 1")]
    row = rows(db)["1"]
    assert (row["last_due_at"], row["next_due_at"], row["fire_at"]) == (due, due + 10 * MINUTE, due + 10 * MINUTE)
    assert insert(db).schedules == 0


@pytest.mark.parametrize(
    ("policy", "minutes_ago"),
    [
        ("skip", []),
        ("once", [5]),
        ("all", [65, 55, 45, 35, 25, 15, 5]),
        ({"policy": "all", "maximum": 3}, [25, 15, 5]),
        ({"policy": "all", "window": "30m"}, [25, 15, 5]),
    ],
)
def test_missed_times_run_according_to_the_policy(db: Database, policy: Any, minutes_ago: list[int]) -> None:
    now = now_of(db)
    apply(db, {"a": {"schedules": [every(10, now - 65 * MINUTE, missed=policy)]}})
    simulate_outage_since(db, now - 65 * MINUTE)
    misses = insert(db).misses
    assert due_times(db) == [now - ago * MINUTE for ago in minutes_ago]
    assert rows(db)["1"]["next_due_at"] == now + 5 * MINUTE
    with db.read() as conn:
        noted = conn.execute(sa.select(audit.c.subject).where(audit.c.action == "missed")).scalars().all()
    dropped = len(minutes_ago) < 7
    assert (len(misses), noted) == ((1, ["a/1"]) if dropped else (0, []))
    if dropped:
        assert misses[0].since == now - 65 * MINUTE


def test_a_time_in_a_pause_is_missed_however_short_the_pause(db: Database) -> None:
    due = now_of(db) - timedelta(seconds=30)
    jobs = {name: {"schedules": [every(10, due, missed=policy)]} for name, policy in (("a", "skip"), ("b", "once"))}
    apply(db, jobs)
    for job in jobs:
        assert db.transact(schedules.pause, job, None, "me") == ["1"]
        simulate_outage_since(db, due, job)
    assert insert(db).schedules == 0
    for job in jobs:
        assert db.transact(schedules.resume, job, "1", "me") == ["1"]
        assert db.transact(schedules.resume, job, "1", "me") == []
    insert(db)
    assert (due_times(db, "a"), due_times(db, "b")) == ([], [due])
    with db.read() as conn:
        noted = conn.execute(sa.select(audit.c.action).where(audit.c.subject == "a/1").order_by(audit.c.id))
        assert noted.scalars().all() == ["pause", "resume", "missed"]


def test_pausing_an_unknown_schedule_is_refused(db: Database) -> None:
    apply(db, {"a": {"schedules": [{"cron": "@daily", "name": "night"}]}, "c": {}})
    with pytest.raises(NotFound, match="Job 'a' has no schedule 'day'; its schedules are: night"):
        db.transact(schedules.pause, "a", "day", "me")
    with pytest.raises(NotFound, match="Job 'c' has no schedules"):
        db.transact(schedules.resume, "c", None, "me")
    with pytest.raises(NotFound, match="There is no job 'b'"):
        db.transact(schedules.resume, "b", None, "me")


def test_an_edit_fires_no_time_twice_and_keeps_the_pause(db: Database) -> None:
    due = now_of(db) - timedelta(seconds=30)
    apply(db, {"a": {"schedules": [every(10, due)]}})
    simulate_outage_since(db, due)
    insert(db)
    # A rule that was due in the second of the last run, and in every second since.
    apply(db, {"a": {"schedules": [{"every": 1, "starts": (due - MINUTE).isoformat()}]}})
    assert rows(db)["1"]["next_due_at"] > due
    insert(db)
    db.transact(schedules.pause, "a", None, "me")
    apply(db, {"a": {"schedules": [every(5, due)]}})
    assert rows(db)["1"]["paused"]
    times = due_times(db)
    assert times == sorted(set(times))


def test_a_pending_due_time_survives_an_edit(db: Database) -> None:
    due = now_of(db) - timedelta(seconds=30)
    apply(db, {"a": {"schedules": [every(10, due)]}})
    simulate_outage_since(db, due)
    apply(db, {"a": {"schedules": [every(10, due, payload="new")]}})
    insert(db)
    assert due_times(db) == [due]


def test_an_unchanged_schedule_keeps_its_row_at_another_position(db: Database) -> None:
    apply(db, {"a": {"schedules": [{"cron": "0 1 * * *"}, {"cron": "0 2 * * *"}, {"cron": "0 3 * * *", "name": "x"}]}})
    before = rows(db)
    db.transact(schedules.pause, "a", "1", "me")
    apply(db, {"a": {"schedules": [{"cron": "0 4 * * *"}, {"cron": "0 1 * * *"}, {"cron": "0 5 * * *", "name": "x"}]}})
    after = rows(db)
    assert {name: row["definition"] for name, row in after.items()} == {
        "1": '{"cron": "0 4 * * *"}',
        "2": '{"cron": "0 1 * * *"}',
        "x": '{"cron": "0 5 * * *"}',
    }
    assert after["2"]["id"] == before["1"]["id"]
    assert after["x"]["id"] == before["x"]["id"]
    assert [name for name, row in after.items() if row["paused"]] == ["2"]
    db.transact(schedules.remove, "a", "me")
    assert rows(db) == {}


def test_a_refused_start_does_not_stop_the_others(db: Database) -> None:
    due = now_of(db) - timedelta(seconds=20)
    one = {"schedules": [every(10, due)]}
    apply(db, {"a": one, "off": {**one, "enabled": False}, "broken": one, "alien": one})
    for job in ("a", "off", "broken", "alien"):
        simulate_outage_since(db, due, job)
    with db.begin() as conn:
        conn.execute(schedule.update().where(schedule.c.job == "broken").values(definition='{"cron": "of later"}'))
        conn.execute(sa.text("DELETE FROM job WHERE id = 'alien'") if db.dialect.name == "sqlite" else
                     sa.text("DELETE FROM jobfac.job WHERE id = 'alien'"))  # fmt: skip
    done = insert(db)
    assert due_times(db) == [due]
    why = {refusal.job: refusal.why for refusal in done.refusals}
    assert set(why) == {"off", "alien"}
    assert "Job 'off' is disabled" in why["off"]
    assert rows(db, "off")["1"]["next_due_at"] == due + 10 * MINUTE  # its due times pass
    assert insert(db).schedules == 0
    # A scheduler that can read the rule still runs it, as long as that time is not missed.
    assert [rows(db, "broken")["1"][name] for name in ("next_due_at", "fire_at")] == [due, due]
    simulate_outage_since(db, due - MINUTE, "broken")
    assert [one.job for one in insert(db).refusals] == ["broken"]
    assert rows(db, "broken")["1"]["next_due_at"] == due - MINUTE
    assert rows(db, "broken")["1"]["fire_at"] > now_of(db)


def test_a_manually_reset_row_starts_no_run_twice(db: Database) -> None:
    due = now_of(db) - timedelta(seconds=20)
    apply(db, {"a": {"schedules": [every(10, due)]}, "b": {"schedules": [every(10, due)]}})
    for _ in range(2):
        simulate_outage_since(db, due, "a")
        simulate_outage_since(db, due, "b")
        insert(db)
    assert (due_times(db, "a"), due_times(db, "b")) == ([due], [due])


def test_missed_times_that_are_made_up_run_one_after_another(db: Database) -> None:
    due = now_of(db) - timedelta(seconds=50)
    rule = {"every": 20, "starts": due.isoformat(), "missed": "all"}
    apply(
        db,
        {"a": {"already_running": "deny", "schedules": [rule]}, "b": {"already_running": "queue", "schedules": [rule]}},
    )
    simulate_outage_since(db, due, "a")
    simulate_outage_since(db, due, "b")
    insert(db)
    with db.read() as conn:
        found = {job: search.find_all(conn, search.Filter(job=job)) for job in ("a", "b")}
    states = {job: [row.state for row in reversed(rows)][:3] for job, rows in found.items()}
    assert states == {"a": ["queued", "blocked", "blocked"], "b": ["queued", "blocked", "blocked"]}


def test_a_sequence_gets_its_arguments_by_job(db: Database) -> None:
    due = now_of(db) - timedelta(seconds=20)
    steps = [{"name": "one", "jobs": ["a"]}]
    rule = every(10, due, arguments={"a": ["--full"]}, payloads={"a": "p"})
    with db.begin() as conn:
        wanted = d.from_data({"jobs": {"a": {"command": ["true"]}, "s": {"steps": steps, "schedules": [rule]}}}).jobs
        for job, definition in wanted.items():
            schedules.put(conn, job, definition, "me")
    simulate_outage_since(db, due, "s")
    insert(db)
    with db.read() as conn:
        found = conn.execute(sa.select(run.c.kind, run.c.queue, run.c.arguments, run.c.overrides)).one()
    assert found[:3] == ("sequence", job_store.SEQUENCE_QUEUE, None)
    assert json.loads(found.overrides) == {"arguments": {"a": ["--full"]}, "payloads": {"a": "p"}}


def test_jitter_is_deterministic_and_within_its_limit(db: Database) -> None:
    apply(db, {"a": {"schedules": [{"cron": f"{minute} 3 * * *", "jitter": "10m"} for minute in range(20)]}})
    delays = [(row["fire_at"] - row["next_due_at"]).total_seconds() for row in rows(db).values()]
    assert all(0 <= delay <= 600 for delay in delays)
    assert len(set(delays)) > 10
    before = rows(db)
    apply(db, {"a": {"schedules": [{"cron": f"{minute} 3 * * *", "jitter": "10m"} for minute in range(20)][::-1]}})
    after = {row["next_due_at"]: row["fire_at"] for row in rows(db).values()}
    assert after == {row["next_due_at"]: row["fire_at"] for row in before.values()}


def test_a_crash_before_the_commit_changes_nothing(db: Database) -> None:
    due = now_of(db) - timedelta(seconds=20)
    apply(db, {"a": {"schedules": [every(10, due)]}})
    simulate_outage_since(db, due)
    with db._migrating.connect() as conn:
        assert len(schedules.insert_due(conn, "s1").runs) == 1
        conn.rollback()
    assert due_times(db) == []
    insert(db)
    assert due_times(db) == [due]


def test_a_due_time_in_a_blackout_waits_for_its_end(db: Database) -> None:
    now = now_of(db)
    windows = [f"{now - 60 * MINUTE:%Y-%m-%d %H:%M} - {now + 60 * MINUTE:%Y-%m-%d %H:%M}"]
    end = (now + 60 * MINUTE).replace(second=0)
    apply(db, {"a": {"schedules": [every(10, now - 90 * MINUTE, missed="once", blackout=windows)]}})
    simulate_outage_since(db, now - 90 * MINUTE)  # missed before the blackout began
    insert(db)
    assert due_times(db) == []
    assert rows(db)["1"]["fire_at"] == end
    with db.begin() as conn:
        first = runs.start(conn, runs.StartRequest("a", "me", schedule_id=rows(db)["1"]["id"], due_at=now))
        other = runs.start(conn, runs.StartRequest("a", "me"))
        outcomes = [runs.Outcome(i, 1, RunState.FAILED, retry_after=10.0) for i in (first, other)]
        held, free = schedules.hold_back(conn, outcomes)
    assert held.retry_after == pytest.approx((end - now).total_seconds(), abs=30)
    assert free.retry_after == 10.0


def test_concurrent_schedulers_insert_every_due_time_once(db: Database) -> None:
    count = 60
    due = now_of(db) - timedelta(seconds=20)
    jobs = {f"j{number}": {"schedules": [every(10, due), every(20, due)]} for number in range(count // 2)}
    apply(db, jobs)
    with db.begin() as conn:
        conn.execute(schedule.update().values(next_due_at=due, fire_at=due))
    inserted: list[int] = []

    def insert_some() -> None:
        while (done := db.transact(schedules.insert_due, "s", 7)).schedules:
            inserted.extend(done.runs)

    threads = [threading.Thread(target=insert_some) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with db.read() as conn:
        found = conn.execute(sa.select(run.c.schedule_id, run.c.due_at)).all()
    assert len(found) == len(set(found)) == len(set(inserted)) == count


def test_listing_and_preview(db: Database) -> None:
    apply(db, {"a": {"schedules": [{"cron": "0 6 * * *", "name": "early"}, {"cron": "0 5 * * MON", "name": "monday"}]}})
    with db.read() as conn:
        listed = schedules.list_schedules(conn, "a")
        assert [(one.name, one.definition) for one in listed] == [
            ("early", {"cron": "0 6 * * *"}),
            ("monday", {"cron": "0 5 * * MON"}),
        ]
        assert schedules.get(conn, listed[0].id) == listed[0]
        start = datetime.fromisoformat("2027-01-03T12:00:00+00:00")  # a Sunday
        found = schedules.preview(conn, "a", 3, start)
        with pytest.raises(NotFound):
            schedules.preview(conn, "b", 3, start)
    assert [(one["due_at"], one["schedule"]) for one in all_as_json(found)] == [
        ("2027-01-04T05:00:00+00:00", "monday"),
        ("2027-01-04T06:00:00+00:00", "early"),
        ("2027-01-05T06:00:00+00:00", "early"),
    ]


def test_a_due_job_that_runs_on_each_worker_gets_a_run_for_each(db: Database) -> None:
    for name in ("w1", "w2"):
        Hand(db, name)
    apply(db, {"a": {"each_worker": True, "schedules": [{"cron": "* * * * *"}]}})
    due = now_of(db).replace(second=0)
    simulate_outage_since(db, due)
    assert (len(insert(db).runs), insert(db).runs) == (1, [])
    with db.read() as conn:
        found = conn.execute(sa.select(run.c.for_worker, run.c.schedule_id, run.c.due_at).order_by(run.c.id)).all()
    (one,) = rows(db).values()
    assert [tuple(row) for row in found] == [("w1", one["id"], due), ("w2", None, due)]
