"""Which files count, when they are complete, and what wakes a scan."""

import math
import os
import threading
import time
from pathlib import Path

import pytest

from jobfac.machine import mounts
from jobfac.programs.files.inquiry import OF_ONE_MOUNT
from jobfac.store.schedules import ArrivedFile
from jobfac.store.schedules.arriving import REPORTED_AGAIN
from jobfac.worker.files import lanes, scanning
from jobfac.worker.files.arrivals import Arrivals
from jobfac.worker.files.departures import AWAY, GONE, Departures, placed
from jobfac.worker.files.events import FolderEvents, NoEvents, folder_events
from jobfac.worker.files.scanning import Listing, Scan, Seen, scan
from tests.support.factory import wait_for

NS = 10**9


def names(folder: Path, pattern: str) -> list[str]:
    """The names of the files that the pattern finds, relative to the folder."""
    return sorted(str(Path(path).relative_to(folder)) for path in scan(f"{folder}/{pattern}").files)


def test_a_pattern_means_what_a_shell_means(tmp_path: Path) -> None:
    for name in ("a.csv", "b.txt", ".part.csv", "sub/c.csv", "sub/deep/d.csv", ".hidden/e.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "folder.csv").mkdir()
    assert names(tmp_path, "*.csv") == ["a.csv"]
    assert names(tmp_path, ".*.csv") == [".part.csv"]
    assert names(tmp_path, "?.[ct][sx][vt]") == ["a.csv", "b.txt"]
    assert names(tmp_path, "*/*.csv") == ["sub/c.csv"]
    assert names(tmp_path, "**/*.csv") == ["a.csv", "sub/c.csv", "sub/deep/d.csv"]
    assert names(tmp_path, "sub/**") == ["sub/c.csv", "sub/deep/d.csv"]
    assert names(tmp_path, "b.txt") == ["b.txt"]


def test_the_folder_of_a_pattern_is_what_it_names_without_a_wildcard() -> None:
    assert [scanning.folder_of(one) for one in ("/in/*.csv", "/in/a/**", "/in/*/b/c", "/in/b.txt", "/*")] == [
        "/in", "/in/a", "/in", "/in", "/",
    ]  # fmt: skip


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.csv")).write_text("x")
    assert scan(f"{tmp_path}/gone/*.csv").problems == [f"{tmp_path}/gone cannot be read: No such file or directory"]
    (problem,) = scan(f"{tmp_path}/*.csv").problems
    assert problem.endswith("is left out, because its name is not UTF-8; rename it")


def test_a_file_is_complete_when_it_has_not_changed_for_so_long() -> None:
    arrivals = Arrivals(30)
    assert arrivals.observe({"/in/a": Seen(1, 5 * NS)}, 100) == []
    assert arrivals.next_at() == 130
    assert arrivals.observe({"/in/a": Seen(2, 5 * NS)}, 125) == []  # it grows
    assert arrivals.observe({"/in/a": Seen(2, 6 * NS)}, 150) == []  # it was touched
    assert arrivals.observe({"/in/a": Seen(2, 6 * NS)}, 179) == []
    (file,) = arrivals.observe({"/in/a": Seen(2, 6 * NS + 1 - 1)}, 180)
    assert (file.path, file.size, file.modified) == ("/in/a", 2, 6)


def test_a_handled_file_is_reported_again_only_when_it_changes_or_after_long() -> None:
    arrivals, found = Arrivals(1), {"/in/a": Seen(1, NS)}
    arrivals.observe(found, 0)
    files = arrivals.observe(found, 1)
    arrivals.handle(files, {file.key for file in files}, 1)
    assert (arrivals.observe(found, 2), arrivals.next_at()) == ([], None)
    changed = {"/in/a": Seen(1, 2 * NS)}
    assert (arrivals.observe(changed, 3), len(arrivals.observe(changed, 4))) == ([], 1)
    assert len(arrivals.observe(changed, 1 + REPORTED_AGAIN)) == 1
    assert (arrivals.observe({}, 5), arrivals.next_at()) == ([], None)


def test_a_refused_file_waits() -> None:
    arrivals, found = Arrivals(1), {"/in/a": Seen(1, NS)}
    arrivals.observe(found, 0)
    arrivals.postpone(arrivals.observe(found, 1), 600)
    assert (arrivals.observe(found, 2), arrivals.next_at()) == ([], 600)
    assert len(arrivals.observe(found, 600)) == 1


def test_the_key_is_made_of_path_size_and_time() -> None:
    def key(path: str, seen: Seen) -> str:
        arrivals = Arrivals(1)
        arrivals.observe({path: seen}, 0)
        return arrivals.observe({path: seen}, 1)[0].key

    same = {key("/in/a", Seen(1, NS)), key("/in/a", Seen(1, NS + 5))}  # another machine sees other fractions
    assert len(same) == 1
    assert len(same | {key("/in/b", Seen(1, NS)), key("/in/a", Seen(2, NS)), key("/in/a", Seen(1, 2 * NS))}) == 4


@pytest.mark.parametrize("make", [folder_events, NoEvents])
def test_a_wait_ends_when_it_is_woken(make: type[NoEvents]) -> None:
    events: FolderEvents = make()
    threading.Timer(0.05, events.wake).start()
    assert events.wait(None) == () or not events.wait(0)
    events.close()


@pytest.mark.skipif(not hasattr(os, "pipe2"), reason="inotify is Linux's")
def test_what_happens_in_a_folder_ends_a_wait(tmp_path: Path) -> None:
    events = folder_events()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    assert events.add([str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "none")])
    assert not events.add([str(tmp_path / "a")])
    assert list(events.wait(0)) == []
    (tmp_path / "a" / "x").write_text("x")
    assert list(events.wait(30)) == [str(tmp_path / "a")]
    events.remove([str(tmp_path / "a"), str(tmp_path / "none")])
    (tmp_path / "a" / "y").write_text("x")
    (tmp_path / "b" / ".z").write_text("x")
    (tmp_path / "b" / ".z").rename(tmp_path / "b" / "z")
    assert list(events.wait(30)) == [str(tmp_path / "b")]
    (tmp_path / "b" / "z").unlink()
    (tmp_path / "b").rmdir()
    while events.wait(0):
        pass
    (tmp_path / "b").mkdir()
    assert events.add([str(tmp_path / "b")]), "the former one was deleted"
    events.close()


