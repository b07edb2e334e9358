"""A burst spreads over the idle workers of a fleet, and a frozen worker delays no run.

A run is left to another worker for a tenth of a second, so these tests need processors for all workers.

A machine that lacks what a job needs leaves its runs to others.
"""

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from jobfac.worker.loop.fair_share import GRACE
from tests.support.engines import DRIVERS
from tests.support.factory import wait_for
from tests.support.fleet import Fleet, Process, thaw

SLEEP = ["sleep", "0.4"]
BURSTS = 5
ENGINES = pytest.mark.parametrize("url", ["sqlite", *DRIVERS[:1]], indirect=True)


def spread(fleet: Fleet, names: list[str], count: int) -> list[int]:
    """Start a burst; returns how many runs each worker executed."""
    ids = fleet.start("nap", count)
    done = fleet.finish(*ids)
    counts = Counter(str(row["worker"]) for row in done)
    return [counts[name] for name in names]


@pytest.mark.alone
def test_a_burst_spreads_over_idle_workers(fleet: Fleet) -> None:
    fleet.define(nap={"command": SLEEP})
    names = ["w1", "w2", "w3"]
    for name in names:
        fleet.worker(name, slots=8)
    spread(fleet, names, 9)  # a worker imports and connects for its first run, while the others claim
    found = [spread(fleet, names, 9) for _ in range(BURSTS)]
    even = [one for one in found if max(one) - min(one) <= 1]
    assert len(even) >= BURSTS - 1, found


@pytest.mark.alone
def test_unequal_workers_share_a_burst_by_their_slots(fleet: Fleet) -> None:
    fleet.define(nap={"command": SLEEP})
    fleet.worker("small", slots=4)
    fleet.worker("large", slots=12)
    spread(fleet, ["small", "large"], 8)
    found = [spread(fleet, ["small", "large"], 8) for _ in range(BURSTS)]
    even = [one for one in found if abs(one[0] - 2) <= 1]
    assert len(even) >= BURSTS - 1, found


@pytest.mark.alone
def test_a_frozen_worker_delays_no_run(fleet: Fleet) -> None:
    fleet.define(nap={"command": ["true"]})
    workers = {name: fleet.worker(name, slots=8, JOBFAC_LEASE="30") for name in ("w1", "w2", "w3")}
    # Inside a transaction it would hold SQLite's write lock, and nobody could write until it goes on.
    fleet.freeze(workers["w3"])
    try:
        done = fleet.finish(*fleet.start("nap", 9))
    finally:
        thaw(workers["w3"])
    assert {str(row["worker"]) for row in done} <= {"w1", "w2"}
    waited = [(row["started_at"] - row["queued_at"]).total_seconds() for row in done]
    assert max(waited) < 1.0 + GRACE, waited


def test_a_worker_on_a_machine_without_memory_claims_nothing_and_says_so(fleet: Fleet) -> None:
    fleet.define(nap={"command": ["true"]}, heavy={"command": ["true"], "slots": 3})
    full = fleet.worker("full", "--min-free-memory", "1000000GiB", slots=8)
    wait_for(lambda: (fleet.registration(full)["message"] or "").startswith("claims nothing:"), "it says so")
    fleet.worker("w1", slots=4)
    done = fleet.finish(*fleet.start("nap", 6), *fleet.start("heavy", 3))
    assert {row["worker"] for row in done} == {"w1"}
    waited = [(row["started_at"] - row["queued_at"]).total_seconds() for row in done]
    assert max(waited) < 5.0, "nothing waits for the share of a worker that claims nothing"
    wait_for(lambda: fleet.registration(full)["free_memory"] is not None, "its heartbeat tells the free memory")


