"""Many sequences on a fleet whose workers are killed at random: every step history matches its outcomes."""

import os
import random
import signal
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.dialects import lists
from jobfac.database.engine import Database
from jobfac.database.tables import run
from jobfac.database.types import sql_literals
from jobfac.states import RunState
from jobfac.store import runs, sequences, workers
from jobfac.store.runs import StartRequest
from jobfac.store.sequences.plans.simulate import simulate
from tests.support.engines import EACH_DIALECT
from tests.support.factory import FINAL, Factory, wait_for

NUMBER = int(os.environ.get("JOBFAC_TEST_SEQUENCES", "16"))
"""The number of sequence runs. `JOBFAC_TEST_SEQUENCES=500` is the long form of this test."""

MOST_KILLS = NUMBER // 8
LIMIT = 60 + NUMBER
"""Seconds."""

STEPS: list[dict[str, Any]] = [
    {"name": "extract", "jobs": ["a", "b"], "on_mixed": {"step": "load"}, "on_failure": {"step": "alert"}},
    {"name": "check", "jobs": ["c"], "on_failure": "next"},
    {"name": "load", "jobs": ["d", "e"], "proceed": "when_any", "on_failure": {"step": "close"}},
    {"name": "inform", "jobs": ["f"], "proceed": "at_once"},
    {"name": "close", "jobs": ["g", "h"], "on_success": "end", "on_mixed": "next"},
    {"name": "alert", "jobs": ["i"], "on_success": "end", "on_failure": "end_failed"},
]
JOBS = [job for step in STEPS for job in step["jobs"]]
PLACES = [(step["name"], job) for step in STEPS for job in step["jobs"]]


@pytest.mark.parametrize("url", EACH_DIALECT, indirect=True)
@pytest.mark.timeout(LIMIT + 60)
def test_every_step_history_is_right_although_workers_die(factory: Factory) -> None:
    program = {"command": ["sh", "-c", 'sleep 0.1; exit "$1"', "sh"]}
    factory.apply(dict.fromkeys(JOBS, program) | {"seq": {"steps": STEPS}})
    dice = random.Random(7)
    db = Database(factory.url)
    factory.role("scheduler")
    for number in range(4):
        factory.role("worker", "--name", f"w{number}", "--slots", "4")
    wait_for(lambda: len(fleet(db)) == 4, "four workers")
    plans: dict[int, dict[str, str]] = {}
    for _ in range(NUMBER):
        codes = {job: dice.choice("001") for job in JOBS}
        codes["e"] = codes["d"]  # whichever ends first
        overrides = {"arguments": {job: [code] for job, code in codes.items()}}
        plans[db.transact(runs.start, StartRequest("seq", "tester", overrides=overrides))] = codes

    killed = 0
    end = time.monotonic() + LIMIT
    while not are_over(db, plans) and time.monotonic() < end:
        time.sleep(dice.uniform(0.1, 0.8))
        busy = [pid for pid, held in fleet(db).items() if held]
        if busy and killed < MOST_KILLS:
            os.kill(dice.choice(busy), signal.SIGKILL)
            killed += 1
            # It starts at once, but takes over its predecessor's runs only after the lease.
            factory.role("worker", "--name", f"heir-{killed}", "--slots", "4")
    assert are_over(db, plans)
    assert killed
    definition = d.from_data({"jobs": {"seq": {"steps": STEPS}}}, known=dict.fromkeys(JOBS, program)).jobs["seq"]
    assert isinstance(definition, d.Sequence)
    words = {"0": [RunState.SUCCEEDED], "1": [RunState.FAILED]}
    for run_id, codes in plans.items():
        walk = simulate(definition, {(step, job): words[codes[job]] for step, job in PLACES}, datetime.now(UTC))
        wanted = [(stop.visit.step, stop.visit.result, sorted(stop.jobs.items())) for stop in walk.stops]
        with db.read() as conn:
            path = sequences.step_history(conn, run_id)
            found = [(v.step, v.result, sorted((one.job, one.state) for one in v.runs)) for v in path]
            assert found == wanted, f"run {run_id} with {codes}"
            assert runs.get(conn, run_id).state == walk.state
    db.close()


def fleet(db: Database) -> dict[int, int]:
    """Return the processes of the workers with a valid lease, each with its number of runs."""
    with db.read() as conn:
        return {one.pid: one.busy for one in workers.workers(conn, alive_only=True) if _exists(one.pid)}


def _exists(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def are_over(db: Database, run_ids: Iterable[int]) -> bool:
    """Whether all these runs have ended."""
    with db.read() as conn:
        left = sa.select(run.c.id).where(
            lists.by_id(run.c.id, run_ids), sa.text(f"state NOT IN ({sql_literals(FINAL)})")
        )
        return conn.execute(left.limit(1)).first() is None
