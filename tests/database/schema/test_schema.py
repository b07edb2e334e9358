"""The migrations create the schema that ``tables`` describes, on every engine."""

import io
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from sqlalchemy.dialects import mssql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from jobfac import definitions
from jobfac.database import locks, sql_files, tables
from jobfac.database.dialects import lease_now, utcnow
from jobfac.database.engine import Database, _config, write_script
from jobfac.database.metadata import missing_parts
from jobfac.database.sql_files import Maker, Views, judge_views
from jobfac.errors import Refused
from jobfac.operations import holds, notes
from jobfac.operations.caller import Caller
from jobfac.store import jobs, runs, workers
from jobfac.store.history import search
from jobfac.store.holds.placing import Scope
from scripts.deploy.upgrade_rehearsal import refusals


def _made(text: str) -> dict[str, frozenset[str]]:
    """Return what a script creates: for each table its columns and constraints, for each index its definition."""
    text = "\n".join(line for line in text.splitlines() if not line.startswith("--") and line.strip() != "GO")
    made: dict[str, frozenset[str]] = {}
    for one in text.split(";"):
        plain = re.sub(r"\s+", " ", one).strip()
        if found := re.match(r"CREATE TABLE (\S+) \((.*)\)$", plain):
            made[found[1]] = frozenset(_parts(found[2]))
        elif found := re.match(r"CREATE (?:UNIQUE )?INDEX (\S+) ", plain):
            made[found[1]] = frozenset([plain])
        elif found := re.match(r"DROP INDEX (\S+)", plain):
            del made[found[1]]
        elif found := re.match(r"ALTER TABLE (\S+) ADD (?:COLUMN )?(?!CONSTRAINT)(.*)$", plain):
            made[found[1]] |= {found[2]}
        elif found := re.match(r"ALTER TABLE (\S+) DROP COLUMN (\S+)$", plain):
            made[found[1]] -= {part for part in made[found[1]] if part.startswith(f"{found[2]} ")}
    return made


def _parts(body: str) -> list[str]:
    """Split a table's definition into columns and constraints, at the commas outside of brackets."""
    parts, depth = [""], 0
    for letter in body:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


@pytest.mark.parametrize(
    ("dialect", "schema"),
    [
        (sqlite.dialect(), None),
        (mssql.dialect(deprecate_large_types=True), tables.SCHEMA),
    ],
)
def test_the_migrations_create_the_described_tables(dialect: sa.Dialect, schema: str | None) -> None:
    script = io.StringIO()
    write_script(dialect.name, script)
    wanted = sa.MetaData(naming_convention=tables.metadata.naming_convention)
    text = []
    for table in tables.metadata.sorted_tables:
        copy = table.to_metadata(wanted, schema=schema) if schema else table.to_metadata(wanted)
        text.append(str(CreateTable(copy).compile(dialect=dialect)))
        text += [str(CreateIndex(index).compile(dialect=dialect)) for index in copy.indexes]
    made = {name: parts for name, parts in _made(script.getvalue()).items() if "alembic_version" not in name}
    assert made == _made(";\n".join(text))


def test_an_upgrade_keeps_the_leases_of_workers(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path / 'old.db'}")
    db.dialect.create()
    with db._migrating.connect() as conn:
        config = _config("sqlite")
        config.attributes["connection"] = conn
        command.upgrade(config, "0001")
        worker = "name, host, pid, token, version, slots, pools, labels, state, started_at, seen_at, lease_until"
        for name, state in (("alive", "active"), ("gone", "dead")):
            conn.exec_driver_sql(
                f"INSERT INTO worker ({worker}) VALUES ('{name}', 'h', 1, 't', '0', 1, '[]', '{{}}', '{state}', "
                "'2026-01-01 00:00:00.000000', '2026-01-01 00:00:01.000000', '2026-01-01 00:00:16.000000')"
            )
        conn.commit()
    db.upgrade()
    with db.read() as conn:
        kept = conn.execute(sa.select(tables.worker_lease).order_by(tables.worker_lease.c.worker_id)).all()
        assert [(row.worker_id, row.ended, (row.lease_until - row.seen_at).seconds) for row in kept] == [
            (1, False, 15),
            (2, True, 15),
        ]
        assert [one.name for one in workers.workers(conn)] == ["alive", "gone"]
    db.close()


LANDED = "0001"
"""The version of the schema that shops may have: before slots, holds, notes, parameters and files."""

RUNS = """\
INSERT INTO {schema}run (job, job_version, kind, state, queue, priority, created_at, created_by, ended_at, restartable,
    already_running, counted)
VALUES ('a', 1, 'program', 'failed', 'default', 0, '2026-01-01 00:00:00.000', 'me', '2026-01-01 00:00:01.000', 1,
    'start', 1), ('a', 1, 'program', 'queued', 'default', 0, '2026-01-01 00:00:00.000', 'me', NULL, 1, 'start', 0)"""


