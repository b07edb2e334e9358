"""`jobfac doctor`: each check on a healthy and a broken installation, and the command itself."""

import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from jobfac import definitions as d
from jobfac import doctor
from jobfac.database.dialects import utcnow
from jobfac.database.dialects.mssql import with_driver
from jobfac.database.engine import Database
from jobfac.database.tables import metadata, notification, outbox_event, schedule, worker, worker_lease
from jobfac.database.tables import run as runs
from jobfac.doctor import central, disk, engine, machine
from jobfac.doctor import factory as checks
from jobfac.doctor.finding import Finding, State, run_check
from jobfac.store import schedulers, schedules, sequences
from jobfac.store.api_keys import Role
from tests.roles.monitoring.test_top import history
from tests.support.api_stage import Served
from tests.support.database import Hand, define, start
from tests.support.factory import Factory
from tests.support.sequences import Player

CATALOG = """
CREATE TABLE dbo.denied (name text);
CREATE FUNCTION dbo.has_perms_by_name(name text, kind text, permission text) RETURNS integer LANGUAGE sql STABLE AS
    $$ SELECT (NOT EXISTS (SELECT 1 FROM dbo.denied AS d
        WHERE d.name = has_perms_by_name.permission || ' ' || has_perms_by_name.name))::integer $$;
DROP VIEW IF EXISTS sys.databases;
CREATE TABLE sys.databases (name text, is_read_committed_snapshot_on boolean, is_auto_close_on boolean,
    delayed_durability_desc text, compatibility_level integer, is_parameterization_forced boolean);
INSERT INTO sys.databases VALUES (current_database(), true, false, 'DISABLED', 150, false);
"""
"""Features of SQL Server that the test server lacks."""


def at(url: str, folder: Path, **more: str) -> dict[str, str]:
    """Return an environment with this database."""
    return {"JOBFAC_DATABASE_URL": url, "JOBFAC_SPOOL": str(folder / "spool"), **more}


def states(findings: list[Finding]) -> dict[str, State]:
    """Return the worst state of each check."""
    order = list(State)
    return {one.check: max((f.state for f in findings if f.check == one.check), key=order.index) for one in findings}


def texts(findings: Any, state: State) -> list[str]:
    """Return the findings of this state with their remedies, as text."""
    findings = list(findings)
    assert all(one.remedy for one in findings if one.state is not State.OK)
    return [f"{one.found} -> {one.remedy}" for one in findings if one.state == state]


@pytest.fixture
def catalog(url: str, request: pytest.FixtureRequest) -> Any:
    """A function that runs SQL in the PostgreSQL database behind the test server; None for SQLite."""
    if url.startswith("sqlite"):
        return None
    server = request.getfixturevalue("tds")
    dsn = psycopg.conninfo.make_conninfo(server.dsn, dbname=sa.make_url(url).database)

    def execute(text: str) -> None:
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute(text)

    execute(CATALOG)
    return execute


# The factory, on every engine


def test_a_healthy_factory_has_only_good_findings(url: str, db: Database, catalog: Any, tmp_path: Path) -> None:
    history(db)
    Hand(db, "w2", pools=["gpu"])
    db.transact(schedulers.register, "s1")
    found = doctor.examine(at(url, tmp_path))
    assert [one for one in found if one.state is not State.OK] == []
    own = {"database file", "durability"} if catalog is None else {"options", "rights"}
    everywhere = {"settings", "drivers", "database", "clock", "schema", "views", "workers", "schedulers", "queue",
                  "schedules", "notifications", "spool", "guardian", "files"}  # fmt: skip
    assert set(states(found)) == own | everywhere


