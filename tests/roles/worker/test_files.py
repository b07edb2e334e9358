"""A worker at work, on each dialect, whose job is started by files."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobfac.worker.files import lanes, scanning
from tests.support.engines import EACH_DIALECT
from tests.support.factory import Factory, wait_for


@pytest.fixture
def hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose file server does not answer until the end of the test."""
    folder, answers = tmp_path / "hanging", threading.Event()

    def scan(pattern: str) -> scanning.Scan:
        assert not pattern.startswith(str(folder)) or answers.wait(120)
        return scanning.scan(pattern)

    monkeypatch.setattr(lanes, "scan", scan)
    yield folder
    answers.set()


@pytest.mark.parametrize("url", EACH_DIALECT, indirect=True)
def test_a_file_that_arrives_starts_a_run(factory: Factory, tmp_path: Path, hanging: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "before.csv").write_text("there before the worker")
    factory.worker("w1", "--pool", "etl")
    command = ["sh", "-c", 'cat "$1"; test "$1" = "$JOBFAC_TRIGGER_PATH"', "load", "${trigger.path}"]
    rule = {"file": f"{folder}/*.csv", "stable": "1s"}
    never = {"name": "never", "file": f"{hanging}/*.csv"}
    factory.apply({"load": {"command": command, "pool": "etl", "schedules": [never, rule]}})
    listed = factory.json("schedule", "list")[1]
    assert (listed["definition"]["file"], listed["next_due_at"]) == (f"{folder}/*.csv", None)
    assert "without a clock: file" in factory.run("schedule", "preview", "load").stderr

    def ended(number: int) -> list[int]:
        found = factory.json("runs", "list", "--job", "load", "--state", "succeeded")
        return [run["id"] for run in found] if len(found) == number else []

    (first,) = wait_for(lambda: ended(1), "the run of the file that was there")
    assert "there before the worker" in factory.logs(first)
    said = factory.run("runs", "show", str(first)).stdout
    assert f"schedule 2, by the file {folder}/before.csv (23 bytes)" in said
    (folder / ".part").write_text("written under another name")
    (folder / ".part").rename(folder / "after.csv")
    assert first in wait_for(lambda: ended(2), "the run of the new file")
