"""What other users put into a folder with files that start jobs stops no other file."""

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.database.tables import run
from jobfac.operations import jobs
from jobfac.operations.caller import Caller
from jobfac.settings import Settings
from jobfac.store.schedules import ArrivedFile
from jobfac.worker.files.files import Files
from jobfac.worker.files.lanes import Result
from jobfac.worker.files.scanning import scan
from jobfac.worker.files.targets import ScheduleTarget, Taken


def found(pattern: str) -> tuple[list[str], list[str]]:
    result = scan(pattern)
    return sorted(Path(path).name for path in result.files), result.problems


def make_deep(folder: Path, name: str, levels: int) -> None:
    """Make a tree that is deeper than a path may be long."""
    at = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=at)
        below = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)


def remove_deep(folder: Path, name: str) -> None:
    """Remove it, which no function of Python's library can."""
    at = os.open(folder, os.O_RDONLY)
    levels = [at]
    while name in os.listdir(levels[-1]):  # noqa: PTH208 (a descriptor)
        levels.append(os.open(name, os.O_RDONLY, dir_fd=levels[-1]))
    for inside, above in zip(levels[:0:-1], levels[-2::-1], strict=True):
        os.close(inside)
        os.rmdir(name, dir_fd=above)
    os.close(at)


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "a.csv").write_text("x")
    yield tmp_path
    remove_deep(tmp_path, "e" * 40)


@pytest.mark.parametrize("pattern", ["*/*.csv", "**/*.csv", "**/good/*.csv", "g**/*.csv", "*o*/**"])
def test_a_hostile_folder_hides_no_other(inbox: Path, pattern: str) -> None:
    make_deep(inbox, "e" * 40, 150)
    (inbox / "loop").symlink_to("loop")
    (inbox / "up").symlink_to(".")
    (inbox / "nowhere").symlink_to("/proc/1/root/none")
    (inbox / os.fsdecode(b"\xff")).mkdir()
    names, problems = found(f"{inbox}/{pattern}")
    assert names == ["a.csv"]
    for problem in problems:
        problem.encode()  # it can be logged


def test_a_tree_deeper_than_the_stack_is_scanned(tmp_path: Path) -> None:
    try:
        make_deep(tmp_path, "e", 1200)
        (tmp_path / "a.csv").write_text("x")
        assert found(f"{tmp_path}/**/*.csv") == (["a.csv"], [])
    finally:
        remove_deep(tmp_path, "e")


class AtOnce:
    """Scans when it is asked."""

    def __init__(self) -> None:
        self.found: list[Result] = []

    def begin(self, patterns: Iterable[str], now: float) -> None:
        self.found += [Result(pattern, scan(pattern), now, 0.0) for pattern in patterns]

    def results(self) -> list[Result]:
        found, self.found = self.found, []
        return found

    def stuck(self, now: float) -> Collection[str]:
        return ()


def test_a_target_that_fails_stops_no_other(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure is simulated: none is known."""
    (tmp_path / "a.csv").write_text("x")
    db = Database(sqlite_url)
    for name in ("bad", "good"):
        body = {"command": ["true"], "schedules": [{"file": f"{tmp_path}/*.csv", "stable": "1s"}]}
        jobs.put(db, Caller("me"), name, body)
    real = ScheduleTarget.take

    def play(target: ScheduleTarget, conn: sa.Connection, files: Sequence[ArrivedFile], *more: Any) -> Taken:
        if target.schedule.job == "bad":
            raise RuntimeError
        return real(target, conn, files, *more)

    monkeypatch.setattr(ScheduleTarget, "take", play)
    files = Files(db, Settings(), "w1", ["default"], AtOnce())
    for now in (100.0, 200.0):
        files.turn(now)
    with db.read() as conn:
        assert conn.execute(sa.select(run.c.job)).scalars().all() == ["good"]
    db.close()
