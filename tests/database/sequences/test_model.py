"""Random sequences, outcomes, event orders, stops and crashes: the step history is always that of the model.

``JOBFAC_TEST_RUNS=500`` tries so many other sequence runs on each engine and prints what they did; ``JOBFAC_TEST_SEED``
is a number that chooses them. `make fuzz` does so, too.
"""

import itertools
import os

import hypothesis
import pytest
from hypothesis.stateful import run_state_machine_as_test

from jobfac import definitions as d
from jobfac.database.engine import Database
from jobfac.store import jobs, schedules
from tests.database.sequences.bodies import FAN, FOLLOWERS, INNER
from tests.database.sequences.machine import Sequences, figures
from tests.support.database import define
from tests.support.sequence_model import REFUSED

RUNS = int(os.environ.get("JOBFAC_TEST_RUNS", "0"))
SEED = int(os.environ.get("JOBFAC_TEST_SEED", "1"))
EXAMPLES = {"sqlite": 6, "mssql": 1}
"""Examples in the suite, the same each time: each is up to 25 transactions, and about five sequence runs."""


def explore(db: Database, examples: int, seed: int | None = None) -> None:
    """Try this number of random examples, which are not reduced if they fail: that takes minutes."""

    class OnThisDatabase(Sequences):
        def __init__(self) -> None:
            super().__init__(db)

    if seed is not None:
        hypothesis.seed(seed)(OnThisDatabase)
    settings = hypothesis.settings(
        max_examples=examples,
        stateful_step_count=25,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
        derandomize=seed is None,
        database=None,
    )
    run_state_machine_as_test(OnThisDatabase, settings=settings)


@pytest.mark.slow
@pytest.mark.timeout(0 if RUNS else 300)
def test_every_step_history_is_that_of_the_model(db: Database) -> None:
    mortal = {"restartable": False}
    define(db, a={}, b=mortal, c=mortal, fan=FAN, fan2=FAN, inner=INNER, **{REFUSED: {"enabled": False}})
    with db.read() as conn:
        known = {one.id: d.canonical(one.definition) for one in jobs.load_all(conn)}
    for job, definition in d.from_data({"jobs": FOLLOWERS}, known=known).jobs.items():
        db.transact(schedules.put, job, definition, "tester")
    Sequences(db).give_up()
    if not RUNS:
        explore(db, EXAMPLES[db.engine.dialect.name])
        return
    figures.clear()
    seeds = itertools.count(SEED * 100_000)
    while figures["runs"] < RUNS:
        explore(db, 10, next(seeds))
    said = ", ".join(f"{number} {what}" for what, number in figures.items())
    print(f"\n{db.engine.dialect.name}: {said}, no wrong path")
