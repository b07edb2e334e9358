"""Database outages, shorter and longer than a worker's lease is trusted, and lost answers."""

import datetime as dt
import fcntl
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac.store import schedulers
from tests.support.engines import DRIVERS
from tests.support.factory import SHORT, USUAL, wait_for
from tests.support.fleet import Fleet
from tests.support.inprocess import InProcess

pytestmark = pytest.mark.each_driver

LEASE = float(SHORT["JOBFAC_LEASE"])
TRUST = LEASE - float(SHORT["JOBFAC_LEASE_MARGIN"])
PATIENT = {"JOBFAC_LEASE": "30", "JOBFAC_LEASE_MARGIN": "1"}


def sqlite_file(fleet: Fleet) -> Path:
    return Path(str(sa.make_url(fleet.factory.url).database))


@contextmanager
def locked(fleet: Fleet, noticed: bool = False) -> Iterator[None]:
    """Block all other writers, as a backup or a forgotten shell does that holds the file.

    ``noticed``: somebody has given notice of expiry to every worker just before.
    """
    connection = sqlite3.connect(sqlite_file(fleet), isolation_level=None)
    while True:
        connection.execute("BEGIN EXCLUSIVE")
        (withdrawn,) = connection.execute("SELECT count(*) FROM lease_notice WHERE noticed = 0").fetchone()
        if not noticed or not withdrawn:
            break
        connection.execute("UPDATE lease_notice SET noticed = 1")
        connection.execute("COMMIT")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


def outlast(seconds: float) -> None:
    """Sleep for the duration of the outage, because there is no condition to wait for."""
    end = time.monotonic() + seconds
    wait_for(lambda: time.monotonic() > end, "the time", timeout=seconds + 5)


