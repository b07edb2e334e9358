"""Transactions under deadlocks, timeouts, lost connections and locked files."""

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac.database.dialects import answers, sqlite
from jobfac.database.engine import Database
from jobfac.database.tables import audit, job
from jobfac.errors import Unreachable, WrongSchema
from jobfac.states import RunState
from jobfac.store import runs, workers
from jobfac.store.history import search
from jobfac.store.runs import StartRequest
from jobfac.store.workers import Claimed, draining
from jobfac.store.workers.claiming import Room
from scripts.deploy.upgrade_rehearsal import refusals
from tests.support.database import Hand, define, events, start, state, states
from tests.support.engines import ENGINES
from tests.support.inprocess import nursery

Faults = Callable[..., None]
pytestmark = pytest.mark.each_driver

ON_MSSQL = pytest.mark.parametrize("url", [e for e in ENGINES if e not in ("sqlite", "real")], indirect=True)

ANY_FAULT = pytest.mark.parametrize(
    "fault",
    [
        'error 1205 matching "INSERT INTO jobfac.run " at 1',
        'error 1222 matching "INSERT INTO jobfac.run_event" at 1',
        'error 3960 matching "INSERT INTO jobfac.run " first 2',
        'error 40613 matching "SELECT" at 1',
        'drop before matching "INSERT INTO jobfac.run " at 1',
        'drop after matching "INSERT INTO jobfac.run " at 1',
        "drop before commit at 1",
        "drop after commit at 1",
        'kill matching "INSERT INTO jobfac.run " at 1',
        "kill commit at 1",
        "error 40613 login first 1",
        "failover 0.2 at 3",
    ],
)


@ON_MSSQL
@ANY_FAULT
def test_a_start_with_a_key_happens_once_despite_any_fault(db: Database, faults: Faults, fault: str) -> None:
    define(db, job={})
    if "login" in fault:
        db.close()
    faults(fault)
    run_id = start(db, "job", key="k")
    faults()
    with db.read() as conn:
        assert [row.id for row in search.find_all(conn)] == [run_id]
    assert events(db, run_id) == ["queued"]


@ON_MSSQL
def test_a_transaction_is_atomic_whichever_statement_is_the_victim(db: Database, tds: Any, faults: Faults) -> None:
    define(db, job={})
    ids: list[int] = []
    fired, number = 1, 0
    while fired:
        number += 1
        faults(f"error 1205 at {number}", 'stall 0 matching "describe"')
        ids += db.transact(runs.start_many, StartRequest("job", "tester"), 2)
        fired, described = (rule[what] for rule, what in zip(tds.stats()["faults"], ("fired", "seen"), strict=True))
        assert described == 0, "a NULL was sent without a type, so the driver asked the server for it"
    faults()
    assert number > 3
    with db.read() as conn:
        assert sorted(row.id for row in search.find_all(conn)) == ids
    assert [events(db, run_id) for run_id in ids] == [["queued"]] * len(ids)


@ON_MSSQL
def test_a_claim_with_a_lost_answer_claims_nothing_twice(db: Database, faults: Faults) -> None:
    define(db, job={})
    ids = db.transact(runs.start_many, StartRequest("job", "tester"), 6)
    hand = Hand(db)

    def turn(conn: sa.Connection) -> list[Claimed]:
        workers.hold(conn, hand.id)
        held = workers.held_by(conn, hand.id)
        return held + workers.claim(conn, hand.id, "w1", {"default": 1}, Room(3 - len(held), 3))

    faults("drop after commit at 1")
    taken = db.transact(turn)
    faults()
    assert sorted(c.id for c in taken) == ids[:3]
    assert states(db, ids) == ["running"] * 3 + ["queued"] * 3


@ON_MSSQL
@pytest.mark.parametrize("retry_after", [None, 60.0])
def test_a_finish_with_a_lost_answer_is_stored_once(db: Database, faults: Faults, retry_after: float | None) -> None:
    define(db, job={})
    run_id = start(db, "job")
    hand = Hand(db)
    claimed = hand.take()
    faults("drop after commit at 1")
    hand.end(claimed, RunState.FAILED, retry_after=retry_after)
    faults()
    ended = "failed" if retry_after is None else "scheduled"
    assert (state(db, run_id), events(db, run_id)) == (ended, ["queued", "running", ended])


