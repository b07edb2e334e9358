"""A DBA's open transactions on SQL Server: blocked work waits, no lease is lost, no program dies, no role spins."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac.database.dialects.mssql import Mssql
from tests.roles.outages.test_mssql_fleet import fleet_on
from tests.support.database import make_due
from tests.support.engines import DRIVERS
from tests.support.factory import Factory, wait_for
from tests.support.fleet import Fleet
from tests.support.inprocess import InProcess

pytestmark = pytest.mark.mssql

LEASE = 3.0
"""Seconds of a lease of the fleet: within them a role must be back at work once the locks are free."""

HELD = 5.0
"""Seconds for which a transaction stays open: longer than a lease."""

SPIN = 40
"""The maximum requests per second of an idle worker whose work is blocked: a poll and a turn each time."""

EVERYTHING = (
    "EXEC jobfac.start_job @job = N'limited'",  # the named locks of a job's rule, and a row of the queue
    "SELECT id FROM jobfac.worker WITH (UPDLOCK, HOLDLOCK)",
    "SELECT id FROM jobfac.run WITH (UPDLOCK, HOLDLOCK)",
    "SELECT run_id FROM jobfac.attempt WITH (UPDLOCK)",
    "SELECT id FROM jobfac.schedule WITH (UPDLOCK)",
    "SELECT id FROM jobfac.job WITH (UPDLOCK)",
)
"""All locks that a turn may need."""

REBUILDS = tuple(
    f"ALTER INDEX {index} REBUILD"
    for index in ("ix_run_claim ON jobfac.run", "pk_queue ON jobfac.queue", "pk_worker ON jobfac.worker")
)
"""Sch-M on a table that a worker reads, as during an offline rebuild."""


@contextmanager
def held(fleet: Fleet, *statements: str) -> Iterator[None]:
    """Execute statements in a DBA's transaction that stays open inside the block and is committed at its end."""
    engine = Mssql().engine(sa.make_url(fleet.factory.url))
    with engine.connect() as conn:
        for statement in statements:
            conn.exec_driver_sql(statement)
        yield
        conn.commit()
    engine.dispose()


@pytest.fixture(params=[Factory])
def fleet(request: pytest.FixtureRequest, tds: Any, tmp_path: Path) -> Iterator[Fleet]:
    with fleet_on(tds, DRIVERS[0], tmp_path / "blocked", request.param) as fleet:
        fleet.define(
            long=fleet.journal.job(30),
            limited=fleet.journal.job(1, concurrency={"key": "k", "limit": 2}),
            later={"command": ["true"], "already_running": "queue"},
        )
        yield fleet


@pytest.mark.parametrize("statements", [EVERYTHING, REBUILDS], ids=["rows and named locks", "rebuilt indexes"])
def test_an_open_transaction_of_a_dba_kills_no_program_and_ends_no_lease(
    fleet: Fleet, statements: tuple[str, ...]
) -> None:
    worker = fleet.worker()
    registered = fleet.row(worker)
    assert registered is not None
    (long,) = fleet.start("long")
    wait_for(lambda: fleet.journal.lines("start"), "the long one runs")
    programs = set(fleet.programs(worker))
    (limited,) = fleet.start("limited")
    wait_for(lambda: len(fleet.journal.lines("start")) == 2, "the limited one runs")
    with held(fleet, *statements):
        end = time.monotonic() + HELD
        wait_for(lambda: fleet.journal.lines("end"), "the limited one ended")
        threading.Event().wait(end - time.monotonic())
    freed = time.monotonic()
    wait_for(lambda: fleet.get(limited)["state"] == "succeeded", "its end is stored")
    assert time.monotonic() - freed < LEASE
    found = fleet.row(worker)
    assert found is not None
    assert (found["id"], found["state"]) == (registered["id"], "active")
    assert programs <= set(fleet.programs(worker)), "the long one still runs"
    assert (fleet.get(long)["state"], fleet.get(long)["attempt"]) == ("running", 1)
    said = fleet.log(worker)
    assert "lease not renewed" not in said
    assert "lease lost" not in said
    assert "heartbeat failed" not in said


def _requests(tds: Any, process: Any) -> int:
    return int(tds.stats()["by_process"].get(str(process.pid), 0))


def _is_settled(tds: Any, process: Any, requests: int) -> bool:
    """Whether the role has started, and has found its work blocked."""
    return _requests(tds, process) > requests


def _ask_seldom(tds: Any, roles: list[Any]) -> bool:
    """Whether each role asks seldom for a second. Its pauses become longer until then."""
    before = [_requests(tds, role) for role in roles]
    began = time.monotonic()
    threading.Event().wait(1.0)
    passed = time.monotonic() - began
    return all((_requests(tds, role) - so_far) / passed < SPIN for role, so_far in zip(roles, before, strict=True))


@pytest.mark.parametrize("fleet", [InProcess], indirect=True)
@pytest.mark.parametrize("blocked", ["a promotion", "a queued run"])
def test_an_idle_worker_does_not_poll_constantly_while_its_work_is_blocked(
    tds: Any, fleet: Fleet, blocked: str
) -> None:
    (limited,) = fleet.start("later", delay=600.0 if blocked == "a promotion" else None)
    lock = {
        "a promotion": "EXEC sp_getapplock N'jobfac:job:later', N'Exclusive', N'Transaction'",
        "a queued run": f"SELECT id FROM jobfac.run WITH (UPDLOCK) WHERE id = {limited}",
    }[blocked]
    with held(fleet, lock):
        if blocked == "a promotion":
            make_due(fleet.db)
        roles = [fleet.worker(f"w{number}") for number in (1, 2)]
        roles.append(fleet.factory.role("scheduler"))
        for role, requests in zip(roles, (90, 90, 60), strict=True):
            wait_for(partial(_is_settled, tds, role, requests), "it looks for its work")
        wait_for(partial(_ask_seldom, tds, roles), f"no role asks more than {SPIN} times in a second")
    freed = time.monotonic()
    fleet.wait(limited)
    assert time.monotonic() - freed < LEASE