def test_every_problem_of_the_factory_is_found(db: Database) -> None:
    history(db)
    define(db, picky={"labels": {"zone": "a"}})
    start(db, "picky")
    Hand(db, "quiet").lapse()
    with db.begin() as conn:
        mine = sa.select(worker.c.id).where(worker.c.name == "w1").scalar_subquery()
        conn.execute(worker_lease.update().where(worker_lease.c.worker_id == mine).values(lease_until=utcnow(-60_000)))
        conn.execute(schedule.update().values(fire_at=utcnow(-120_000)))
        conn.execute(runs.update().where(runs.c.state == "scheduled").values(ready_at=utcnow(-120_000)))
        event = {"job": "load", "event": "failed", "created_at": utcnow(-700_000)}
        conn.execute(outbox_event.insert().values({**event, "attempt": 1}))
        message = {**event, "recipient": "{}", "body": "{}", "tries": 1, "due_at": utcnow()}
        for state in ("dead", "waiting"):
            conn.execute(notification.insert().values({**message, "state": state, "dedupe": state}))
    found = central.factory_findings(db)
    problems, warnings = "\n".join(texts(found, State.PROBLEM)), "\n".join(texts(found, State.WARNING))
    for words in (
        "lease expired, for up to 1 min",
        "no live worker takes the 2 runs queued in 'gpu'",
        "no live worker takes the 1 runs queued in 'default",
        "not promoted",
        "schedule overdue, for up to 2 min",
        "1 events with subscribers wait",
    ):
        assert words in problems, words
    for words in (
        "no heartbeat since the lease expired: quiet, w1",
        "no worker is alive",
        "no scheduler is alive",
        "1 were given up",
        "1 wait",
    ):
        assert words in warnings, words
    assert states(found).keys() == {"workers", "schedulers", "queue", "schedules", "notifications"}
    Hand(db, "fits", pools=["gpu"])
    Hand(db, "in-a", labels={"zone": "a"})
    assert {one.state for one in db.query(lambda conn: list(checks.queues(conn)))} == {State.OK}


def test_files_for_which_no_worker_looks_are_reported(db: Database) -> None:
    rule = {"file": "/in/*.csv", "pool": "etl"}
    wanted = d.from_data({
        "jobs": {
            "load": {"command": ["true"], "schedules": [rule, {**rule, "name": "off", "enabled": False}]},
            "wait": {"steps": [{"name": "there", "wait": {"file": "/in/go", "pool": "gpu"}}]},
        }
    }).jobs  # fmt: skip
    for job, definition in wanted.items():
        db.transact(schedules.put, job, definition, "me")
    waiting = start(db, "wait")
    db.transact(schedulers.register, "s1")
    Player(db).look()
    nothing = "so nothing looks for the files of"
    assert texts(db.query(lambda conn: list(checks.triggers(conn))), State.WARNING) == [
        f"no live worker serves pool 'etl', {nothing} schedule 1 of job load -> Start a worker: "
        "`jobfac worker --pool etl`, or correct `pool` of the schedule or step.",
        f"no live worker serves pool 'gpu', {nothing} step there of run {waiting} -> Start a worker: "
        "`jobfac worker --pool gpu`, or correct `pool` of the schedule or step.",
    ]
    good = "workers look for files in the pools etl, gpu -> "
    quiet = Hand(db, "w2", pools=["etl", "gpu"])
    assert texts(db.query(lambda conn: list(checks.triggers(conn))), State.OK) == [good]
    quiet.lapse()
    assert len(texts(central.factory_findings(db), State.WARNING)) == 3, "the silent worker, too"
    db.transact(schedules.pause, "load", None, "me")
    db.transact(sequences.stop, waiting, now=False, by="me")
    assert texts(central.factory_findings(db), State.WARNING) == [
        "no heartbeat since the lease expired: w2 -> Any worker or scheduler that runs requeues their runs; "
        "check those machines."
    ]


def test_permissions_and_options_of_the_database_are_judged(url: str, db: Database, catalog: Any) -> None:
    if catalog is None:
        assert texts(db.query(engine.sqlite_modes), State.OK) == ["journal_mode wal, synchronous 2 -> "]
        assert "local disk" in texts(engine.judge_sqlite("delete", 2), State.PROBLEM)[0]
        assert "FULL" in texts(engine.judge_sqlite("wal", 1), State.PROBLEM)[0]
        return
    rights = f"SELECT, INSERT, UPDATE, DELETE on all {len(metadata.sorted_tables)} tables -> "
    assert texts(db.query(engine.mssql_rights), State.OK) == [rights]
    catalog("INSERT INTO dbo.denied VALUES ('INSERT jobfac.run'), ('DELETE jobfac.run'), ('DELETE jobfac.job')")
    (problem,) = texts(db.query(engine.mssql_rights), State.PROBLEM)
    assert problem.startswith("this login may not INSERT on jobfac.run; DELETE on jobfac.job, jobfac.run -> ALTER ROLE")
    catalog(
        "UPDATE sys.databases SET is_read_committed_snapshot_on = false, is_auto_close_on = true, "
        "delayed_durability_desc = 'FORCED', compatibility_level = 120, is_parameterization_forced = true"
    )
    found = db.query(engine.mssql_options)
    assert [one.state for one in found] == [State.PROBLEM] * 3 + [State.WARNING, State.PROBLEM]
    catalog("DROP TABLE sys.databases")
    (unanswered,) = run_check("options", lambda: db.query(engine.mssql_options))
    assert unanswered.state is State.WARNING
    assert unanswered.found.startswith("not checked: ")