@ON_MSSQL
def test_a_persistent_fault_ends_in_a_sentence(db: Database, faults: Faults) -> None:
    define(db, job={})
    faults('error 9002 matching "INSERT INTO jobfac.run "')
    began = time.monotonic()
    with pytest.raises(Unreachable) as caught:
        db.transact(runs.start, StartRequest("job", "tester"), retry_for=0.3)
    assert 0.2 < time.monotonic() - began < 10
    address, _, said = str(caught.value).partition(" cannot be reached: ")
    assert address.startswith("The database mssql+")
    assert "***" in address
    full = "SQL Server says: The transaction log for database 'jobfac' is full due to 'LOG_BACKUP'"
    assert said.replace(" (error 9002)", "") == f"{full}.", "the URL is right"
    calls = []

    def counted(conn: sa.Connection) -> int:
        calls.append(1)
        return runs.start(conn, StartRequest("job", "tester"))

    with pytest.raises(Unreachable):
        db.transact(counted, retry_for=0)
    assert len(calls) == 1


def test_a_permanent_error_is_not_retried(db: Database) -> None:
    define(db, job={})
    calls = []

    def work(conn: sa.Connection) -> None:
        calls.append(1)
        row = conn.execute(sa.select(job)).mappings().one()
        conn.execute(job.insert().values(dict(row)))

    with pytest.raises(sa.exc.IntegrityError):
        db.transact(work)
    assert len(calls) == 1


