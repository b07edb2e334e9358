"""Output files that are too old or too many are removed, and no other files."""

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from jobfac.programs import open_destination, remove_timestamped

DAY = 86400.0
NOW = time.time()


def make(folder: Path, days_ago: float, run_id: int, pattern: str = "logs/out-*.log") -> str:
    """Create a file like that of a run that ended ``days_ago``."""
    started = datetime.fromtimestamp(NOW, UTC) - timedelta(days=days_ago)
    fd, path = open_destination("timestamped", pattern, str(folder), run_id, started)
    os.close(fd)
    os.utime(path, (NOW - days_ago * DAY, NOW - days_ago * DAY))
    return path.name


def left(folder: Path) -> set[str]:
    return {path.name for path in (folder / "logs").iterdir()}


def test_only_old_files_of_the_pattern_are_removed(tmp_path: Path) -> None:
    make(tmp_path, 40, 1)
    young = make(tmp_path, 20, 2)
    others = {make(tmp_path, 400, 3, "logs/other-*.log"), make(tmp_path, 400, 4, "logs/out-*.err"), "out-old.log"}
    (tmp_path / "logs/out-old.log").touch()
    (tmp_path / "logs/out-20200101T000000Z-5.log").symlink_to("out-old.log")
    (tmp_path / "logs/out-20200101T000000Z-6.log").mkdir()
    others |= {"out-20200101T000000Z-5.log", "out-20200101T000000Z-6.log"}
    assert remove_timestamped("logs/out-*.log", str(tmp_path), NOW, 30 * DAY, None) == 1
    assert left(tmp_path) == {young, *others}
    assert remove_timestamped("logs/out-*.log", str(tmp_path), NOW, None, None) == 0


def test_surplus_files_are_removed_unless_recently_written(tmp_path: Path) -> None:
    newest, fresh = make(tmp_path, 0, 11), make(tmp_path, 0.01, 10)
    for run_id in (2, 3, 9):
        make(tmp_path, 1, run_id)
    assert remove_timestamped("logs/out-*.log", str(tmp_path), NOW, None, 1) == 3
    assert left(tmp_path) == {newest, fresh}


def test_a_missing_folder_has_no_old_files(tmp_path: Path) -> None:
    assert remove_timestamped("logs/out-*.log", str(tmp_path / "gone"), NOW, DAY, 1) == 0
