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

from jobfac import doctor
from jobfac.database.dialects import utcnow
from jobfac.database.dialects.mssql import with_driver
from jobfac.database.engine import Database
from jobfac.database.tables import metadata, news, notification, schedule, worker, worker_lease
from jobfac.database.tables import run as runs
from jobfac.doctor import central, disk, engine, machine
from jobfac.doctor import factory as checks
from jobfac.doctor.finding import Finding, State, run
from jobfac.store.api_keys import Role
from tests.roles.monitoring.test_top import history
from tests.support.api_stage import Served
from tests.support.database import Hand, define, start
from tests.support.factory import Factory

CATALOG = """
CREATE TABLE dbo.denied (name text);
CREATE FUNCTION dbo.has_perms_by_name(name text, kind text, permission text) RETURNS integer LANGUAGE sql STABLE AS
    $$ SELECT (NOT EXISTS (SELECT 1 FROM dbo.denied AS d
        WHERE d.name = has_perms_by_name.permission || ' ' || has_perms_by_name.name))::integer $$;
CREATE TABLE sys.databases (name text, is_read_committed_snapshot_on boolean, is_auto_close_on boolean,
    delayed_durability_desc text, compatibility_level integer, is_parameterization_forced boolean);
INSERT INTO sys.databases VALUES (current_database(), true, false, 'DISABLED', 150, false);
"""
"""Features of SQL Server that the test server lacks."""


def at(url: str, folder: Path, **more: str) -> dict[str, str]:
    """An environment that has this database."""
    return {"JOBFAC_DATABASE_URL": url, "JOBFAC_SPOOL": str(folder / "spool"), **more}


def states(findings: list[Finding]) -> dict[str, State]:
    """The worst of each check."""
    order = list(State)
    return {one.check: max((f.state for f in findings if f.check == one.check), key=order.index) for one in findings}


def told(findings: Any, state: State) -> list[str]:
    """The findings of this state, with their remedies."""
    shown = [f"{one.found} -> {one.remedy}" for one in findings if one.state == state]
    assert all(one.remedy for one in findings if one.state is not State.OK)
    return shown


@pytest.fixture
def catalog(url: str, request: pytest.FixtureRequest) -> Any:
    """What runs SQL straight in the database behind the test server, which then answers like SQL Server."""
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


def test_a_factory_that_is_well_has_nothing_but_good_findings(
    url: str, db: Database, catalog: Any, tmp_path: Path
) -> None:
    history(db)
    Hand(db, "w2", pools=["gpu"])
    found = doctor.examine(at(url, tmp_path))
    assert [one for one in found if one.state is not State.OK] == []
    own = {"database file", "durability"} if catalog is None else {"options", "rights"}
    everywhere = {"settings", "drivers", "database", "clock", "schema", "workers", "queue", "schedules",
                  "notifications", "spool", "guardian", "files"}  # fmt: skip
    assert set(states(found)) == own | everywhere


def test_what_stands_still_is_found(db: Database) -> None:
    history(db)
    define(db, picky={"labels": {"zone": "a"}})
    start(db, "picky")
    Hand(db, "quiet").lapse()
    with db.begin() as conn:
        mine = sa.select(worker.c.id).where(worker.c.name == "w1").scalar_subquery()
        conn.execute(worker_lease.update().where(worker_lease.c.worker_id == mine).values(lease_until=utcnow(-60_000)))
        conn.execute(schedule.update().values(fire_at=utcnow(-120_000)))
        conn.execute(runs.update().where(runs.c.state == "scheduled").values(ready_at=utcnow(-120_000)))
        told_at = {"job": "load", "event": "failed", "created_at": utcnow(-700_000)}
        conn.execute(news.insert().values({**told_at, "attempt": 1}))
        message = {**told_at, "recipient": "{}", "body": "{}", "tries": 1, "due_at": utcnow()}
        for state in ("dead", "waiting"):
            conn.execute(notification.insert().values({**message, "state": state, "dedupe": state}))
    found = central.of_factory(db)
    problems, warnings = "\n".join(told(found, State.PROBLEM)), "\n".join(told(found, State.WARNING))
    for words in (
        "lease expired, for up to 1 minutes: worker w1",
        "no live worker takes the 2 runs queued in 'gpu'",
        "no live worker takes the 1 runs queued in 'default",
        "not promoted",
        "schedule overdue, for up to 2 minutes: schedule daily of job timed",
        "1 events of which somebody is to be told",
    ):
        assert words in problems, words
    for words in (
        "not heard from since their lease ended: quiet, w1",
        "no worker is alive",
        "1 were given up",
        "1 wait",
    ):
        assert words in warnings, words
    assert states(found).keys() == {"workers", "queue", "schedules", "notifications"}
    Hand(db, "fits", pools=["gpu"])
    Hand(db, "in-a", labels={"zone": "a"})
    assert {one.state for one in db.query(lambda conn: list(checks.takers(conn)))} == {State.OK}