def test_an_outage_shorter_than_the_trust_affects_no_run(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.define(brief=fleet.journal.job(0.5), long=fleet.journal.job(3))
    ids = fleet.start("brief", 3) + fleet.start("long")
    fleet.worker(environment=PATIENT)
    wait_for(lambda: len(fleet.journal.lines("start")) == 4, "all running")
    with locked(fleet):
        wait_for(lambda: len(fleet.journal.lines("end")) == 3, "ended during the outage")
        ended = dt.datetime.now(dt.UTC)
        outlast(1)
    found = fleet.finish(*ids)
    assert [(row["state"], row["attempt"]) for row in found] == [("succeeded", 1)] * 4
    said = found[0]["ended_at"].replace(tzinfo=dt.UTC)
    assert said < ended + dt.timedelta(seconds=0.5), "the end is when the program ended, not when it could be said"


def test_a_database_file_that_is_moved_away_and_back_affects_no_run(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.define(brief=fleet.journal.job(1))
    ids = fleet.start("brief", 3)
    fleet.worker(environment=PATIENT)
    wait_for(lambda: len(fleet.journal.lines("start")) == 3, "all running")
    folder = sqlite_file(fleet).parent
    away = folder / "away"
    away.mkdir()
    fleet.db.close()
    for path in folder.glob("jobfac.db*"):
        path.rename(away / path.name)
    wait_for(lambda: len(fleet.journal.lines("end")) == 3, "ended meanwhile")
    for path in folder.glob("jobfac.db*"):
        path.unlink()
    for path in away.iterdir():
        path.rename(folder / path.name)
    assert {(row["state"], row["attempt"]) for row in fleet.finish(*ids)} == {("succeeded", 1)}


def test_in_a_longer_outage_a_worker_kills_its_programs_in_time_and_recovers(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.define(brief=fleet.journal.job(0.5), long=fleet.journal.job(600, later=0))
    brief, long = fleet.start("brief") + fleet.start("long")
    worker = fleet.worker()
    wait_for(lambda: len(fleet.journal.lines("start")) == 2, "both running")
    with locked(fleet, noticed=True):
        began = time.monotonic()
        wait_for(lambda: not fleet.programs(worker), "its programs ended", timeout=LEASE)
        assert time.monotonic() - began < LEASE
        outlast(LEASE - (time.monotonic() - began) + 0.5)
    assert {row["state"] for row in fleet.finish(brief, long)} == {"succeeded"}
    assert fleet.get(brief)["attempt"] == 1, "it ended in time, so its outcome counts"
    assert fleet.get(long)["attempt"] == 2
    assert "fenced" in fleet.events(long)
    assert not fleet.journal.doubled()
    assert "registered again" in fleet.log(worker)


@pytest.fixture(params=DRIVERS)
def server_fleet(request: pytest.FixtureRequest, tds: Any, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet on the test server, whose fault rules the test sets."""
    from tests.tds_server import harness

    name = f"outage{request.param}{time.monotonic_ns()}"
    with tds.database(name, template="migrated"):
        url = harness.url(tds.port, request.param, name).render_as_string(hide_password=False)
        try:
            with InProcess(url, tmp_path) as factory, Fleet(factory) as fleet:
                yield fleet
        finally:
            tds.faults()
            tds.command(refuse=False)


def test_a_failover_of_the_server_affects_no_run(server_fleet: Fleet, tds: Any) -> None:
    fleet = server_fleet
    fleet.define(brief=fleet.journal.job(0.5), long=fleet.journal.job(3))
    ids = fleet.start("brief", 3) + fleet.start("long")
    fleet.worker(environment=PATIENT)
    wait_for(lambda: len(fleet.journal.lines("start")) == 4, "all running")
    tds.command(failover=1.5)
    outlast(1.5)
    assert {(row["state"], row["attempt"]) for row in fleet.finish(*ids)} == {("succeeded", 1)}


def test_a_failover_longer_than_the_lease_restarts_a_run_but_loses_none(server_fleet: Fleet, tds: Any) -> None:
    fleet = server_fleet
    speak = ["sh", "-c", f"while echo paid; do echo paid >> {fleet.folder}/paid; sleep 0.05; done"]
    fleet.define(
        long=fleet.journal.job(600, later=0),
        brief=fleet.journal.job(0.5, restartable=False),
        speaks={"command": speak, "restartable": False},
    )
    for number in range(2):
        fleet.factory.role("scheduler", "--name", f"s{number}", **USUAL)
    worker = fleet.worker()
    speaks, long, brief = fleet.start("speaks") + fleet.start("long") + fleet.start("brief")
    wait_for(lambda: len(fleet.journal.lines("start")) == 2, "running")
    pids = fleet.programs(worker)
    assert pids
    tds.command(failover=LEASE + 1)
    wait_for(lambda: "lease not renewed in time" in fleet.log(worker), "fenced", timeout=LEASE)
    wait_for(lambda: "registered again" in fleet.log(worker), "back", timeout=LEASE + 10)
    fleet.db.close()  # the failover has cut its connections, too
    found = {row["id"]: row for row in fleet.finish(long, brief, speaks)}
    said = (fleet.folder / "paid").read_text(encoding="utf-8").count("\n")
    # Also what it wrote while the server was away.
    wait_for(lambda: fleet.text(speaks).count(b"\n") in (said, said + 1), "its output is stored")
    assert (found[long]["state"], found[long]["attempt"]) == ("succeeded", 2)
    assert not fleet.journal.doubled()
    # Whichever role is back first, it does not take the worker for dead, and what ended in time counts.
    assert (found[brief]["state"], found[brief]["attempt"]) == ("succeeded", 1)
    assert fleet.attempts(long)[0]["reason"] == "its worker w1 lost its lease"
    assert found[long]["lost"] is None


@pytest.mark.parametrize("server_fleet", DRIVERS[:1], indirect=True)  # the other one does not tell its program's name
def test_a_scheduler_that_starts_after_an_outage_leaves_the_workers_time_to_come_back(
    server_fleet: Fleet, tds: Any
) -> None:
    """The server's machine has started again, and the scheduler on it. The workers are about to try again."""
    fleet = server_fleet
    fleet.define(brief=fleet.journal.job(0.5, restartable=False))
    fleet.worker()
    (brief,) = fleet.start("brief")
    wait_for(lambda: fleet.journal.lines("start"), "running")
    tds.faults('error 40613 login by "jobfac worker"')
    tds.command(failover=LEASE + 0.5)
    outlast(LEASE + 0.5)
    fleet.db.close()
    scheduler = fleet.factory.role("scheduler")
    wait_for(lambda: fleet.db.query(schedulers.schedulers), "the scheduler works")
    assert "silent workers are not taken for dead yet" in fleet.log(scheduler)
    tds.faults()
    assert (fleet.wait(brief)["state"], fleet.events(brief)) == ("succeeded", ["queued", "running", "succeeded"])


def test_a_connection_that_breaks_during_its_set_up_is_retried(server_fleet: Fleet, tds: Any) -> None:
    tds.faults('drop before matching "test max support" first 2')
    server_fleet.worker()
    assert tds.stats()["faults"][0]["fired"] == 2


@pytest.mark.parametrize(
    "rule",
    [
        "drop after commit every 3",
        "drop before commit every 4",
        "error 1205 chance 0.06",
        "error 40613 login every 2",
    ],
)
def test_after_a_lost_answer_the_result_is_read_from_the_database(server_fleet: Fleet, tds: Any, rule: str) -> None:
    fleet = server_fleet
    fleet.define(good=fleet.journal.job(0), bad=fleet.journal.job(0, code=4, retry={"attempts": 2, "delay": "0.1s"}))
    good, bad = fleet.start("good", 20), fleet.start("bad", 3)
    tds.faults(rule)
    worker = fleet.factory.role("worker", "--name", "w1", "--slots", "4", **USUAL)
    wait_for(lambda: len(fleet.journal.lines("end")) >= 26, "everything has run", timeout=60)
    assert tds.stats()["faults"][0]["fired"] > 0
    tds.faults()
    fleet.finish(timeout=60)
    assert [fleet.get(run_id)["attempt"] for run_id in good] == [1] * 20
    assert {(fleet.get(run_id)["state"], fleet.get(run_id)["attempt"]) for run_id in bad} == {("failed", 2)}
    assert len(fleet.journal.lines("start")) == 26, "each attempt was executed once"
    assert not [run_id for run_id in good + bad if "discarded" in fleet.events(run_id)]
    assert worker.poll() is None


def test_the_lock_on_a_spool_folder_shows_whether_its_worker_lives(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    worker = fleet.worker()
    (folder,) = (fleet.folder / "spool").iterdir()
    with (folder / "lock").open() as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert worker.poll() is None
