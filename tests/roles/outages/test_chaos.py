"""Two chaos runs of six seconds with kills, freezes and outages, without a violation. `make chaos` has longer ones."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


# The plan of both seeds freezes and kills a worker, kills a guardian, cuts the database off and drains a worker; the
# first one steps the clock too, the second one kills the scheduler.
@pytest.mark.slow
@pytest.mark.parametrize(("engine", "seed"), [("sqlite", 3227), ("mssql", 1666)])
def test_a_chaos_run_has_no_violations(engine: str, seed: int) -> None:
    fleet = ["--engine", engine, "--workers", "2", "--schedulers", "1"]
    words = [sys.executable, "-m", "scripts.chaos", *fleet, "--minutes", "0.1", "--seed", str(seed), "--json"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    summary = json.loads(done.stdout)
    assert summary["violations"] == []
    assert summary["runs"] > 10
    assert sum(count for what, count in summary["faults"].items() if what != "stops") > 4
