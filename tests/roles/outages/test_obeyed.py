"""While a worker's transaction waits for somebody's lock, its programs still meet their timeouts and obey stops."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.errors import Unreachable
from jobfac.store import runs
from jobfac.worker.loop import database
from jobfac.worker.loop.database import LoopDatabase
from jobfac.worker.loop.pulse import Pulse
from tests.roles.outages.test_blocked import EVERYTHING, held
from tests.roles.outages.test_mssql_fleet import fleet_on
from tests.support.engines import DRIVERS
from tests.support.factory import wait_for
from tests.support.fleet import Fleet

TIMEOUT = 2.0
IN_TIME = 10.0
"""Much less than a lease: it is not the loss of the lease that ends the program."""
PATIENT = {"JOBFAC_LEASE": "30", "JOBFAC_HEARTBEAT": "1", "JOBFAC_LEASE_MARGIN": "1"}
SLOW = {"timeout": f"{TIMEOUT:.0f}s", "grace": "0s"}


@pytest.fixture
def mssql(tds: Any, tmp_path: Path) -> Iterator[Fleet]:
    with fleet_on(tds, DRIVERS[0], tmp_path / "obeyed") as fleet:
        yield fleet


def _define(fleet: Fleet) -> None:
    fleet.define(
        slow={**fleet.journal.job(30), **SLOW},
        endless=fleet.journal.job(30),
        brief={**fleet.journal.job(0.2), "concurrency": {"key": "k", "limit": 2}},
    )


@contextmanager
def sqlite_locked(fleet: Fleet) -> Iterator[None]:
    """A forgotten shell holds the write lock of the file."""
    connection = sqlite3.connect(str(sa.make_url(fleet.factory.url).database), isolation_level=None, timeout=20)
    connection.execute("BEGIN IMMEDIATE")
    yield
    connection.execute("ROLLBACK")
    connection.close()


def _a_timeout_is_enforced(fleet: Fleet, lock: Any) -> None:
    _define(fleet)
    worker = fleet.worker(environment=PATIENT)
    (slow,) = fleet.start("slow")
    (brief,) = fleet.start("brief")
    wait_for(lambda: len(fleet.journal.lines("start")) == 2, "both run")
    with lock:
        wait_for(lambda: fleet.journal.lines("end"), "the brief one has ended, and its turn waits")
        wait_for(lambda: len(fleet.programs(worker)) == 0, "the slow one is ended", IN_TIME)
        assert fleet.get(slow)["state"] == "running", "nobody could be told"
    assert fleet.wait(slow)["state"] == "timed_out"
    assert fleet.wait(brief)["state"] == "succeeded"


@pytest.mark.mssql
def test_a_timeout_is_enforced_while_a_dba_holds_every_row(mssql: Fleet) -> None:
    _a_timeout_is_enforced(mssql, held(mssql, *EVERYTHING[1:]))


def test_a_timeout_is_enforced_while_a_shell_holds_the_file(sqlite_fleet: Fleet) -> None:
    _a_timeout_is_enforced(sqlite_fleet, sqlite_locked(sqlite_fleet))


@pytest.mark.mssql
def test_a_stop_is_obeyed_while_a_dba_holds_a_named_lock(mssql: Fleet) -> None:
    fleet = mssql
    _define(fleet)
    worker = fleet.worker(environment=PATIENT)
    (endless,) = fleet.start("endless")
    fleet.start("brief")
    wait_for(lambda: len(fleet.journal.lines("start")) == 2, "both run")
    with held(fleet, "EXEC sp_getapplock N'jobfac:key:k', N'Exclusive', N'Transaction'"):
        wait_for(lambda: fleet.journal.lines("end"), "the brief one has ended, and its turn waits")
        fleet.db.transact(runs.request_stop, endless, now=True, by="me")
        wait_for(lambda: len(fleet.programs(worker)) == 0, "the endless one is ended", IN_TIME)
    assert fleet.wait(endless)["state"] == "stopped"


def test_the_loops_own_work_is_done_meanwhile_and_errors_come_through(sqlite_url: str) -> None:
    db = Database(sqlite_url)
    calls: list[float] = []
    loop = LoopDatabase(db, Pulse(), lambda: calls.append(time.monotonic()))
    loop.start()
    assert loop.do(lambda: wait_for(lambda: len(calls) >= 2, "two calls meanwhile")) is True

    def fails(conn: sa.Connection) -> None:
        raise LookupError("of the work itself")

    with pytest.raises(LookupError, match="of the work itself"):
        loop.transact(fails, retry_for=0.0)
    assert loop.query(lambda conn: conn.exec_driver_sql("SELECT 1").scalar(), retry_for=0.0) == 1
    loop.close()
    db.close()


def test_an_unknown_error_of_the_database_counts_as_an_outage_for_a_while(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = Database(sqlite_url)
    loop = LoopDatabase(db, Pulse(), lambda: None)

    def fails(conn: sa.Connection) -> None:
        conn.exec_driver_sql("SELECT nothing")

    with pytest.raises(Unreachable, match="nothing"):
        loop.transact(fails, retry_for=0.0)

    def reads(conn: sa.Connection) -> None:
        raise ImportError("No module named 'holidays'")

    with pytest.raises(Unreachable, match="holidays"):
        loop.transact(reads, retry_for=0.0)
    monkeypatch.setattr(database, "UNKNOWN_FOR", 0.0)
    with pytest.raises(sa.exc.DBAPIError):
        loop.transact(fails, retry_for=0.0)
    loop.transact(lambda conn: None, retry_for=0.0)
    monkeypatch.undo()
    with pytest.raises(Unreachable):
        loop.transact(fails, retry_for=0.0)
    db.close()