def test_the_login_and_the_options_of_a_server_are_judged(url: str, db: Database, catalog: Any) -> None:
    if catalog is None:
        assert told(db.query(engine.sqlite_modes), State.OK) == ["journal_mode wal, synchronous 2 -> "]
        assert "local disk" in told(engine.judge_sqlite("delete", 2), State.PROBLEM)[0]
        assert "FULL" in told(engine.judge_sqlite("wal", 1), State.PROBLEM)[0]
        return
    rights = f"SELECT, INSERT, UPDATE, DELETE on all {len(metadata.sorted_tables)} tables -> "
    assert told(db.query(engine.mssql_rights), State.OK) == [rights]
    catalog("INSERT INTO dbo.denied VALUES ('INSERT jobfac.run'), ('DELETE jobfac.run'), ('DELETE jobfac.job')")
    (problem,) = told(db.query(engine.mssql_rights), State.PROBLEM)
    assert problem.startswith("this login may not INSERT on jobfac.run; DELETE on jobfac.job, jobfac.run -> ALTER ROLE")
    catalog(
        "UPDATE sys.databases SET is_read_committed_snapshot_on = false, is_auto_close_on = true, "
        "delayed_durability_desc = 'FORCED', compatibility_level = 120, is_parameterization_forced = true"
    )
    found = db.query(engine.mssql_options)
    assert [one.state for one in found] == [State.PROBLEM] * 3 + [State.WARNING, State.PROBLEM]
    catalog("DROP TABLE sys.databases")
    (unanswered,) = run("options", lambda: db.query(engine.mssql_options))
    assert unanswered.state is State.WARNING
    assert unanswered.found.startswith("not checked: ")


def test_many_of_a_kind_are_one_finding() -> None:
    moment = datetime(2026, 11, 24, tzinfo=UTC)
    since = moment - timedelta(days=1)
    lines = [
        {"problem": "not promoted", "subject": f"run {n}", "since": since, "remedy": "start a worker"} for n in range(9)
    ]
    assert told(checks.judge_trouble(lines, moment), State.PROBLEM) == [
        "not promoted, for up to 1,440 minutes: run 0, run 1, run 2 and 6 more -> start a worker"
    ]


def test_clocks_that_differ_are_told() -> None:
    assert doctor.judge_clock(0.3).state is State.OK
    assert "behind" in told([doctor.judge_clock(-40.0)], State.WARNING)[0]


# The machine


def test_settings_that_nothing_reads_or_that_lead_nowhere(tmp_path: Path) -> None:
    environment = {"JOBFAC_DATBASE_URL": "x", "JOBFAC_RUN_ID": "1", "JOBFAC_TEMPLATES": str(tmp_path / "none")}
    found = list(machine.settings(environment))
    assert "JOBFAC_DATABASE_URL" in told(found, State.WARNING)[0]
    assert len(told(found, State.WARNING)) == 1
    assert "which does not exist" in told(found, State.PROBLEM)[0]
    wrong = doctor.examine({"JOBFAC_LEASE": "long"})
    assert told(wrong, State.PROBLEM)[0].startswith("JOBFAC_LEASE")
    assert [one.check for one in wrong] == ["settings", "guardian", "files"]


