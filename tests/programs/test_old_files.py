"""Output files that are too old or too many are removed, and no other files."""

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from jobfac.programs import Series, destination_path, remove_timestamped
from jobfac.programs.files.destinations import open_path

DAY = 86400.0
NOW = time.time()


def make(folder: Path, days_ago: float, run_id: int, pattern: str = "logs/out-*.log", mark: str = "") -> str:
    """Create a file like that of a run that ended ``days_ago``."""
    started = datetime.fromtimestamp(NOW, UTC) - timedelta(days=days_ago)
    path = destination_path("timestamped", pattern, str(folder), run_id, started)
    os.close(open_path("timestamped", path, 0, 0, mark))
    os.utime(path, (NOW - days_ago * DAY, NOW - days_ago * DAY))
    return path.name


def left(folder: Path) -> set[str]:
    return {path.name for path in (folder / "logs").iterdir()}


def out(folder: Path, pattern: str = "logs/out-*.log") -> Series:
    return Series(pattern, str(folder), pattern, "job")


def test_only_old_files_of_the_pattern_are_removed(tmp_path: Path) -> None:
    make(tmp_path, 40, 1)
    young = make(tmp_path, 20, 2)
    others = {make(tmp_path, 400, 3, "logs/other-*.log"), make(tmp_path, 400, 4, "logs/out-*.err"), "out-old.log"}
    (tmp_path / "logs/out-old.log").touch()
    (tmp_path / "logs/out-20200101T000000Z-5.log").symlink_to("out-old.log")
    (tmp_path / "logs/out-20200101T000000Z-6.log").mkdir()
    others |= {"out-20200101T000000Z-5.log", "out-20200101T000000Z-6.log"}
    assert remove_timestamped(out(tmp_path), NOW, 30 * DAY, None) == 1
    assert left(tmp_path) == {young, *others}
    assert remove_timestamped(out(tmp_path), NOW, None, None) == 0


def test_surplus_files_are_removed_unless_recently_written(tmp_path: Path) -> None:
    newest, fresh = make(tmp_path, 0, 11), make(tmp_path, 0.01, 10)
    for run_id in (2, 3, 9):
        make(tmp_path, 1, run_id)
    assert remove_timestamped(out(tmp_path), NOW, None, 1) == 3
    assert left(tmp_path) == {newest, fresh}


def test_a_missing_folder_has_no_old_files(tmp_path: Path) -> None:
    assert remove_timestamped(out(tmp_path / "gone"), NOW, DAY, 1) == 0


def test_files_of_all_values_of_a_placeholder_are_removed_and_none_of_other_jobs(tmp_path: Path) -> None:
    """Their names alone do not tell: the value of one job may look like the text of another."""
    template = "logs/order-${parameters.order}-*.log"
    mine = Series("logs/order-[9]-*.log", str(tmp_path), template, "job")
    for days, value in enumerate(("7", "[9]", "a.b", "x-20200101T000000Z-5", ""), 40):
        make(tmp_path, days, days, f"logs/order-{value}-*.log", mine.mark)
    others = {
        make(tmp_path, 400, 2, "logs/order-7-*.log"),  # of an earlier version of jobfac, or of another job
        make(tmp_path, 400, 3, "logs/order-special-*.log", Series("", None, template, "other job").mark),
        make(tmp_path, 400, 4, "logs/order-7-*.log", Series("", None, "logs/${parameters.kind}-7-*.log", "job").mark),
        make(tmp_path, 400, 5, "logs/other-7-*.log", mine.mark),
        make(tmp_path, 400, 6, "logs/sub/order-7-*.log", mine.mark) and "sub",
    }
    young = {make(tmp_path, 20, 7, "logs/order-8-*.log", mine.mark)}
    make(tmp_path, 400, 8, "logs/order-[9]-*.log")  # the same pattern as now: it needs no mark
    assert remove_timestamped(mine, NOW, 30 * DAY, None) == 6
    assert left(tmp_path) == others | young
    newest = make(tmp_path, 1, 9, "logs/order-11-*.log", mine.mark)
    assert remove_timestamped(mine, NOW, None, 1) == 1
    assert left(tmp_path) == {*others, newest}


def test_a_value_that_names_a_folder_spares_the_files_beside_it(tmp_path: Path) -> None:
    template = "logs/${parameters.order}-*.log"
    one = Series("logs/a/b-*.log", str(tmp_path), template, "job")
    make(tmp_path, 40, 1, one.pattern, one.mark)
    kept = make(tmp_path, 40, 2, "logs/c-*.log", one.mark)
    assert remove_timestamped(one, NOW, DAY, None) == 1
    assert left(tmp_path) == {"a", kept}
