"""A burst spreads over the idle workers of a fleet, and a frozen worker delays no run."""

import time
from collections import Counter

from tests.support.fleet import Fleet, thaw

SLEEP = ["sleep", "0.4"]
BURSTS = 5


def spread(fleet: Fleet, names: list[str], count: int) -> list[int]:
    """Start a burst; returns how many runs each worker executed."""
    ids = fleet.start("nap", count)
    done = fleet.finish(*ids)
    counts = Counter(str(row["worker"]) for row in done)
    return [counts[name] for name in names]


def test_a_burst_spreads_over_idle_workers(fleet: Fleet) -> None:
    fleet.define(nap={"command": SLEEP})
    names = ["w1", "w2", "w3"]
    for name in names:
        fleet.worker(name, slots=8)
    found = [spread(fleet, names, 9) for _ in range(BURSTS)]
    even = [one for one in found if max(one) - min(one) <= 1]
    assert len(even) >= BURSTS - 1, found


def test_unequal_workers_share_a_burst_by_their_slots(fleet: Fleet) -> None:
    fleet.define(nap={"command": SLEEP})
    fleet.worker("small", slots=4)
    fleet.worker("large", slots=12)
    found = [spread(fleet, ["small", "large"], 8) for _ in range(BURSTS)]
    even = [one for one in found if abs(one[0] - 2) <= 1]
    assert len(even) >= BURSTS - 1, found


def test_a_frozen_worker_delays_no_run(fleet: Fleet) -> None:
    fleet.define(nap={"command": ["true"]})
    workers = {name: fleet.worker(name, slots=8, JOBFAC_LEASE="30") for name in ("w1", "w2", "w3")}
    fleet.freeze(workers["w3"])
    try:
        began = time.monotonic()
        assert sum(spread(fleet, ["w1", "w2"], 9)) == 9
        assert time.monotonic() - began < 3.0
    finally:
        thaw(workers["w3"])