def test_a_folder_that_hangs_delays_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, hung = threading.Event(), set()

    def answer(pattern: str) -> Scan:
        if pattern.startswith("/hung"):
            hung.add(threading.get_ident())
            assert gate.wait(60)
        return Scan({}, frozenset(), [])

    monkeypatch.setattr(lanes, "scan", answer)
    monkeypatch.setattr(lanes, "AGAIN", math.inf)  # no lane is left alone
    events, now = NoEvents(), time.monotonic()
    scanner = lanes.Lanes(events)
    try:
        first = [f"/hung{number}/*" for number in range(lanes.AT_A_TIME)]
        assert scanner.begin([*first, "/ok/*", "/ok/*.csv"], now) == now + lanes.STUCK
        assert (scanner.results(), scanner.stuck(now)) == ([], set())
        later = now + lanes.STUCK + 5
        assert scanner.begin([*first, "/ok/*.csv"], later) is None
        results: list[lanes.Result] = []
        while len(results) < 2:
            events.wait(30)
            results += scanner.results()
        assert [one.pattern for one in results] == ["/ok/*", "/ok/*.csv"]
        stuck = {f"/hung{number}" for number in range(lanes.AT_A_TIME)}
        wait_for(lambda: scanner.stuck(later) == stuck, "the lane that has answered has ended")
        scanner.begin([f"/hung/{number}/*" for number in range(2 * lanes.MOST)], later)
        for time_after in range(1, lanes.MOST):
            scanner.begin((), later + time_after * (lanes.STUCK + 5))
        wait_for(lambda: len(hung) == lanes.MOST, "each lane hangs")
        assert not scanner.close()
    finally:
        gate.set()
    wait_for(scanner.close, "all threads have ended")