def test_cases_of_one_problem_are_one_finding() -> None:
    moment = datetime(2026, 11, 24, tzinfo=UTC)
    since = moment - timedelta(days=1)
    rows = [checks.Health("not promoted", f"run {n}", since, "start a worker", 9) for n in range(3)]
    assert texts(checks.judge_trouble(rows, moment), State.PROBLEM) == [
        "not promoted, for up to 1 d 0 h: run 0, run 1, run 2 and 6 more -> start a worker"
    ]
    (ahead,) = texts(checks.judge_trouble(rows[:1], since - timedelta(days=1)), State.PROBLEM)
    assert "for up to 0.0 s" in ahead, "the clock was set back"


def test_a_clock_that_differs_is_a_warning() -> None:
    assert doctor.judge_clock(0.3).state is State.OK
    assert "behind" in texts([doctor.judge_clock(-40.0)], State.WARNING)[0]


# The machine


def test_misspelt_settings_and_missing_files_are_found(tmp_path: Path) -> None:
    environment = {"JOBFAC_DATBASE_URL": "x", "JOBFAC_RUN_ID": "1", "JOBFAC_TEMPLATES": str(tmp_path / "none")}
    found = list(machine.settings(environment))
    assert "JOBFAC_DATABASE_URL" in texts(found, State.WARNING)[0]
    assert len(texts(found, State.WARNING)) == 1
    assert "which does not exist" in texts(found, State.PROBLEM)[0]
    wrong = doctor.examine({"JOBFAC_LEASE": "long"})
    assert texts(wrong, State.PROBLEM)[0].startswith("JOBFAC_LEASE")
    assert [one.check for one in wrong] == ["settings", "guardian", "files"]


def test_a_spool_without_write_permission_or_space_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [one.state for one in machine.spool(tmp_path / "not" / "there" / "yet")] == [State.OK]
    (tmp_path / "file").write_text("")
    assert "cannot be written" in texts(machine.spool(tmp_path / "file" / "spool"), State.PROBLEM)[0]
    monkeypatch.setattr(disk, "LOW_SPACE", 1 << 60)
    assert "left -> Make room" in texts(machine.spool(tmp_path), State.WARNING)[0]
    monkeypatch.setattr(disk, "TOO_LOW_SPACE", 1 << 60)
    assert [one.state for one in machine.spool(tmp_path)] == [State.PROBLEM]


def test_a_database_file_that_sqlite_cannot_use_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = [("/", "ext4"), ("/srv", "nfs4"), ("/srv/local", "xfs")]
    assert engine.file_system(Path("/srv/jobfac.db"), mounts) == "nfs4"
    assert engine.file_system(Path("/srv/local/jobfac.db"), mounts) == "xfs"
    assert [one.state for one in engine.sqlite_file(tmp_path / "jobfac.db")][-1] is State.OK
    (tmp_path / "jobfac.db-wal").touch(0o600)
    os.truncate(tmp_path / "jobfac.db-wal", disk.LARGE_LOG + 1)
    (large,) = texts(engine.sqlite_file(tmp_path / "jobfac.db"), State.WARNING)
    assert large.startswith(f"{tmp_path}/jobfac.db-wal has 256 MiB -> A program keeps a transaction open")
    monkeypatch.setattr(engine, "file_system", lambda path, mounts: "nfs4")
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    problems = texts(engine.sqlite_file(tmp_path / "jobfac.db"), State.PROBLEM)
    assert any("network file system (nfs4)" in one for one in problems)
    assert any(one.startswith(f"{tmp_path} cannot be written") for one in problems)


def test_missing_drivers_are_found() -> None:
    assert [one.state for one in machine.drivers("sqlite:///x.db")] == [State.OK]
    named = machine.drivers("mssql+pyodbc://u:p@h/d?driver=ODBC+Driver+99")
    assert "'ODBC Driver 99' is not installed" in texts(named, State.PROBLEM)[0]
    for url, extra in {
        "mssql+pyodbc://h/d": "jobfac[mssql]",
        "mssql+mssqlpython://h/d": "jobfac[mssql-python]",
    }.items():
        assert extra in machine.missing_driver(ImportError("libodbc.so.2: no such file"), url).remedy


