"""How evenly bursts spread over a fleet: `python -m scripts.bench.balance [--url URL] [--bursts N]`.

Each burst starts nine runs at once for three idle workers of eight slots, and is even if no worker executed two runs
more than another. Then the same with two workers of 4 and 12 slots, where a burst of eight is even if the small one
executed one to three of them.
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence

import sqlalchemy as sa

from jobfac.database.tables import run, worker
from jobfac.states import WorkerState
from jobfac.store import runs
from jobfac.store.runs import StartRequest
from scripts.bench.site import Site, wait

ACTIVE = sa.select(worker.c.name).where(worker.c.state == WorkerState.ACTIVE).order_by(worker.c.id)
JOBS = {"nap": {"command": ["sleep", "0.5"]}}


def burst(site: Site, count: int) -> list[int]:
    """Start runs at once; returns how many each worker executed, by worker."""
    ids = site.db.transact(runs.start_many, StartRequest("nap", "bench"), count)
    wait(lambda: site.unfinished() == 0, pause=0.02)
    found = sa.select(run.c.worker).where(run.c.id.in_(ids))
    executed = Counter(site.db.query(lambda conn: conn.execute(found).scalars().all()))
    names = site.db.query(lambda conn: conn.execute(ACTIVE).scalars().all())
    return [executed[name] for name in names]


def spread(name: str, url: str, slots: Sequence[int], count: int, bursts: int) -> list[list[int]]:
    """The spread of each burst over workers with so many slots."""
    with Site(name, url) as site:
        site.apply(JOBS)
        for one in slots:
            site.worker(one)
        return [burst(site, count) for _ in range(bursts)]


def main() -> None:
    """Print how many bursts were even, and the most frequent spreads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="", help="a database other than a fresh SQLite file")
    parser.add_argument("--bursts", type=int, default=100)
    options = parser.parse_args()
    equal = spread("balance-equal", options.url, (8, 8, 8), 9, options.bursts)
    unequal = spread("balance-unequal", options.url, (4, 12), 8, options.bursts)
    found = {
        "bursts": options.bursts,
        "even_of_equal_workers": sum(max(one) - min(one) <= 1 for one in equal),
        "spreads_of_equal_workers": Counter(map(str, equal)).most_common(4),
        "even_of_unequal_workers": sum(abs(one[0] - 2) <= 1 for one in unequal),
        "spreads_of_unequal_workers": Counter(map(str, unequal)).most_common(4),
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