def test_a_failed_transaction_leaves_no_changes(db: Database) -> None:
    define(db, job={})

    def work(conn: sa.Connection) -> None:
        runs.start(conn, StartRequest("job", "tester"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        db.transact(work)
    with db.read() as conn:
        assert search.find_all(conn) == []


def test_a_single_statement_is_committed(db: Database) -> None:
    hand = Hand(db)
    assert db.single(workers.renew, hand.id, 30.0).expiry > 20
    assert db.single(draining.drain, hand.id)
    hand.renew()
    assert hand.survey().state == "draining"


def test_a_schema_of_another_version_is_refused(db: Database) -> None:
    db.check_schema()
    version = "jobfac.alembic_version" if db.dialect.name == "mssql" else "alembic_version"

    def pretend(number: str) -> None:
        with db.begin() as conn:
            conn.exec_driver_sql(f"UPDATE {version} SET version_num = '{number}'")

    pretend("9999")
    with pytest.raises(WrongSchema, match="version 9999 and this program needs ") as refused:
        db.check_schema()
    assert any(form.fullmatch(str(refused.value)) for form in refusals()), "the guide quotes another sentence"
    with pytest.raises(WrongSchema, match="version 9999, which this program does not know; it needs "):
        db.upgrade()
    pretend(db.head())  # a real server's database is used by the next test


def test_a_sqlite_that_is_too_old_is_refused(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    db = Database(sqlite_url)
    for needs in (db.check_schema, db.upgrade):
        with pytest.raises(Unreachable, match=r"is too old, jobfac needs 3.35; use a Python with a newer one"):
            needs()
    db.close()


@ON_MSSQL
def test_a_database_that_behaves_like_an_old_server_is_refused(db: Database, faults: Faults) -> None:
    faults(r'error 208 matching "OPENJSON.N..\\]"')
    for needs in (db.check_schema, db.upgrade):
        with pytest.raises(Unreachable, match=r"compatibility level is below 130, .* SET COMPATIBILITY_LEVEL = 130"):
            needs()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("postgresql://x/y", "'postgresql' is not an engine of jobfac: use sqlite:///FILE, mssql"),
        ("sqlite://", "a database in memory is not shared between processes"),
        ("sqlite:///:memory:", "a database in memory is not shared between processes"),
        ("sqlite:///file:x?mode=memory&uri=true", "a database in memory is not shared between processes"),
        ("sqlite:///file:/x?vfs=memdb&uri=true", "a database in memory is not shared between processes"),
        ("nonsense", "JOBFAC_DATABASE_URL cannot be used"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_in_a_sentence(url: str, sentence: str) -> None:
    with pytest.raises(Unreachable, match=sentence):
        Database(url)


def test_a_folder_that_is_not_utf8_is_refused_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(Unreachable, match="is not UTF-8; choose a folder whose name is"):
        Database("sqlite:///jobfac.db")


# SQLite: a file, and other processes that write it


def test_a_busy_file_is_awaited(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 0.01)
    db = Database(sqlite_url)
    other = sqlite3.connect(db.url.database or "", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unreachable, match=rf"locked by process {os.getpid()} \(.*\); .*, end its transaction"):
        db.transact(lambda conn: None, retry_for=0.1)
    release = threading.Timer(0.3, other.rollback)
    release.start()
    define(db, job={})
    release.join()
    other.close()
    db.close()


def test_the_writers_of_one_process_take_turns(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 0.0)  # a writer that meets another process's lock fails at once
    db = Database(sqlite_url)

    def write(number: int) -> None:
        db.transact(lambda conn: conn.execute(audit.delete()), retry_for=0)

    with ThreadPoolExecutor(8) as writers:
        list(writers.map(write, range(100)))
    db.close()


def test_a_writer_waits_only_a_limited_time_for_its_turn(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 0.01)
    monkeypatch.setattr(sqlite, "TURN_TIMEOUT", 0.01)
    db = Database(sqlite_url)
    with db.begin(), pytest.raises(Unreachable, match="database is locked"):
        db.transact(lambda conn: None, retry_for=0)
    db.transact(lambda conn: None, retry_for=0)
    db.close()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path}/missing/jobfac.db")
    with pytest.raises(Unreachable, match=r"missing/jobfac.db cannot be reached: there is no folder \S+/missing for"):
        db.query(search.find_all)
    db.close()


WRITER = """\
from jobfac.store import audit
from jobfac.store.history import search
from jobfac.database.engine import Database

db = Database(url)
for number in range(150):
    db.transact(audit.note, name, "write", str(number))
db.close()
"""


@pytest.mark.slow
def test_concurrent_processes_can_all_write(sqlite_url: str) -> None:
    known = ({"url": sqlite_url, "name": name} for name in ("a", "b", "c"))
    writers = [nursery.Process(target=exec, args=(WRITER, names)) for names in known]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    db = Database(sqlite_url)
    with db.read() as conn:
        assert conn.execute(sa.select(sa.func.count()).select_from(audit)).scalar_one() == 450
    db.close()


@ON_MSSQL
def test_a_missing_permission_is_reported_in_a_sentence(db: Database, faults: Faults) -> None:
    faults('error 229 matching "jobfac.job" at 1')
    with pytest.raises(Unreachable, match="permission was denied"):
        db.query(lambda conn: conn.execute(sa.select(job.c.id)).all())


@ON_MSSQL
def test_a_process_whose_login_is_refused_asks_again_after_a_pause(
    db: Database, tds: Any, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    def works(number: int) -> bool:
        try:
            return db.single(work) if number % 2 else db.transact(work)
        except Unreachable as error:
            return "Login failed for user 'sa'; have a DBA look at the login" not in str(error)

    def work(conn: sa.Connection) -> bool:
        return bool(conn.execute(sa.select(sa.literal(1))).scalar())

    def refused() -> int:
        return int(tds.stats()["faults"][0]["fired"])

    pauses = [0.0]
    monkeypatch.setattr(answers, "login_pause", lambda seconds: pauses[-1])
    db.close()
    faults("error 18456 login always")
    assert (works(0), works(1), refused()) == (False, False, 2), "there is no pause"
    pauses.append(3600.0)
    with ThreadPoolExecutor(8) as pool:
        assert not any(pool.map(works, range(40)))
    assert refused() == 3, "one of them asks, the others take its answer"
    pauses.append(0.0)
    db.dialect._login_pause._until = 0.0  # type: ignore[attr-defined]
    assert (works(0), refused()) == (False, 4)
    faults()
    assert works(0)
    assert works(1)


def test_the_pause_between_refused_logins_grows_with_the_outage() -> None:
    assert [*map(answers.login_pause, (0.0, 2.0, 20.0, 100.0, 10_000.0))] == [1.0, 1.0, 5.0, 25.0, 60.0]