def test_a_start_on_each_worker_runs_once_on_every_one(fleet: Fleet) -> None:
    names = ["w1", "w2", "w3"]
    for name in names:
        fleet.worker(name, slots=1)
    fleet.define(nap={"command": ["sleep", "0.2"]}, each={"command": ["true"], "each_worker": True})
    fleet.start("nap", 6)
    done = fleet.factory.run("start", "each", "--follow")
    assert "`jobfac logs -f RUN` shows the output of one" in done.stderr
    ids = done.stdout.split()
    assert [(row["worker"], row["for_worker"]) for row in fleet.finish(*map(int, ids))] == [(n, n) for n in names]


def test_a_heavy_run_is_not_starved_by_light_ones(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.define(light={"command": ["sleep", "0.3"]}, heavy={"command": ["true"], "slots": 4})
    for name in ("w1", "w2"):
        fleet.worker(name, slots=4)
    fleet.start("light", 8)
    (heavy,) = fleet.start("heavy")
    later = fleet.start("light", 40)
    rows = {row["id"]: row for row in fleet.finish(heavy, *later)}
    before = [run_id for run_id in later if rows[run_id]["started_at"] < rows[heavy]["started_at"]]
    assert len(before) <= 20, "it waits for the runs of one worker, while the other one goes on"


def tool(folder: Path, seconds: float = 0.3) -> None:
    """Install the program of the job."""
    folder.mkdir(exist_ok=True)
    path = folder / "tool"
    path.write_text(f"#!/bin/sh\nexec sleep {seconds}\n")
    path.chmod(0o755)


@ENGINES
@pytest.mark.parametrize("more", [{}, {"output": {"stdout": {"append": "tool.txt"}}}], ids=["direct", "by-another"])
def test_a_machine_without_the_program_leaves_the_runs_to_others(fleet: Fleet, more: dict[str, Any]) -> None:
    """Its starts fail at once, so it would be free first each time and take nearly all of a burst."""
    fleet.define(pay={"command": ["tool"], **more})
    tool(fleet.folder / "well")
    (fleet.folder / "bare").mkdir()
    fleet.worker("well", slots=8, PATH=f"{fleet.folder}/well:/usr/bin:/bin")
    bare = fleet.worker("bare", slots=8, PATH=f"{fleet.folder}/bare:/usr/bin:/bin")
    fleet.start("pay", 100)
    wait_for(lambda: "unhealthy" in said(fleet, bare), "the machine at fault says so")
    assert "starts failed here, while well starts such runs; the last one, of pay: " in said(fleet, bare)
    ended = fleet.finish()
    by_state = fleet.states()
    assert by_state["start_failed"] <= 30, by_state
    assert {one["worker"] for one in ended if one["state"] == "start_failed"} == {"bare"}
    tool(fleet.folder / "bare")
    fleet.start("pay", 4)
    wait_for(partial(is_well, fleet, bare), "the machine is well again")


def test_a_machine_at_fault_leaves_long_runs_in_the_queue(fleet: Fleet) -> None:
    """Nobody else begins one again for hours."""
    fleet.define(pay={"command": ["tool"]})
    tool(fleet.folder / "well", 600)
    (fleet.folder / "bare").mkdir()
    fleet.worker("well", slots=2, PATH=f"{fleet.folder}/well:/usr/bin:/bin")
    bare = fleet.worker("bare", slots=8, PATH=f"{fleet.folder}/bare:/usr/bin:/bin")
    fleet.start("pay", 60)
    wait_for(lambda: fleet.log(bare).count('"worker_unhealthy"') >= 3, "three faults")
    assert fleet.states()["queued"] >= 28, fleet.states()


def said(fleet: Fleet, worker: Process) -> str:
    """Return the message of a worker."""
    return fleet.registration(worker)["message"] or ""


def is_well(fleet: Fleet, worker: Process) -> bool:
    """Keep both workers busy until this one executes runs again."""
    if set(fleet.states()) <= {"succeeded", "start_failed"}:
        fleet.start("pay", 20)
    return fleet.log(worker).count("worker_healthy") > 0 and not said(fleet, worker)
