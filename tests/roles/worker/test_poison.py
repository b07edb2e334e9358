"""A program that kills its workers: once suspected, it runs alone, and finally it is not retried."""

import signal

from jobfac.database.tables import run
from jobfac.store.workers.suspects import ISOLATING
from jobfac.views.waiting import SUSPECTED
from tests.support.factory import wait_for
from tests.support.fleet import Fleet


def suspect(fleet: Fleet, job: str) -> int:
    """Create a run of this job that has killed two workers."""
    (run_id,) = fleet.start(job, delay=3600)
    with fleet.db.begin() as conn:
        conn.execute(run.update().where(run.c.id == run_id).values(lost=2))
    return run_id


def release(fleet: Fleet, run_id: int) -> None:
    with fleet.db.begin() as conn:
        conn.execute(run.update().where(run.c.id == run_id).values(state="queued", ready_at=None))


def test_a_suspected_run_is_never_executed_beside_others(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    gate = fleet.folder / "gate"
    waits = {"command": ["sh", "-c", f"until [ -e {gate} ]; do sleep 0.02; done"]}
    fleet.define(waits=waits, job=fleet.journal.job(0.3))
    run_id = suspect(fleet, "job")
    worker = fleet.worker(slots=4)
    (neighbour,) = fleet.start("waits")
    fleet.wait(neighbour, "running")
    release(fleet, run_id)
    wait_for(lambda: fleet.registration(worker)["message"] == ISOLATING, "the worker says that it claims nothing")
    assert (fleet.get(run_id)["state"], fleet.get(run_id)["reason"]) == ("queued", SUSPECTED)
    later = fleet.start("job", 2)
    assert fleet.journal.lines("start") == []
    assert {fleet.get(one)["state"] for one in later} == {"queued"}
    gate.touch()
    assert {row["state"] for row in fleet.finish()} == {"succeeded"}
    order = [(line.run, line.word) for line in fleet.journal.lines()]
    assert order[:2] == [(run_id, "start"), (run_id, "end")], "alone"
    assert fleet.get(run_id)["attempt"] == 1
    assert fleet.registration(worker)["message"] is None


def test_a_worker_claims_again_when_the_run_that_it_makes_room_for_is_stopped(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.define(waits={"command": ["sleep", "600"]}, job=fleet.journal.job(0))
    run_id = suspect(fleet, "job")
    worker = fleet.worker(slots=4)
    (neighbour,) = fleet.start("waits")
    fleet.wait(neighbour, "running")
    release(fleet, run_id)
    wait_for(lambda: fleet.registration(worker)["message"] == ISOLATING, "it makes room")
    fleet.factory.run("stop", str(run_id))
    assert fleet.one("job")["state"] == "succeeded"
    assert [line.run for line in fleet.journal.lines("start")] != [run_id]


def test_an_idle_worker_takes_a_suspected_run_that_a_busy_one_leaves(sqlite_fleet: Fleet) -> None:
    """It was shown as running on the busy worker, which did not start it."""
    fleet = sqlite_fleet
    fleet.define(waits={"command": ["sleep", "600"]}, job=fleet.journal.job(0))
    run_id = suspect(fleet, "job")
    fleet.worker("busy", slots=9)
    (neighbour,) = fleet.start("waits")
    fleet.wait(neighbour, "running")
    fleet.worker("idle", slots=1)
    release(fleet, run_id)
    found = fleet.wait(run_id, timeout=10)
    assert (found["state"], found["worker"], found["attempt"]) == ("succeeded", "idle", 1)


def test_a_run_that_kills_a_third_worker_is_not_retried_and_takes_no_suspected_neighbour_with_it(
    sqlite_fleet: Fleet,
) -> None:
    """They were claimed together, and the third loss counted for all, although only one of them had been started."""
    fleet = sqlite_fleet
    fleet.define(poison={"command": ["sh", "-c", "kill -9 $PPID; sleep 600"]}, job=fleet.journal.job(0))
    poison, *neighbours = suspect(fleet, "poison"), suspect(fleet, "job"), suspect(fleet, "job")
    first = fleet.worker("first", slots=4)
    with fleet.db.begin() as conn:
        conn.execute(run.update().values(state="queued", ready_at=None))
    wait_for(lambda: first.poll() == -signal.SIGKILL, "it has killed its worker")
    second = fleet.worker("second", slots=4)
    found = fleet.wait(poison)
    assert (found["state"], found["reason"]) == ("lost", "its worker died three times while it ran")
    assert [fleet.wait(one)["state"] for one in neighbours] == ["succeeded", "succeeded"]
    assert second.poll() is None
