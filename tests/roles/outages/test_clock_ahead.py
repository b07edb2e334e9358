"""SQL Server's clock is set forward by hours, as after a failover to a server whose clock differs."""

from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from jobfac.database.tables import scheduler
from tests.support.engines import DRIVERS
from tests.support.factory import wait_for
from tests.support.fleet import Fleet, Process

CLOCK = """CREATE OR REPLACE FUNCTION dbo.sysutcdatetime() RETURNS timestamp LANGUAGE sql STABLE AS
    $$ SELECT statement_timestamp() AT TIME ZONE 'UTC' + interval '{hours} hours' $$"""


@pytest.fixture
def set_clock(tds: Any, fleet: Fleet) -> Callable[[int], None]:
    """A function that sets the database's clock ahead by so many hours."""

    def set_it(hours: int) -> None:
        dsn = psycopg.conninfo.make_conninfo(tds.dsn, dbname=sa.make_url(fleet.factory.url).database)
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute(CLOCK.format(hours=hours))

    return set_it


@pytest.mark.parametrize("url", DRIVERS[:1], indirect=True)
def test_a_clock_that_is_set_forward_runs_nothing_twice_at_once(fleet: Fleet, set_clock: Callable[[int], None]) -> None:
    """All leases end in one moment, but each worker learns it by its next heartbeat only."""
    calm = {"JOBFAC_HEARTBEAT": "1", "JOBFAC_LEASE": "6", "JOBFAC_LEASE_MARGIN": "2"}
    fleet.define(long=fleet.journal.job(600))
    ids = fleet.start("long", 8)
    roles = [fleet.worker(f"w{number}", slots=2, environment=calm) for number in range(4)]
    wait_for(lambda: len(fleet.journal.lines("start")) == 8, "all run")
    roles += [fleet.worker("spare", slots=8, environment=calm)]
    fleet.factory.role("scheduler", **calm)
    wait_for(partial(_has_polled, fleet), "the scheduler has polled")
    for hours in (1, 2, 3):
        last = max(fleet.registration(one)["id"] for one in roles)
        set_clock(hours)
        for one in roles:
            wait_for(partial(_registered_after, fleet, one, last), "registered again")
        wait_for(lambda: fleet.states() == {"running": 8}, "all run again")
    assert not fleet.journal.doubled()
    ended = [one for run_id in ids for one in fleet.attempts(run_id) if one["state"] not in ("lost", None)]
    # What was claimed in the moment of the step never began.
    assert [one for one in ended if one["reason"] != "not started: its worker lost its lease"] == []


def _has_polled(fleet: Fleet) -> bool:
    return fleet.db.query(lambda conn: conn.execute(sa.select(scheduler.c.name)).first() is not None)


def _registered_after(fleet: Fleet, worker: Process, last: int) -> bool:
    return int(fleet.registration(worker)["id"]) > last
