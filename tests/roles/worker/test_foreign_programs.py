"""Programs in C and shell that use only the report file, executed by a worker and by a dry run."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.engines import CC
from tests.support.factory import wait_for
from tests.support.fleet import Fleet

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture(params=["sh", *(["c"] if CC else [])])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """The command of the program, which is compiled if necessary."""
    if request.param == "sh":
        return ["sh", str(PROGRAMS / "reports.sh")]
    assert CC is not None
    made = tmp_path / "reports"
    subprocess.run([CC, "-Wall", "-Werror", "-o", made, PROGRAMS / "reports.c"], check=True)
    return [str(made)]


def test_reports_are_visible_during_the_run_and_stored(sqlite_fleet: Fleet, program: list[str]) -> None:
    fleet, gate = sqlite_fleet, sqlite_fleet.folder / "gate"
    fleet.define(job={"command": [*program, str(gate)]})
    fleet.worker()
    (run_id,) = fleet.start("job")
    half = wait_for(lambda: (row := fleet.get(run_id))["progress"] == 0.5 and row, "half way")
    assert (half["state"], half["message"]) == ("running", "half way")
    gate.touch()
    found = fleet.wait(run_id)
    assert (found["state"], found["exit_message"], json.loads(found["outputs"])) == (
        "succeeded",
        "12 rows",
        {"rows": 12},
    )
    assert fleet.text(run_id) == b"done\n"


def test_a_dry_run_shows_the_same(sqlite_fleet: Fleet, program: list[str]) -> None:
    said = sqlite_fleet.factory.json("try", "--json", *program)
    names = ("state", "exit_code", "progress", "message", "outputs", "exit_message")
    assert [said[name] for name in names] == ["succeeded", 0, 0.5, "half way", {"rows": 12}, "12 rows"]
    assert [(one["progress"], one["message"]) for one in said["reports"]] == [(0.5, "half way")]
    assert said["output"]["stdout"] == {"size": 5, "cut": 0, "path": None}
