"""A chaos run of twenty seconds with kills, freezes and outages, without a violation."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(("engine", "seed", "minutes"), [("sqlite", 7, 0.2), ("mssql", 8, 0.13)])
def test_a_chaos_run_has_no_violations(engine: str, seed: int, minutes: float) -> None:
    words = ["--minutes", str(minutes), "--seed", str(seed), "--engine", engine, "--workers", "3", "--json"]
    done = subprocess.run([sys.executable, "-m", "scripts.chaos", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    summary = json.loads(done.stdout)
    assert summary["violations"] == []
    assert summary["runs"] > 10
    assert sum(count for what, count in summary["faults"].items() if what != "stops") > 4
