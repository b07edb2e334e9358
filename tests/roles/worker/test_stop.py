"""Stops of runs in every state, through every interface, politely or at once, with and without a worker."""

import pytest

from tests.support.factory import SHORT, wait_for
from tests.support.fleet import Fleet, kill, thaw

LEASE = float(SHORT["JOBFAC_LEASE"])
STUBBORN = {"command": ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"], "grace": "600s"}


def test_a_waiting_run_ends_at_once(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.define(job={"already_running": "queue", "command": ["sleep", "600"]})
    (queued,) = fleet.start("job")
    (blocked,) = fleet.start("job")
    (scheduled,) = fleet.start("job", delay=3600)
    assert [fleet.get(run_id)["state"] for run_id in (queued, blocked, scheduled)] == ["queued", "blocked", "scheduled"]
    for run_id, before in ((scheduled, "scheduled"), (blocked, "blocked"), (queued, "queued")):
        said = fleet.factory.run("stop", str(run_id)).stdout
        assert said.startswith(f"run {run_id} was {before} and is now stopped: stopped by ")
    assert fleet.states() == {"stopped": 3}


def test_a_running_program_gets_term_and_the_command_prints_the_result(fleet: Fleet) -> None:
    fleet.define(job={"command": ["sleep", "600"]})
    worker = fleet.worker()
    (run_id,) = fleet.start("job")
    fleet.wait(run_id, "running")
    wait_for(lambda: fleet.programs(worker), "its program")
    said = fleet.factory.run("stop", str(run_id)).stdout
    assert said.startswith(f"run {run_id} was running and is now stopped: stopped")
    found = fleet.get(run_id)
    assert (found["state"], found["signal"], found["stop"]) == ("stopped", 15, "polite")
    assert not fleet.programs(worker)
    assert fleet.factory.run("stop", str(run_id)).stderr == f"Run {run_id} had already ended: stopped.\n"


def test_a_program_that_ignores_term_ends_after_its_grace(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.define(job={**STUBBORN, "grace": "0.5s"})
    fleet.worker()
    (run_id,) = fleet.start("job")
    wait_for(lambda: fleet.text(run_id) == b"ready\n", "it ignores TERM by now")
    fleet.factory.run("stop", str(run_id))
    found = fleet.get(run_id)
    assert (found["state"], found["signal"]) == ("stopped", 9)


def test_now_kills_at_once_even_after_a_polite_stop(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.define(job=STUBBORN)
    worker = fleet.worker()
    (run_id,) = fleet.start("job")
    wait_for(lambda: fleet.text(run_id) == b"ready\n", "it ignores TERM by now")
    polite = fleet.factory.run("stop", str(run_id), "--patience", "0.3", code=1)
    assert f"Run {run_id} was asked to stop and is still stopping after 0.3 s" in polite.stderr
    assert fleet.programs(worker)
    said = fleet.factory.run("stop", str(run_id), "--now").stdout
    assert said.startswith(f"run {run_id} was stopping and is now stopped: stopped at once")
    assert fleet.get(run_id)["signal"] == 9


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_a_stopping_run_without_a_worker_ends_with_the_lease(sqlite_fleet: Fleet, how: str) -> None:
    fleet = sqlite_fleet
    fleet.define(job={"command": ["sleep", "600"]})
    worker = fleet.worker("first")
    (run_id,) = fleet.start("job")
    wait_for(lambda: fleet.programs(worker), "its program")
    fleet.worker("second")
    kill(worker) if how == "killed" else fleet.freeze(worker)
    said = fleet.factory.run("stop", str(run_id), "--patience", str(LEASE + 5)).stdout
    assert said.startswith(f"run {run_id} was running and is now stopped: its worker first died")
    assert fleet.get(run_id)["attempt"] == 1
    assert not fleet.programs(worker)
    if how == "frozen":
        thaw(worker)


def test_a_stopped_run_is_not_retried(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.define(job={"command": ["sleep", "600"], "retry": {"attempts": 5, "delay": "0s", "on": ["failed"]}})
    worker = fleet.worker()
    (run_id,) = fleet.start("job")
    wait_for(lambda: fleet.programs(worker), "its program")
    fleet.factory.run("stop", str(run_id))
    assert (fleet.get(run_id)["state"], len(fleet.attempts(run_id))) == ("stopped", 1)