def test_the_folders_of_one_drive_that_hangs_leave_threads_for_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gate, hung = threading.Event(), set()

    def answer(pattern: str) -> Scan:
        if pattern.startswith("/drive/"):
            hung.add(thread := threading.get_ident())
            assert gate.wait(60)
            hung.remove(thread)
        return Scan({}, frozenset(), [])

    table = tmp_path / "mountinfo"
    table.write_text("".join(f"1 1 0:1 / {point} rw - nfs4 x rw\n" for point in ("/", "/drive")))
    monkeypatch.setattr(mounts, "TABLE", table)
    monkeypatch.setattr(lanes, "scan", answer)
    monkeypatch.setattr(lanes, "STUCK", 0.2)
    scanner = lanes.Lanes(NoEvents())
    of_drive = [f"/drive/{number}/*" for number in range(lanes.MOST)]
    found: list[str] = []

    def turn(*wanted: str) -> bool:
        scanner.begin(wanted, time.monotonic())
        found.extend(one.pattern for one in scanner.results())
        return len(hung) <= 2 * OF_ONE_MOUNT  # on a slow machine some begin before the first ones count as waiting

    try:
        wait_for(lambda: turn(*of_drive) and len(scanner.stuck(time.monotonic())) == lanes.MOST, "none answers")
        turn("/other/*")
        wait_for(lambda: turn() and found == ["/other/*"], "the other one is scanned")
        wait_for(lambda: turn() and len(hung) >= OF_ONE_MOUNT, "the rest wait without threads")
    finally:
        gate.set()
    wait_for(lambda: turn() and set(found) == {*of_drive, "/other/*"}, "all are scanned when the drive answers")
    wait_for(scanner.close, "all threads have ended")


# Files that have gone


def listed(*names: str, place: str = "1:1", **files: Seen) -> Scan:
    """A scan of the folder /in."""
    return Scan({f"/in/{name}": seen for name, seen in files.items()}, frozenset(), [], {
        "/in": Listing(place, frozenset({*names, *files}))
    })  # fmt: skip


HERE = listed(a=Seen(1, NS))
FILE = placed(ArrivedFile("/in/a", 1, 1), HERE)


def known(*seen: tuple[Scan, float]) -> bool:
    """Whether a file that has become a run has gone after these scans."""
    departures = Departures()
    departures.handle([FILE], {FILE.key: 7})
    gone = [departures.observe(found, at) for found, at in seen]
    assert not any(gone[:-1])
    return [(one.key, one.run_id) for one in gone[-1]] == [(FILE.key, 7)]


def test_a_file_has_gone_if_scans_miss_it_for_long_enough() -> None:
    assert not known((listed(), 0))
    assert not known((listed(), 0), (listed(), GONE - 1))
    assert known((listed(), 0), (listed("other"), GONE))
    assert not known((listed(), 0), (HERE, 10), (listed(), GONE), (listed(), GONE + 1))
    departures = Departures()
    departures.handle([FILE], {FILE.key: 7})
    for found, at in ((listed(), 0), (HERE, 10), (HERE, 20)):
        departures.observe(found, at)
    assert (departures.take_too_soon(), departures.take_too_soon()) == (["/in/a"], [])
    assert known((listed(a=Seen(2, NS)), 0), (listed(a=Seen(1, 2 * NS)), GONE)), "another one is in its place"
    assert not known((listed(a=Seen(1, NS + 5)), 0), (listed(a=Seen(1, NS + 5)), GONE))


def test_only_its_folder_shows_that_it_has_gone() -> None:
    for other in (Scan({}, frozenset(), []), listed(place="1:2"), listed(place=""), listed("a")):
        assert not known((other, 0), (other, GONE))
        assert not known((listed(), 0), (other, 10), (listed(), GONE), (listed(), GONE + 1))


def test_a_file_whose_folder_stays_away_is_forgotten() -> None:
    """As those of a folder for each day, which is removed later. Otherwise they would take memory for ever."""
    away, back = (Scan({}, frozenset(), []), 0), ((listed(), 2 * AWAY), (listed(), 2 * AWAY + GONE))
    assert known(away, (listed(), AWAY - 1), (away[0], AWAY), *back)
    assert not known(away, (away[0], AWAY), *back)


def test_a_listing_names_what_is_no_file_and_changes_with_the_folder(tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to("/gone")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "a.csv").touch()
    found = scan(f"{tmp_path}/*.csv")
    assert found.listings[str(tmp_path)].names == {"link.csv", "folder.csv", "a.csv"}
    other = scan(f"{tmp_path}/folder.csv/*")
    assert other.listings[f"{tmp_path}/folder.csv"].place != found.listings[str(tmp_path)].place
    assert scan(f"{tmp_path}/none/*").listings == {}
