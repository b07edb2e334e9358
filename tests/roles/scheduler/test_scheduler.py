"""The scheduler role: punctual, concurrent with other schedulers, after kills, and cheap when idle."""

import json
import math
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.engine import Database
from jobfac.database.tables import job_version, run, schedule, scheduler, worker_lease
from jobfac.errors import Unreachable
from jobfac.scheduler.duty import Duty
from jobfac.scheduler.scheduler import Scheduler
from jobfac.settings import Settings
from jobfac.store import schedulers, schedules
from tests.support.database import Hand, define, get, now, start, state
from tests.support.engines import EACH_DIALECT
from tests.support.factory import Factory, wait_for

FAR = timedelta(days=3000)


@contextmanager
def scheduling(db: Database, settings: Settings, count: int = 1) -> Iterator[None]:
    """Run schedulers in threads of this process."""
    roles = [Scheduler(db, settings, f"s{number}") for number in range(count)]
    threads = [threading.Thread(target=role.run) for role in roles]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for role in roles:
            role.stop()
        for thread in threads:
            thread.join()


def put(db: Database, job: str, **body: Any) -> None:
    definition = d.from_data({"jobs": {job: {"command": ["true"], **body}}}).jobs[job]
    db.transact(schedules.put, job, definition, "tester")


def add_rows(db: Database, job: str, count: int, due: datetime) -> None:
    """Create ``count`` schedules of a job that are due now and every hour after that."""
    definition = json.dumps({"every": "1h", "starts": due.isoformat()})
    rule = {"job": job, "definition": definition, "paused": False, "updated_at": due}
    rows = [{**rule, "name": f"{job}-{number}", "next_due_at": due, "fire_at": due} for number in range(count)]
    with db.begin() as conn:
        # On SQL Server one statement for many rows would have another text for each number of them.
        for part in [rows] if db.dialect.name == "sqlite" else rows:
            conn.execute(schedule.insert(), part)


def runs_of(db: Database, *where: Any) -> int:
    with db.read() as conn:
        return int(conn.execute(sa.select(sa.func.count()).select_from(run).where(*where)).scalar_one())


