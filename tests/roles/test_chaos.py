"""The short form of the chaos run: a third of a minute of kills, frosts and outages, and nothing violated."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CHAOS = Path(__file__).parents[2] / "scripts" / "chaos.py"


@pytest.mark.parametrize(("engine", "seed"), [("sqlite", 7), ("mssql", 8)])
def test_nothing_is_violated(engine: str, seed: int) -> None:
    words = ["--minutes", "0.25", "--seed", str(seed), "--engine", engine, "--workers", "3", "--json"]
    done = subprocess.run([sys.executable, str(CHAOS), *words], capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    summary = json.loads(done.stdout)
    assert summary["violations"] == []
    assert summary["runs"] > 50
    assert sum(count for what, count in summary["faults"].items() if what != "stops") > 5