@pytest.fixture
def landed(url: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of each engine with the schema ``LANDED``."""
    if url.startswith("sqlite"):
        db = Database(f"sqlite:///{tmp_path / 'landed.db'}")
        db.dialect.create()
        _upgrade_to(db, LANDED)
        yield db
        db.close()
        return
    from tests.tds_server import harness

    server = request.getfixturevalue("tds")
    driver = "pyodbc" if "pyodbc" in url else "mssqlpython"
    with server.database("landed") as name:
        db = Database(harness.url(server.port, driver, name).render_as_string(hide_password=False))
        _upgrade_to(db, LANDED)
        yield db
        db.close()


def _upgrade_to(db: Database, version: str) -> None:
    with db._migrating.connect() as conn:
        config = _config(db.dialect.name)
        config.attributes["connection"] = conn
        if db.dialect.name == "mssql":
            conn.exec_driver_sql("IF SCHEMA_ID(N'jobfac') IS NULL EXEC(N'CREATE SCHEMA jobfac')")
        command.upgrade(config, version)
        conn.commit()


def test_an_upgrade_from_the_landed_schema_keeps_runs_and_they_can_be_held_and_acknowledged(landed: Database) -> None:
    schema = "" if landed.dialect.name == "sqlite" else "jobfac."
    with landed.begin() as conn:
        conn.exec_driver_sql(RUNS.format(schema=schema))
    landed.upgrade()
    me = Caller("me")
    with landed.begin() as conn:
        jobs.put(conn, "a", definitions.from_data({"jobs": {"a": {"command": ["x"]}}}).jobs["a"], "me")
    found = {str(run.state): run for run in landed.query(search.find_all)}
    assert (found["failed"].acknowledged_at, found["queued"].held) == (None, None)
    placed = holds.hold(landed, me, Scope(job="a"), "why")
    assert landed.query(runs.get, found["queued"].id).state == "blocked"
    holds.release(landed, me, placed.id)
    assert landed.query(runs.get, found["queued"].id).state == "queued"
    notes.add(landed, me, found["failed"].id, "seen", acknowledge=True)
    assert landed.query(runs.get, found["failed"].id).acknowledged_by == "me"


def test_an_upgrade_is_refused_while_a_worker_of_the_old_schema_is_alive(landed: Database) -> None:
    _upgrade_to(landed, "0003")  # the first one whose leases are a table of their own
    with landed.begin() as conn:
        row = {"name": "batch-1", "host": "h", "pid": 1, "token": "t", "version": "0", "slots": 1, "pools": "[]"}
        more = {"labels": "{}", "state": "active", "started_at": utcnow()}
        conn.execute(tables.worker.insert().values({**row, **more}))
        worker_id = conn.execute(sa.select(tables.worker.c.id)).scalar_one()
        lease = {"worker_id": worker_id, "seen_at": utcnow(), "lease_until": lease_now(60_000)}
        conn.execute(tables.worker_lease.insert().values(lease))
    with pytest.raises(Refused, match="version 0003 and is to become") as refused:
        landed.upgrade()
    assert any(form.fullmatch(str(refused.value)) for form in refusals()), "the guide quotes another sentence"
    assert landed.version() == "0003"
    with landed.begin() as conn:
        conn.execute(tables.worker_lease.update().values(lease_until=lease_now(-1)))
    landed.upgrade()
    assert landed.version() == landed.head()


def test_a_lease_in_the_first_schema_holds_up_an_upgrade(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path / 'first.db'}")
    db.dialect.create()
    _upgrade_to(db, "0001")
    with db.begin() as conn:
        conn.exec_driver_sql(
            "INSERT INTO worker (name, host, pid, token, version, slots, pools, labels, state, started_at, seen_at,"
            " lease_until) VALUES ('old', 'h', 1, 't', '0', 1, '[]', '{}', 'active', '2026-01-01 00:00:00.000',"
            " '2026-01-01 00:00:00.000', strftime('%Y-%m-%d %H:%M:%f', 'now', '+1 minute'))"
        )
    with pytest.raises(Refused, match="version 0001 and is to become"):
        db.upgrade()
    with db.begin() as conn:
        conn.exec_driver_sql("UPDATE worker SET state = 'stopped'")
    db.upgrade()
    db.close()


def test_an_upgrade_creates_every_table_and_index(db: Database) -> None:
    schema = tables.SCHEMA if db.dialect.name == "mssql" else None
    assert db.query(missing_parts) == []
    with db.read() as conn:
        inspector = sa.inspect(conn)
        for table in tables.metadata.sorted_tables:
            columns = {column["name"] for column in inspector.get_columns(table.name, schema=schema)}
            assert columns == set(table.c.keys())


def test_missing_tables_columns_and_indexes_are_named(db: Database) -> None:
    (found,) = (index for index in tables.run.indexes if index.name == "ix_run_start_key")
    prefix = f"{tables.SCHEMA}." if db.dialect.name == "mssql" else ""
    with db.begin() as conn:
        conn.exec_driver_sql(f"ALTER TABLE {prefix}start_url DROP COLUMN revoked_by")
        tables.session_end.drop(conn)
        found.drop(conn)
    missing = ["the column start_url.revoked_by", "the index ix_run_start_key", "the table session_end"]
    assert sorted(db.query(missing_parts)) == missing


def test_views_of_another_version_are_told_apart(db: Database) -> None:
    own = sql_files.own_maker(db.dialect.name)
    assert db.query(sql_files.views) is Views.CURRENT, "the template was upgraded"
    *_, last = (one for one in sql_files.statements(db.dialect.name) if "VIEW" in one and "v_version AS" in one)

    def install(*statements: str) -> Views:
        drop = f"DROP VIEW IF EXISTS {'jobfac.' if db.dialect.name == 'mssql' else ''}v_version"
        with db.begin() as conn:
            for statement in (drop, *statements):
                conn.exec_driver_sql(statement)
        return db.query(sql_files.views)

    assert install() is Views.OTHER, "an earlier version makes no such view"
    assert install(last.replace(own.digest, "0")) is Views.OTHER
    assert install(last.replace(own.digest, "0").replace(own.version, "99.0.0")) is Views.LATER
    assert install(last) is Views.CURRENT


def test_a_version_is_later_by_its_number_and_the_texts_decide_whether_it_is_another() -> None:
    own = Maker("0.10.0", "a")
    assert judge_views(Maker("0.9.0", "a"), own) is Views.CURRENT
    assert judge_views(Maker("0.9.0", "b"), own) is Views.OTHER
    assert judge_views(Maker("0.11.0", "b"), own) is Views.LATER


def test_an_unknown_state_is_refused(db: Database) -> None:
    values = {"job": "a", "job_version": 1, "kind": "program", "state": "runing", "queue": "default", "priority": 0}
    values |= {"created_by": "me", "restartable": True, "already_running": "start"}
    with pytest.raises(sa.exc.IntegrityError), db.begin() as conn:
        conn.execute(tables.run.insert().values(**values, created_at=sa.func.current_timestamp()))


def test_the_required_version_is_that_of_the_last_migration() -> None:
    from alembic.script import ScriptDirectory

    from jobfac.database.engine import MIGRATIONS

    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [Database("sqlite:///unused.db").head()]


def test_another_process_that_upgrades_at_the_same_time_waits(db: Database) -> None:
    seen: list[bool] = []

    def listen(conn: Any, cursor: Any, statement: str, *more: Any) -> None:
        if "CREATE OR ALTER VIEW" in statement and not seen:
            seen.append(locks.MIGRATIONS in db.transact(locks.take_free, {locks.MIGRATIONS}))

    sa.event.listen(db.engine, "before_cursor_execute", listen)
    db.upgrade()
    assert seen == ([] if db.dialect.name == "sqlite" else [False])


def test_an_upgrade_of_a_file_is_one_transaction(tmp_path: Path) -> None:
    """Of two at once, the second one finds nothing to do."""
    db, other = (Database(f"sqlite:///{tmp_path}/new.db") for _ in range(2))
    seen: set[str | None] = set()
    sa.event.listen(db.engine, "begin", lambda conn: seen.add(other.version()))
    db.upgrade()
    assert seen == {None, db.head()}
    for one in (db, other):
        one.close()


def test_the_version_of_a_file_is_read_under_the_lock_of_its_upgrade(tmp_path: Path) -> None:
    """Of two at once, the second one took the schema for an old one that the first one had just upgraded."""
    db = Database(f"sqlite:///{tmp_path}/old.db")
    db.dialect.create()
    _upgrade_to(db, "0002")
    locked: list[bool] = []

    def listen(conn: Any, cursor: Any, statement: str, *more: Any) -> None:
        if not statement.startswith("SELECT alembic_version"):
            return
        other = sqlite3.connect(tmp_path / "old.db", timeout=0)
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            locked.append(True)
        else:
            locked.append(False)
        other.close()

    sa.event.listen(db.engine, "before_cursor_execute", listen)
    db.upgrade()
    assert locked[:2] == [False, True], "the first one only refuses a schema that is not known"
    db.close()
