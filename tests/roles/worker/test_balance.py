"""A burst spreads over the idle workers of a fleet, and a frozen worker delays no run.

A run is left to another worker for a tenth of a second, so these tests need processors for all workers.
"""

from collections import Counter

import pytest

from jobfac.worker.loop.fair_share import GRACE
from tests.support.factory import wait_for
from tests.support.fleet import Fleet, thaw

SLEEP = ["sleep", "0.4"]
BURSTS = 5


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