def test_listing_drivers_does_not_enable_odbc_connection_pooling(monkeypatch: pytest.MonkeyPatch) -> None:
    import pyodbc

    pooled: list[bool] = []

    def drivers() -> list[str]:
        pooled.append(pyodbc.pooling)
        return []

    monkeypatch.setattr(pyodbc, "drivers", drivers)
    monkeypatch.setattr(pyodbc, "pooling", True)
    with_driver(sa.make_url("mssql+pyodbc://h/d"))
    monkeypatch.setattr(pyodbc, "pooling", True)
    list(machine.drivers("mssql+pyodbc://h/d"))
    assert pooled == [False, False]


def test_a_machine_that_cannot_run_a_worker_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [one.state for one in machine.files(4)] == [State.OK]
    assert "slots: 1,000,000,000" in texts(machine.files(10**9), State.PROBLEM)[0]
    assert [one.state for one in machine.guardian()] == [State.OK]
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert [one.check for one in machine.guardian() if one.state is State.PROBLEM] == ["guardian"]


def test_with_an_api_url_the_api_is_checked(served: Served) -> None:
    environment = {"JOBFAC_API_URL": served.url, "JOBFAC_API_KEY": served.key(Role.VIEWER)}
    assert [(one.check, one.state) for one in doctor.examine(environment)] == [("settings", "ok"), ("api", "ok")]
    wrong: Mapping[str, str] = {**environment, "JOBFAC_API_KEY": "none"}
    assert "jobfac keys create" in texts(doctor.examine(wrong), State.PROBLEM)[0]
    assert not doctor.is_unreachable(doctor.examine(wrong))
    away = doctor.examine({**environment, "JOBFAC_API_URL": "http://127.0.0.1:1"})
    assert "cannot be reached" in texts(away, State.PROBLEM)[0]
    assert doctor.is_unreachable(away)


# The command


def test_the_command_prints_a_table_or_json_and_sets_its_exit_code(sqlite_factory: Factory) -> None:
    factory = sqlite_factory
    shown = factory.run("doctor")
    assert "no worker is alive" in shown.stdout
    assert shown.stdout.endswith("2 warnings\n")
    given = sorted(one for one in factory.environment if one.startswith("JOBFAC_") and "TEST" not in one)
    assert f"defaults, {', '.join(given)}" in shown.stdout
    db = Database(factory.url)
    define(db, far={"pool": "gpu"})
    start(db, "far")
    db.close()
    found = factory.json("doctor", code=1)
    assert {tuple(one) for one in found} == {("check", "state", "found", "remedy")}
    assert [one["check"] for one in found if one["state"] == "problem"] == ["queue"]


def test_an_unreachable_database_is_exit_code_5_and_other_checks_still_run(tmp_path: Path) -> None:
    (tmp_path / "letter.db").write_text("Dear database, " * 1000)
    (tmp_path / "empty.db").touch()
    remedies = {
        f"sqlite:///{tmp_path / 'none.db'}": "jobfac db upgrade",
        f"sqlite:///{tmp_path / 'letter.db'}": "JOBFAC_DATABASE_URL",
        "nonsense": "JOBFAC_DATABASE_URL",
        "mysql://host/x": "JOBFAC_DATABASE_URL",
        "mssql+pyodbc://u:secret@127.0.0.1:1/x?timeout=1": "JOBFAC_DATABASE_URL",
    }
    for url, remedy in remedies.items():
        found = doctor.examine(at(url, tmp_path))
        (problem,) = texts((one for one in found if one.check == "database"), State.PROBLEM)
        assert remedy in problem
        assert "secret" not in problem
        assert doctor.is_unreachable(found)
        assert {"spool", "guardian", "files"} <= states(found).keys()
    unmade = doctor.examine(at(f"sqlite:///{tmp_path / 'empty.db'}", tmp_path))
    assert [one.check for one in unmade if one.state is State.PROBLEM] == ["schema"]
    with Factory(f"sqlite:///{tmp_path / 'none.db'}", tmp_path) as factory:
        done = factory.run("doctor", code=5)
        assert done.stderr == ""
        assert not (tmp_path / "none.db").exists()
