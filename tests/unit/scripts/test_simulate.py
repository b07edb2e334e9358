"""The simulation of a fleet: every run is executed once, and no dispatcher is better than the perfect one."""

import random

from scripts.simulate import central, workload
from scripts.simulate.__main__ import measure
from scripts.simulate.fleet import LOOK, STATEMENT, Fleet
from scripts.simulate.workload import Run, Spread


def test_a_small_fleet_executes_everything_and_spreads_it() -> None:
    line = measure(workers=6, bursts=12, seed=3)
    assert line.runs == sum(len(burst) for burst in workload.arrivals(workload.fleet_of(6), 12, random.Random(3)))
    assert line.central_p50 <= line.wait_p50 <= line.central_p50 + 250
    assert line.central_p95 <= line.wait_p95 <= line.central_p95 + 250
    assert line.unevenness < line.central_unevenness + 0.05
    assert line == measure(workers=6, bursts=12, seed=3)


def test_a_single_run_waits_for_a_look_and_a_turn() -> None:
    fleet = Fleet([4], random.Random(1))
    result = fleet.run([[Run(0, 1.0, 0.5)]])
    assert len(result.waits) == 1
    assert STATEMENT < result.waits[0] < LOOK + 20 * STATEMENT
    assert fleet.statements["claim"] >= 3


def test_a_burst_goes_to_the_workers_by_their_slots() -> None:
    fleet = Fleet([2, 6], random.Random(2))
    fleet.run([[Run(number, 1.0, 5.0) for number in range(4)]])
    assert fleet.executed == {0: 1, 1: 3}
    assert central.dispatch([2, 6], [[Run(number, 0.0, 5.0) for number in range(4)]]).waits == [0.0] * 4


def test_unevenness_is_averaged_over_the_time() -> None:
    spread = Spread([2, 2])
    spread.change(0, 2, 10.0)
    spread.change(1, 2, 20.0)
    assert spread.mean() == 0.25  # nothing for ten seconds, then 0.5 for ten