@pytest.mark.parametrize("url", EACH_DIALECT, indirect=True)
def test_killed_schedulers_insert_every_due_time_once(factory: Factory) -> None:
    db = Database(factory.url)
    count, jobs = (6_000, 20) if db.dialect.name == "sqlite" else (400, 4)
    define(db, **{f"j{number}": {} for number in range(jobs)})
    roles = [factory.role("scheduler") for _ in range(3)]
    wait_for(lambda: all(b"scheduler_started" in log.read_bytes() for log in logs(factory, 3)), "three schedulers")
    due = (now(db) - timedelta(seconds=1)).replace(microsecond=0)
    for number in range(jobs):
        add_rows(db, f"j{number}", count // jobs, due)
    first = run.c.due_at == due
    for eighth in range(5):  # at several moments of the work, the first one soon after its beginning

        def inserted(mark: float = eighth * count / 8) -> bool:
            return runs_of(db, first) > mark

        wait_for(inserted, f"{eighth} eighths inserted")
        victim = roles.pop(0)
        victim.kill()
        victim.wait()
        roles.append(factory.role("scheduler"))
    wait_for(lambda: runs_of(db, first) == count, "everything inserted")
    with db.read() as conn:
        pairs = conn.execute(sa.select(run.c.schedule_id, run.c.due_at).where(first)).all()
        moved = conn.execute(sa.select(sa.func.count()).select_from(schedule).where(schedule.c.next_due_at > due))
        assert len(pairs) == len(set(pairs)) == moved.scalar_one() == count
    db.close()


def logs(factory: Factory, count: int) -> list[Any]:
    return [factory.folder / f"scheduler-{number}.log" for number in range(count)]


def test_an_idle_scheduler_does_nothing_for_each_schedule(
    db: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A purge begins at a random time, and it reads schedules, too.
    monkeypatch.setattr("jobfac.scheduler.scheduler.first_turn", lambda interval: math.inf)
    define(db, a={})
    count = 10_000 if db.dialect.name == "sqlite" else 200
    add_rows(db, "a", count, now(db).replace(microsecond=0) + FAR)
    said: list[str] = []
    for engine in (db.engine, db.singles):
        sa.event.listen(engine, "before_cursor_execute", lambda *call: said.append(call[2]))
    with scheduling(db, settings):
        wait_for(lambda: len([text for text in said if "min(" in text.lower()]) >= 4, "four looks")
        wait_for(lambda: "min(" in said[-1].lower() and "min(" in said[-2].lower(), "two looks one after the other")
    at_start = [text for text in said if "last_due_at" in text or "schedule.id >" in text]
    assert len([text for text in at_start if "last_due_at >" in text]) == 1, "whether the clock was set back before it"
    assert len(at_start) <= 2 + 2 * -(-count // 200), "it examines each schedule once"
    about = [text for text in said if re.search(r"\bschedule\b", text) and text not in at_start]
    assert len(about) >= 4
    assert len(set(about)) == 1
    if db.dialect.name == "sqlite":
        with db.read() as conn:
            plan = [row.detail for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {about[0]}")]
        assert "SEARCH schedule USING COVERING INDEX ix_schedule_fire (fire_at>?)" in plan
        assert not [step for step in plan if step.startswith("SCAN") and "INDEX" not in step and "CONSTANT" not in step]


def test_several_schedulers_insert_each_due_time_once_and_on_time(db: Database, settings: Settings) -> None:
    put(db, "a", schedules=[{"every": 1}])
    with scheduling(db, settings, count=3):
        wait_for(lambda: runs_of(db, run.c.job == "a") >= 3, "three runs")
        names = [one.name for one in db.query(schedulers.schedulers)]
    assert names == ["s0", "s1", "s2"]
    assert db.query(schedulers.schedulers) == []  # each has said that it stops
    with db.read() as conn:
        found = conn.execute(sa.select(run.c.due_at, run.c.created_at).order_by(run.c.id)).all()
    gaps = {later.due_at - earlier.due_at for earlier, later in pairwise(found)}
    assert gaps == {timedelta(seconds=1)}
    assert all(timedelta() <= row.created_at - row.due_at < timedelta(seconds=5) for row in found)


def test_a_newly_applied_schedule_fires(db: Database, settings: Settings) -> None:
    put(db, "a", schedules=[{"cron": "0 0 1 1 *"}])
    with scheduling(db, settings):
        put(db, "a", schedules=[{"every": 1}])
        wait_for(lambda: runs_of(db, run.c.job == "a"), "a run")


def test_the_sweep_promotes_releases_begins_and_expires(db: Database, settings: Settings) -> None:
    define(db, a={}, queued={"already_running": "queue"}, s={"steps": [{"name": "one", "jobs": ["a"]}]})
    held = start(db, "a")
    dead = Hand(db, "dead")
    dead.take()
    first, second = start(db, "queued"), start(db, "queued")
    assert state(db, second) == "blocked"
    with db.begin() as conn:  # as a DBA's statement would: no process is notified of the free capacity
        conn.execute(run.update().where(run.c.id == first).values(state="stopped", ended_at=now(db)))
        soon = now(db) + timedelta(milliseconds=300)
        conn.execute(worker_lease.update().where(worker_lease.c.worker_id == dead.id).values(lease_until=soon))
    later, sequence = start(db, "a", delay=0.5), start(db, "s")
    with scheduling(db, settings):
        wait_for(lambda: state(db, later) == "queued", "the delayed run queued")
        wait_for(lambda: state(db, second) == "queued", "the blocked run queued")
        wait_for(lambda: state(db, held) == "queued", "the dead worker's run queued")
        wait_for(lambda: runs_of(db, run.c.sequence_run_id == sequence), "the sequence's first job")
    assert get(db, held)["worker_id"] is None


def test_duties_alternate_and_keep_their_intervals(db: Database, settings: Settings) -> None:
    turns: list[str] = []

    def duty(name: str, pause: float) -> Duty:
        def work() -> float:
            turns.append(name)
            return pause

        return Duty(name, lambda look: True, work)

    one = Scheduler(db, settings, "s")
    one._duties = [duty("endless", 0.0), duty("slow", 60.0), duty("other", 0.0)]
    for _ in range(5):
        assert one._turn() == 0.0
    assert turns == ["endless", "slow", "other", *["endless", "other"] * 4]


def test_after_a_long_duty_others_may_write(db: Database, settings: Settings) -> None:
    """SQLite does not queue its writers: a scheduler that caught up for a quarter of a minute let leases expire."""
    one = Scheduler(db, settings, "s")
    one._duties = [Duty("long", lambda look: True, lambda: 0.0 * threading.Event().wait(0.05))]
    assert one._turn() == db.dialect.pause_between_writes


def test_a_failing_duty_delays_no_other(db: Database, settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    define(db, a={}, s={"steps": [{"name": "one", "jobs": ["a"]}]})
    start(db, "s")
    with db.begin() as conn:  # a sequence that cannot be begun
        conn.execute(job_version.delete().where(job_version.c.job == "s"))
    put(db, "a", schedules=[{"every": 1}])
    with scheduling(db, settings):
        wait_for(lambda: runs_of(db, run.c.job == "a") >= 3, "three runs")
    fields = [str(getattr(one, "fields", {})) for one in caplog.records]
    assert any("duty_failed" in one and "begin" in one for one in fields), fields


@pytest.mark.parametrize("is_urgent", [True, False])
def test_a_duty_that_nobody_waits_for_leaves_the_time_to_others_after_it_has_failed(
    db: Database, settings: Settings, is_urgent: bool
) -> None:
    """A DBA's transaction on old rows made the purge wait for locks in each turn, and everything due with it."""

    def work() -> float:
        threading.Event().wait(0.2)
        raise Unreachable("The database has locked what is needed.")

    one = Scheduler(db, settings, "s")
    duty = Duty("purge", lambda look: True, work, is_urgent=is_urgent)
    one._duties = [duty]
    one._turn()
    assert (duty.not_before - time.monotonic() > 1.2) != is_urgent


def test_old_runs_are_removed(factory: Factory) -> None:
    factory.apply({"a": {"command": ["true"], "retention": "1s"}})
    db = Database(factory.url)
    hand = Hand(db)
    for _ in range(2):
        start(db, "a")
    for claimed in hand.claim():
        hand.end(claimed)
    wait_for(lambda: factory.run("purge").stdout == "1 runs were removed\n", "the run old enough")
    kept = "runs for 90 days, statistics for 1,095 days, the audit for 1,095 days"
    assert factory.run("purge").stderr == (
        f"The settings of this machine keep {kept}. The schedulers may have others.\n"
    )
    assert runs_of(db) == 1, "the last success stays"
    db.close()


def test_the_schedule_commands(sqlite_factory: Factory) -> None:
    rule = {"dates": {"days_of_month": [1]}, "times": {"at": ["06:30"]}, "name": "month"}
    holidays = {"holidays": "US", "on_holiday": "next"}
    sqlite_factory.apply({"a": {"command": ["true"], "schedules": [{**rule, "calendar": holidays}]}})
    words = ("schedule", "preview", "a", "--from", "2026-12-31T00:00:00+00:00", "--count", "2")
    found = sqlite_factory.json(*words)
    assert [row["due_at"] for row in found] == ["2027-01-04T06:30:00+00:00", "2027-02-01T06:30:00+00:00"]
    explained = sqlite_factory.json(*words, "--explain")
    assert [(row["fires"], row["due_at"][:10]) for row in explained] == [(False, "2027-01-01"), (True, "2027-01-04")]
    assert "New Year's Day" in explained[0]["reason"]
    assert "2027-01-04 06:30:00" in sqlite_factory.run(*words).stdout
    assert sqlite_factory.run("schedule", "pause", "a").stdout == "schedule 'month' of job 'a' is paused\n"
    assert [row["paused"] for row in sqlite_factory.json("schedule", "list", "a")] == [True]
    assert sqlite_factory.run("schedule", "resume", "a", "month").stdout == "schedule 'month' of job 'a' is resumed\n"
    refused = sqlite_factory.run("schedule", "pause", "a", "year", code=3)
    assert refused.stderr == "Job 'a' has no schedule 'year'; its schedules are: month.\n"
    assert sqlite_factory.run("schedule", "preview", "b", code=3).stderr.startswith("There is no job 'b'")


def test_a_crontab_becomes_definitions_that_can_be_applied(sqlite_factory: Factory) -> None:
    text = "PATH=/usr/bin\n*/10 * * * * root test -x /usr/bin/true && true\n@reboot root true\n"
    imported = sqlite_factory.run("import", "crontab", "-", "--system", "--timezone", "Europe/Berlin", stdin=text)
    assert imported.stderr.startswith("warning: crontab, line 3: @reboot")
    (sqlite_factory.folder / "jobs.yaml").write_text(imported.stdout, encoding="utf-8")
    sqlite_factory.run("apply", "jobs.yaml")
    (found,) = sqlite_factory.json("schedule", "list")
    assert found["definition"] == {"cron": "*/10 * * * *", "timezone": "Europe/Berlin"}
    missing = sqlite_factory.run("import", "crontab", "nowhere", code=3)
    assert missing.stderr == "nowhere cannot be read: No such file or directory.\n"


def test_a_dead_scheduler_is_forgotten_after_a_day(db: Database) -> None:
    for name in ("dead", "silent", "new"):
        db.transact(schedulers.register, name)
        with db.begin() as conn:
            past = now(db) - timedelta(hours={"dead": 25, "silent": 1, "new": 0}[name])
            conn.execute(scheduler.update().where(scheduler.c.name == name).values(seen_at=past))
    db.transact(schedulers.register, "silent")  # the same name, started again
    assert [one.name for one in db.query(schedulers.schedulers)] == ["new", "silent"]
    assert db.single(schedulers.report, "new")
    assert not db.single(schedulers.report, "dead")