def test_a_spool_that_cannot_be_written_or_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [one.state for one in machine.spool(tmp_path / "not" / "there" / "yet")] == [State.OK]
    (tmp_path / "file").write_text("")
    assert "cannot be written" in told(machine.spool(tmp_path / "file" / "spool"), State.PROBLEM)[0]
    monkeypatch.setattr(disk, "LITTLE", 1 << 60)
    assert "left -> Make room" in told(machine.spool(tmp_path), State.WARNING)[0]
    monkeypatch.setattr(disk, "TOO_LITTLE", 1 << 60)
    assert [one.state for one in machine.spool(tmp_path)] == [State.PROBLEM]


def test_a_file_where_sqlite_cannot_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = [("/", "ext4"), ("/srv", "nfs4"), ("/srv/local", "xfs")]
    assert engine.file_system(Path("/srv/jobfac.db"), mounts) == "nfs4"
    assert engine.file_system(Path("/srv/local/jobfac.db"), mounts) == "xfs"
    assert [one.state for one in engine.sqlite_file(tmp_path / "jobfac.db")][-1] is State.OK
    monkeypatch.setattr(engine, "file_system", lambda path, mounts: "nfs4")
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    problems = told(engine.sqlite_file(tmp_path / "jobfac.db"), State.PROBLEM)
    assert any("network file system (nfs4)" in one for one in problems)
    assert any(one.startswith(f"{tmp_path} cannot be written") for one in problems)


def test_drivers_that_are_missing() -> None:
    assert [one.state for one in machine.drivers("sqlite:///x.db")] == [State.OK]
    named = machine.drivers("mssql+pyodbc://u:p@h/d?driver=ODBC+Driver+99")
    assert "'ODBC Driver 99' is not installed" in told(named, State.PROBLEM)[0]
    for url, extra in {
        "mssql+pyodbc://h/d": "jobfac[mssql]",
        "mssql+mssqlpython://h/d": "jobfac[mssql-python]",
    }.items():
        assert extra in machine.missing_driver(ImportError("libodbc.so.2: no such file"), url).remedy


def test_a_look_at_the_drivers_does_not_make_odbc_pool_connections(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_machine_that_cannot_run_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [one.state for one in machine.files(4)] == [State.OK]
    assert "slots: 1,000,000,000" in told(machine.files(10**9), State.PROBLEM)[0]
    assert [one.state for one in machine.guardian()] == [State.OK]
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert [one.check for one in machine.guardian() if one.state is State.PROBLEM] == ["guardian"]


def test_behind_an_api_the_api_is_looked_at(served: Served) -> None:
    environment = {"JOBFAC_API_URL": served.url, "JOBFAC_API_KEY": served.key(Role.VIEWER)}
    assert [(one.check, one.state) for one in doctor.examine(environment)] == [("settings", "ok"), ("api", "ok")]
    wrong: Mapping[str, str] = {**environment, "JOBFAC_API_KEY": "none"}
    assert "jobfac keys create" in told(doctor.examine(wrong), State.PROBLEM)[0]
    assert not doctor.is_unreachable(doctor.examine(wrong))
    away = doctor.examine({**environment, "JOBFAC_API_URL": "http://127.0.0.1:1"})
    assert "cannot be reached" in told(away, State.PROBLEM)[0]
    assert doctor.is_unreachable(away)


# The command


def test_the_command_says_it_in_a_table_in_json_and_in_its_exit_code(sqlite_factory: Factory) -> None:
    factory = sqlite_factory
    shown = factory.run("doctor")
    assert "no worker is alive" in shown.stdout
    assert shown.stdout.endswith("1 warning\n")
    assert (
        f"defaults, {', '.join(sorted(one for one in factory.environment if one.startswith('JOBFAC_')))}"
        in shown.stdout
    )
    db = Database(factory.url)
    define(db, far={"pool": "gpu"})
    start(db, "far")
    db.close()
    found = factory.json("doctor", code=1)
    assert {tuple(one) for one in found} == {("check", "state", "found", "remedy")}
    assert [one["check"] for one in found if one["state"] == "problem"] == ["queue"]


def test_a_database_that_is_not_there_is_exit_code_5_and_the_rest_is_checked(tmp_path: Path) -> None:
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
        (problem,) = told((one for one in found if one.check == "database"), State.PROBLEM)
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
