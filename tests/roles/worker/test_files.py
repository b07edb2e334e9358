"""A worker at work, on each dialect, whose job is started by files."""

from pathlib import Path

import pytest

from tests.support.engines import EACH_DIALECT
from tests.support.factory import Factory, wait_for


@pytest.mark.parametrize("url", EACH_DIALECT, indirect=True)
def test_a_file_that_arrives_starts_a_run(factory: Factory, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "before.csv").write_text("there before the worker")
    factory.worker("w1", "--pool", "etl")
    command = ["sh", "-c", 'cat "$1"; test "$1" = "$JOBFAC_TRIGGER_PATH"', "load", "${trigger.path}"]
    rule = {"file": f"{folder}/*.csv", "stable": "1s"}
    factory.apply({"load": {"command": command, "pool": "etl", "schedules": [rule]}})
    (listed,) = factory.json("schedule", "list")
    assert (listed["definition"]["file"], listed["next_due_at"]) == (f"{folder}/*.csv", None)
    assert "without a clock: file" in factory.run("schedule", "preview", "load").stderr

    def ended(number: int) -> list[int]:
        found = factory.json("runs", "list", "--job", "load", "--state", "succeeded")
        return [run["id"] for run in found] if len(found) == number else []

    (first,) = wait_for(lambda: ended(1), "the run of the file that was there")
    assert "there before the worker" in factory.logs(first)
    (folder / ".part").write_text("written under another name")
    (folder / ".part").rename(folder / "after.csv")
    assert first in wait_for(lambda: ended(2), "the run of the new file")
