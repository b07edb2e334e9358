"""Drained workers: no run is lost, and none is executed twice."""

import json
import signal
import sqlite3
from contextlib import closing

import pytest

from jobfac.store.workers.draining import LEAVING
from tests.support.engines import EACH_DIALECT
from tests.support.factory import USUAL, wait_for
from tests.support.fleet import Fleet, leave


def test_term_lets_runs_finish_and_claims_no_more(fleet: Fleet) -> None:
    fleet.define(job=fleet.journal.job(1))
    ids = fleet.start("job", 4)
    worker = fleet.worker(slots=2)
    wait_for(lambda: len(fleet.journal.lines("start")) == 2, "two running")
    assert leave(worker) == 0
    assert fleet.states() == {"succeeded": 2, "queued": 2}
    assert [row["attempt"] for row in (fleet.get(run_id) for run_id in ids)] == [1, 1, 0, 0]
    row = fleet.row(worker)
    assert row is not None
    assert row["state"] == "stopped"


def test_runs_beyond_the_drain_limit_are_stopped_and_requeued(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.define(long=fleet.journal.job(600), fragile=fleet.journal.job(600, restartable=False))
    ids = fleet.start("long") + fleet.start("fragile")
    worker = fleet.worker(JOBFAC_DRAIN_LIMIT="0.5")
    wait_for(lambda: len(fleet.journal.lines("start")) == 2, "both running")
    assert leave(worker) == 0
    assert not fleet.programs(worker)
    assert [fleet.get(run_id)["state"] for run_id in ids] == ["queued", "lost"]
    assert fleet.attempts(ids[0])[0]["reason"] == "its worker was drained"
    fleet.worker("second")
    wait_for(lambda: len(fleet.journal.lines("start")) == 3, "going on")
    assert not fleet.journal.doubled()


def test_a_second_term_ends_the_drain_at_once(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.define(long=fleet.journal.job(600))
    (run_id,) = fleet.start("long")
    worker = fleet.worker()
    wait_for(lambda: fleet.journal.lines("start"), "running")
    worker.send_signal(signal.SIGTERM)
    wait_for(
        lambda: "Stopping: 1 program runs; waiting up to 1m, then" in fleet.log(worker), "it says what it waits for"
    )
    assert "Press Ctrl-C again" in fleet.log(worker)
    wait_for(lambda: fleet.registration(worker)["message"] == LEAVING, "the fleet is told that it claims nothing")
    assert fleet.get(run_id)["state"] == "running"
    worker.send_signal(signal.SIGINT)
    assert worker.wait(10) == 0
    assert "Stopping at once: 1 program runs and will be stopped" in fleet.log(worker)
    assert all(json.loads(line) for line in fleet.log(worker).splitlines()), "it stays a log of JSON lines"
    assert fleet.get(run_id)["state"] == "queued"


def test_a_second_term_does_not_wait_for_a_database_that_cannot_store_outcomes(sqlite_fleet: Fleet) -> None:
    """On SQLite nobody can end the lease while the file is locked, so without the signal the worker would not leave.

    The run has been executed, so it does not begin again if it must not. The next worker stores its output.
    """
    fleet = sqlite_fleet
    speak = {"command": ["sh", "-c", "sleep 0.5; echo last words"], "restartable": False}
    fleet.define(job=fleet.journal.job(0.5), once=fleet.journal.job(0.5, restartable=False), speaks=speak)
    (run_id,), (once,), (speaks,) = fleet.start("job"), fleet.start("once"), fleet.start("speaks")
    worker = fleet.worker(slots=3, JOBFAC_LEASE="4", JOBFAC_HEARTBEAT="1", JOBFAC_SHIP_INTERVAL="60")
    wait_for(lambda: len(fleet.journal.lines("start")) == 2, "running")
    with closing(sqlite3.connect(fleet.factory.folder / "jobfac.db")) as conn:
        conn.execute("BEGIN IMMEDIATE")
        wait_for(lambda: "turn failed" in fleet.log(worker), "the outcome cannot be stored")
        worker.send_signal(signal.SIGTERM)
        wait_for(lambda: "Stopping: 3 outcomes wait for the database" in fleet.log(worker), "it says what it waits for")
        worker.send_signal(signal.SIGTERM)
        wait_for(lambda: "outcome not stored" in fleet.log(worker), "it gives up")
        conn.rollback()
    assert worker.wait(30) == 0
    assert [fleet.get(one)["state"] for one in (run_id, once, speaks)] == ["queued", "lost", "lost"]
    fleet.worker("next")
    wait_for(lambda: fleet.text(speaks) == b"last words\n", "the output is stored")


def test_a_worker_is_drained_by_a_command(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.define(job=fleet.journal.job(1))
    worker = fleet.worker()
    fleet.start("job")
    wait_for(lambda: fleet.journal.lines("start"), "running")
    (row,) = fleet.factory.json("workers", "list")
    assert fleet.factory.run("workers", "drain", str(row["id"])).stdout == f"worker {row['id']} is draining\n"
    assert worker.wait(10) == 0
    assert fleet.states() == {"succeeded": 1}
    gone = fleet.factory.run("workers", "drain", str(row["id"]), code=3)
    assert gone.stderr.startswith(f"Worker {row['id']} ('{row['name']}') has left and claims no more runs;")


@pytest.mark.parametrize("url", EACH_DIALECT, indirect=True)
def test_a_rolling_restart_under_load_executes_every_run_once(fleet: Fleet) -> None:
    fleet.define(job=fleet.journal.job(0.02))
    workers = [fleet.worker(f"w{number}", slots=3, environment=USUAL) for number in range(3)]
    for number, old in enumerate(workers):
        fleet.start("job", 30)

        def under_load(so_far: int = 30 * number) -> bool:
            return len(fleet.journal.lines("start")) > so_far

        wait_for(under_load, "under load")
        assert leave(old) == 0
        fleet.worker(f"w{number}", slots=3, environment=USUAL)
    found = fleet.finish(timeout=60)
    assert [(row["state"], row["attempt"]) for row in found] == [("succeeded", 1)] * 90
    assert sorted(line.run for line in fleet.journal.lines("end")) == [row["id"] for row in found]
