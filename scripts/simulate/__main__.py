"""How large a fleet one SQL Server carries: `python -m scripts.simulate [--workers N]... [--bursts N] [--seed N]`.

For each size of the fleet it prints how long runs waited and how uneven the workers' loads were, against a perfect
central dispatcher on the same arrivals, and what the server had to do a second.
"""

import argparse
import random
from typing import NamedTuple

from jobfac.settings import Settings
from scripts.simulate import central, workload
from scripts.simulate.fleet import LOOK, Fleet

SIZES = (1, 10, 100, 1000)
BURSTS = {1: 300, 10: 120, 100: 30, 1000: 6}


class Line(NamedTuple):
    """The figures of one size. Waits in milliseconds; the last four are per second."""

    workers: int
    slots: int
    runs: int
    wait_p50: float
    wait_p95: float
    central_p50: float
    central_p95: float
    unevenness: float
    central_unevenness: float
    statements: float
    heartbeats: float
    polls: float
    rows: float


def measure(workers: int, bursts: int, seed: int) -> Line:
    """Simulate a fleet of this size."""
    slots = workload.fleet_of(workers)
    found = workload.arrivals(slots, bursts, random.Random(seed))
    fleet = Fleet(slots, random.Random(seed + 1))
    ours, best = fleet.run(found), central.dispatch(slots, found)
    p50, p95, central_p50, central_p95 = (
        1000 * workload.quantile(waits, part) for waits in (ours.waits, best.waits) for part in (0.5, 0.95)
    )
    return Line(
        workers=workers,
        slots=sum(slots),
        runs=len(ours.waits),
        wait_p50=p50,
        wait_p95=p95,
        central_p50=central_p50,
        central_p95=central_p95,
        unevenness=ours.unevenness,
        central_unevenness=best.unevenness,
        statements=fleet.statements.total() / fleet.now,
        heartbeats=workers / Settings.heartbeat,
        polls=fleet.armed_seconds / LOOK / fleet.now,
        rows=fleet.rows_read / fleet.now,
    )


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, action="append", help="a size of the fleet; repeat")
    parser.add_argument("--bursts", type=int, help="how many bursts arrive")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    titles = ("workers", "slots", "runs", "p50 ms", "p95 ms", "perfect p50", "perfect p95", "uneven", "perfect")
    rates = ("statements/s", "heartbeats/s", "polls/s", "fleet rows/s")
    print(" | ".join((*titles, *rates)))
    for workers in options.workers or SIZES:
        line = measure(workers, options.bursts or BURSTS.get(workers, 30), options.seed)
        whole = (f"{value:,.0f}" for value in line[:7])
        print(" | ".join((*whole, *(f"{value:.3f}" for value in line[7:9]), *(f"{value:,.0f}" for value in line[9:]))))


if __name__ == "__main__":
    main()
