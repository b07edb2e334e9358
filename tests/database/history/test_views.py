"""The views under sql/, on every engine, after a small history."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database import sql_files
from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import attempt, expectation, run, run_event, schedule, visit, worker_lease
from jobfac.doctor import factory
from jobfac.doctor.finding import State
from jobfac.states import RunState
from jobfac.store import output, runs, schedules, statistics, workers
from jobfac.store.runs import Outcome, StartRequest
from jobfac.store.workers import Registration
from jobfac.store.workers.claiming import Room
from tests.support.database import Hand, define

VIEWS = re.findall(r"^CREATE VIEW (\w+)", "\n".join(sql_files.texts("sqlite")), flags=re.MULTILINE)

JOBS = """
jobs:
  load: {command: [load], category: etl, priority: 5, schedules: [{name: often, cron: "* * * * *", missed: once}]}
  alone: {command: [alone], concurrency: {key: printer}}
  elsewhere: {command: [elsewhere], pool: gpu}
  all: {steps: [{name: first, jobs: [load]}]}
"""


@pytest.fixture
def jobs(db: Database) -> Database:
    """The database with the jobs above."""
    wanted = d.loads(JOBS).jobs
    plan = d.plan({}, {name: d.canonical(one) for name, one in wanted.items()}, prune=False)
    db.transact(schedules.apply, plan, wanted, "me")
    return db


def view(db: Database, name: str, **where: Any) -> list[Mapping[Any, Any]]:
    """Return the rows of a view that have these values, by their first column."""
    table = sa.table(name, *(sa.column(column) for column in where), schema=None if _is_sqlite(db) else "jobfac")
    query = sa.select(sa.text("*")).select_from(table)
    with db.read() as conn:
        rows = conn.execute(query.where(*(table.c[column] == value for column, value in where.items()))).mappings()
        return sorted(rows, key=lambda row: str(next(iter(row.values()))))


def one(db: Database, name: str, **where: Any) -> Mapping[Any, Any]:
    rows = view(db, name, **where)
    assert len(rows) == 1
    return rows[0]


def _is_sqlite(db: Database) -> bool:
    return db.dialect.name == "sqlite"


def start(db: Database, job: str, **options: Any) -> int:
    return db.transact(runs.start, StartRequest(job, "me", **options))


def register(db: Database, name: str = "w1", slots: int = 4, lease: float = 60) -> int:
    who = Registration(name, "host", 1, f"token-{name}", "0", slots, ["default"], {})
    return db.transact(workers.register, who, lease)


def claim(db: Database, worker_id: int, name: str = "w1") -> list[int]:
    return [claimed.id for claimed in db.transact(workers.claim, worker_id, name, {"default": 1}, Room(10, 10))]


def finish(db: Database, worker_id: int, run_id: int, state: RunState, **outcome: Any) -> None:
    db.transact(runs.finish, worker_id, [Outcome(run_id, 1, state, **outcome)], "w1")


def move_to_the_past(db: Database, table: sa.Table, row: int, seconds: int, *columns: str) -> None:
    """Change the times of a row, as if it had happened ``seconds`` earlier."""
    (key,) = table.primary_key.columns
    change = table.update().where(key == row)
    db.transact(lambda conn: conn.execute(change.values(dict.fromkeys(columns, utcnow(-1000 * seconds)))))


def test_both_engines_have_the_same_views_and_columns(db: Database, sqlite_url: str) -> None:
    def columns(database: Database) -> dict[str, list[str]]:
        schema = "" if _is_sqlite(database) else "jobfac."
        with database.read() as conn:
            return {v: list(conn.exec_driver_sql(f"SELECT * FROM {schema}{v} WHERE 1 = 0").keys()) for v in VIEWS}

    other = Database(sqlite_url)
    assert columns(db) == columns(other)
    other.close()
    written = re.findall(r"^CREATE OR ALTER VIEW jobfac.(\w+)", "\n".join(sql_files.texts("mssql")), flags=re.MULTILINE)
    assert written == VIEWS


def test_v_runs(jobs: Database) -> None:
    done = start(jobs, "load", arguments=["--full"], payload="p")
    queued = start(jobs, "elsewhere")
    worker_id = register(jobs)
    claim(jobs, worker_id)
    move_to_the_past(jobs, run, done, 60, "created_at", "queued_at")
    move_to_the_past(jobs, run, done, 40, "started_at")
    running = one(jobs, "v_runs", id=done)
    assert (running["state"], running["worker"], running["category"]) == ("running", "w1", "etl")
    with jobs.read() as conn:
        stored = conn.execute(sa.select(run.c.queued_at, run.c.started_at).where(run.c.id == done)).one()
    waited = (stored.started_at - stored.queued_at).total_seconds()
    assert waited >= 20
    assert float(running["wait_seconds"]) == pytest.approx(waited, abs=0.002)
    assert 40 <= float(running["run_seconds"]) < 100
    finish(jobs, worker_id, done, RunState.SUCCEEDED, exit_code=0, exit_message="12 files")
    row = one(jobs, "v_runs", id=done)
    assert (row["state"], row["exit_code"], row["exit_message"], row["priority"]) == ("succeeded", 0, "12 files", 5)
    assert (row["arguments"], row["payload"], row["created_by"]) == ('["--full"]', "p", "me")
    assert 40 <= float(row["run_seconds"]) < 100
    move_to_the_past(jobs, run, queued, 10, "queued_at")
    waiting = one(jobs, "v_runs", id=queued)
    assert float(waiting["wait_seconds"]) >= 10
    assert waiting["run_seconds"] is None


def test_v_queue(jobs: Database) -> None:
    low = start(jobs, "load", priority=1)
    high = start(jobs, "load", priority=9)
    first, second = start(jobs, "alone"), start(jobs, "alone")
    later = start(jobs, "load", delay=3600)
    unwanted = start(jobs, "elsewhere")
    sequence = start(jobs, "all")
    register(jobs)
    move_to_the_past(jobs, run, low, 30, "queued_at")
    found = {row["id"]: row for row in view(jobs, "v_queue")}
    assert {found[high]["place"], found[low]["place"], found[first]["place"]} == {1, 2, 3}
    assert (found[high]["place"], found[low]["place"]) == (1, 2)
    assert float(found[low]["waiting_seconds"]) >= 30
    assert found[low]["pool_workers"] == 1
    assert found[unwanted]["pool_workers"] == 0
    waits = {run_id: found[run_id]["waits_for"] for run_id in (low, second, later, unwanted, sequence)}
    assert waits.pop(later).startswith("scheduled until 20")
    assert waits == {
        low: "its turn: a slot is free",
        second: f"concurrency limit 1 of 'printer': run {first} of alone",
        unwanted: "no live worker serves pool 'gpu'",
        sequence: "a worker or scheduler begins it",
    }
    assert found[later]["place"] is None


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_v_queue_ignores_case_as_workers_do(jobs: Database) -> None:
    """On SQL Server the collation of names does it."""
    define(jobs, zoned={"pool": "ETL", "labels": {"zone": "a"}})
    start(jobs, "zoned")
    Hand(jobs, "w", pools=["etl"], labels={"Zone": "A"})
    (row,) = view(jobs, "v_queue")
    assert (row["waits_for"], row["pool_workers"]) == ("its turn: a slot is free", 1)


def test_v_fleet(jobs: Database) -> None:
    busy, idle = register(jobs, "busy"), register(jobs, "idle")
    start(jobs, "load")
    claim(jobs, busy, "busy")
    dead = register(jobs, "dead")
    jobs.transact(workers.expire, "w", only=dead)
    late = register(jobs, "late")
    move_to_the_past(jobs, worker_lease, late, 5, "lease_until")
    fleet = {row["name"]: row for row in view(jobs, "v_fleet")}
    assert (fleet["busy"]["busy"], fleet["busy"]["slots"], fleet["idle"]["busy"]) == (1, 4, 0)
    assert {name: bool(row["alive"]) for name, row in fleet.items()} == {
        "busy": True,
        "idle": True,
        "dead": False,
        "late": False,
    }
    assert (fleet["dead"]["state"], fleet["late"]["state"]) == ("dead", "active")
    assert idle == fleet["idle"]["id"]


def test_v_job_statistics(jobs: Database) -> None:
    ids = [start(jobs, "load") for _ in range(4)]
    worker_id = register(jobs)
    claim(jobs, worker_id)
    for run_id, seconds in zip(ids, (10, 20, 30, 40), strict=True):
        move_to_the_past(jobs, run, run_id, seconds, "started_at", "queued_at")
    finish(jobs, worker_id, ids[0], RunState.SUCCEEDED)
    finish(jobs, worker_id, ids[1], RunState.TIMED_OUT)
    finish(jobs, worker_id, ids[2], RunState.SUCCEEDED)
    start(jobs, "load", delay=3600)
    row = one(jobs, "v_job_statistics", job="load")
    counts = ("runs", "waiting", "running", "succeeded", "failed", "stopped", "denied", "mixed")
    assert [row[name] for name in counts] == [5, 1, 1, 2, 1, 0, 0, 0]
    assert float(row["success_percent"]) == 66.7
    assert 20 <= float(row["average_seconds"]) < 25
    assert 30 <= float(row["maximum_seconds"]) < 35
    assert float(row["average_wait_seconds"]) == 0
    assert row["last_state"] == "scheduled"
    assert row["last_success_at"] == one(jobs, "v_runs", id=ids[2])["ended_at"]
    assert row["last_failure_at"] == one(jobs, "v_runs", id=ids[1])["ended_at"]
    never = one(jobs, "v_job_statistics", job="alone")
    assert (never["runs"], never["success_percent"], never["last_state"]) == (0, None, None)


def test_v_schedule(jobs: Database) -> None:
    first = one(jobs, "v_schedule", job="load")
    assert (first["name"], first["last_run_id"], bool(first["paused"])) == ("often", None, False)
    assert -30 < float(first["seconds_until"]) <= 60  # the next minute may begin before the question
    move_to_the_past(jobs, schedule, first["id"], 90, "next_due_at", "fire_at")
    assert float(one(jobs, "v_schedule", job="load")["seconds_until"]) <= -90
    jobs.transact(schedules.insert_due, "s1")
    after = one(jobs, "v_schedule", job="load")
    assert after["last_run_state"] == "queued"
    assert one(jobs, "v_runs", id=after["last_run_id"])["schedule_id"] == first["id"]


def test_v_sequence_runs_and_v_steps(jobs: Database) -> None:
    parent = start(jobs, "all")
    worker_id = register(jobs)
    entered = {"run_id": parent, "step": "first", "number": 1, "start": "started", "proceed": "when_all"}
    jobs.transact(lambda conn: conn.execute(visit.insert().values({**entered, "entered_at": utcnow()})))
    good, bad = (start(jobs, "load", sequence_run_id=parent, manual=False) for _ in range(2))
    claim(jobs, worker_id)
    finish(jobs, worker_id, bad, RunState.FAILED, exit_code=1)
    row = one(jobs, "v_sequence_runs")
    assert [row[name] for name in ("id", "job", "state", "last_step")] == [parent, "all", "queued", "first"]
    assert [row[name] for name in ("jobs", "active", "succeeded", "failed", "stopped")] == [2, 1, 0, 1, 0]
    finish(jobs, worker_id, good, RunState.SUCCEEDED)
    assert [one(jobs, "v_sequence_runs")[name] for name in ("active", "succeeded")] == [0, 1]
    for run_id, ended in ((good, RunState.MIXED), (bad, RunState.DENIED)):
        with jobs.begin() as conn:
            conn.execute(run.update().where(run.c.id == run_id).values(state=ended))
    row = one(jobs, "v_sequence_runs")
    assert [row[name] for name in ("succeeded", "mixed", "failed", "denied")] == [0, 1, 0, 1]
    step = one(jobs, "v_steps")
    assert [step[name] for name in ("run_id", "job", "step", "number", "result")] == [parent, "all", "first", 1, None]


def test_v_failures(jobs: Database) -> None:
    broken, good = start(jobs, "load"), start(jobs, "load")
    worker_id = register(jobs)
    claim(jobs, worker_id)
    finish(jobs, worker_id, broken, RunState.FAILED, exit_code=3, reason="exit code 3")
    row = one(jobs, "v_failures")
    assert [row[name] for name in ("id", "job", "category", "state", "exit_code", "reason")] == [
        broken, "load", "etl", "failed", 3, "exit code 3",
    ]  # fmt: skip
    assert (row["worker"], row["recovered_at"]) == ("w1", None)
    finish(jobs, worker_id, good, RunState.SUCCEEDED)
    assert one(jobs, "v_failures")["recovered_at"] == one(jobs, "v_runs", id=good)["ended_at"]


def test_v_daily_statistics(jobs: Database) -> None:
    good, bad = start(jobs, "load"), start(jobs, "load")
    worker_id = register(jobs)
    claim(jobs, worker_id)
    finish(jobs, worker_id, good, RunState.SUCCEEDED)
    finish(jobs, worker_id, bad, RunState.TIMED_OUT)
    noon = datetime(2027, 3, 1, 12, tzinfo=UTC)
    with jobs.begin() as conn:
        for run_id, seconds in ((good, 10), (bad, 20)):
            times = {"started_at": noon, "ended_at": noon + timedelta(seconds=seconds)}
            conn.execute(run.update().where(run.c.id == run_id).values(queued_at=noon, **times))
            conn.execute(attempt.update().where(attempt.c.run_id == run_id).values(times))
    assert view(jobs, "v_daily_statistics") == view(jobs, "v_daily_workers") == []
    jobs.transact(statistics.count)
    row = one(jobs, "v_daily_statistics", job="load")
    assert str(row["day"]) == "2027-03-01"
    counts = ("runs", "succeeded", "failed", "stopped", "denied", "mixed", "attempts", "retries", "longest_run")
    assert [row[name] for name in counts] == [2, 1, 1, 0, 0, 0, 2, 0, bad]
    metrics = ("success_percent", "average_seconds", "minimum_seconds", "maximum_seconds", "average_wait_seconds")
    assert [float(row[name]) for name in metrics] == [50, 15, 10, 20, 0]
    work = one(jobs, "v_daily_workers", worker="w1")
    assert (work["executions"], float(work["busy_seconds"])) == (2, 30)


def test_v_events(jobs: Database) -> None:
    run_id = start(jobs, "load")
    jobs.transact(runs.request_stop, run_id, now=False, by="boss")
    events = view(jobs, "v_events", run_id=run_id)
    assert [(row["job"], row["attempt"], row["event"], row["who"]) for row in events] == [
        ("load", 0, "queued", "me"),
        ("load", 0, "stopped", "boss"),
    ]


def test_v_output(jobs: Database) -> None:
    run_id = start(jobs, "load")
    jobs.transact(output.append, [output.Stored(run_id, 1, "stdout", 0, b"hello\n")])
    row = one(jobs, "v_output", run_id=run_id)
    assert [row[name] for name in ("job", "attempt", "stream", "position", "text")] == [
        "load", 1, "stdout", 0, "hello\n",
    ]  # fmt: skip


def test_v_health_is_empty_without_problems(jobs: Database) -> None:
    start(jobs, "load")
    register(jobs)
    assert view(jobs, "v_health") == []


def test_v_health_lists_each_problem(jobs: Database) -> None:
    gone, awake = register(jobs, "gone"), register(jobs, "awake")
    long, unwanted, overdue = start(jobs, "load"), start(jobs, "elsewhere"), start(jobs, "load", delay=3600)
    stubborn = start(jobs, "load", priority=100)
    refused, again = start(jobs, "load", delay=300), start(jobs, "load", delay=300)
    for run_id, why in ((refused, "not started: 'x' cannot be started: a limit is reached"), (again, "exit code 1")):
        with jobs.begin() as conn:
            conn.execute(run.update().where(run.c.id == run_id).values(reason=why))
        move_to_the_past(jobs, run, run_id, 301, "started_at")
    leases_taken = jobs.transact(workers.claim, awake, "awake", {"default": 1}, Room(1, 1))
    assert [claimed.id for claimed in leases_taken] == [stubborn]
    jobs.transact(runs.request_stop, stubborn, now=False, by="me")
    requested = next(row["id"] for row in view(jobs, "v_events", run_id=stubborn) if row["event"] == "stopping")
    move_to_the_past(jobs, run_event, requested, 700, "at")
    move_to_the_past(jobs, worker_lease, gone, 60, "lease_until")
    move_to_the_past(jobs, run, long, 400, "queued_at")
    move_to_the_past(jobs, run, overdue, 90, "ready_at")
    move_to_the_past(jobs, schedule, one(jobs, "v_schedule", job="load")["id"], 90, "fire_at")
    assert [(row["problem"], row["subject"]) for row in view(jobs, "v_health")] == [
        ("lease expired", "worker gone"),
        ("long queue", "queue default"),
        ("no worker", "queue gpu"),
        ("not promoted", f"run {overdue}"),
        ("schedule overdue", "schedule often of job load"),
        ("start refused", f"run {refused} of job load"),
        ("stop not obeyed", f"run {stubborn} of job load"),
    ]
    assert unwanted


def test_v_health_names_a_sequence_that_nothing_begins(jobs: Database) -> None:
    run_id = start(jobs, "all")
    assert view(jobs, "v_health") == []
    move_to_the_past(jobs, run, run_id, 90, "queued_at")
    assert [row["subject"] for row in view(jobs, "v_health", problem="no worker")] == ["queue @sequences"]
    assert [one.state for one in jobs.query(lambda conn: list(factory.queues(conn)))] == [State.PROBLEM]
    register(jobs)
    assert view(jobs, "v_health") == []
    assert [one.state for one in jobs.query(lambda conn: list(factory.queues(conn)))] == [State.OK]


def test_v_health_names_jobs_that_are_overdue(jobs: Database) -> None:
    with jobs.begin() as conn:
        row = {"job": "load", "definition": "1d", "since": utcnow(), "due_at": utcnow(), "overdue_due_at": utcnow()}
        conn.execute(expectation.insert().values(**row, overdue_at=utcnow()))
    (found,) = view(jobs, "v_health")
    assert (found["problem"], found["subject"]) == ("overdue", "job load")
