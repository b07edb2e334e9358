"""A file system that does not answer stops only the jobs that use it, and not for ever."""

import os
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobfac.machine import mounts
from jobfac.programs.files import inquiry, places
from jobfac.worker.executions import held
from jobfac.worker.files import lanes
from jobfac.worker.files.events import NoEvents
from jobfac.worker.files.scanning import Scan
from tests.support.api_stage import Served
from tests.support.factory import wait_for

A_SLOW_MACHINE = 0.5
"""Seconds within which a file system that is there answers even beside other tests."""


@pytest.fixture
def hung(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Simulate a network drive that hangs: every read of the folder ``hung`` waits until the event is set."""
    (tmp_path / "hung").mkdir()
    answers, real = threading.Event(), os.stat

    def play(path: Any, **options: Any) -> object:
        if os.path.realpath(str(path)).startswith(str(tmp_path / "hung")):
            answers.wait()
        return real(path, **options)

    monkeypatch.setattr(inquiry, "look", play)
    monkeypatch.setattr(os, "stat", play)
    yield answers
    answers.set()


@pytest.mark.parametrize(
    "more",
    [
        {"directory": "hung"},
        {"command": ["hung/program"]},
        {"command": ["program"], "environment": {"PATH": "/no/such:hung:/bin"}},
        {"output": {"stdout": {"append": "hung/out.log"}}},
        {"environment": {"X": {"secret": "file:hung/secret"}}},
    ],
)
def test_others_run_while_a_folder_hangs(served: Served, tmp_path: Path, hung: threading.Event, more: object) -> None:
    served.define("stuck", **_below(tmp_path, more))
    served.define("other", directory=str(tmp_path))
    with served.worker():
        stuck = [served.start("stuck") for _ in range(2)]
        other = served.start("other")
        wait_for(lambda: _state(served, other) == "succeeded", "the other job has run")
        assert [_state(served, run) for run in stuck] == ["running"] * 2
        assert served.operator.post(f"/v1/runs/{stuck[0]}/stop").status_code == 200
        wait_for(lambda: _state(served, stuck[0]) == "stopped", "the waiting run was stopped")
        (tmp_path / "hung/secret").write_text("x")
        (tmp_path / "hung/program").write_text("#!/bin/sh\n")
        (tmp_path / "hung/program").chmod(0o700)
        hung.set()
        wait_for(lambda: _state(served, stuck[1]) == "succeeded", "the run has started when its folder answered")


def _is_silent(asked: places.Places, paths: list[str], one: str) -> bool:
    return asked.silent(paths) == one


@pytest.mark.parametrize("drive", ["hung", "link"])
@pytest.mark.parametrize("also_asked", [True, False], ids=["beside another", "alone"])
def test_a_hundred_hung_folders_of_one_drive_delay_no_other(
    tmp_path: Path, hung: threading.Event, monkeypatch: pytest.MonkeyPatch, drive: str, also_asked: bool
) -> None:
    mounted = [mounts.Mount("/", "ext4"), mounts.Mount(str(tmp_path / "hung"), "nfs4")]
    monkeypatch.setattr(mounts, "mounts", lambda: mounted)
    (tmp_path / "link").symlink_to("hung")
    asked = places.Places(lambda: None)
    for number in range(100):
        one = str(tmp_path / f"{drive}/{number}")
        these = [str(tmp_path), one] if also_asked else [one]
        wait_for(partial(_is_silent, asked, these, one), "it is known which one is silent")
    assert asked.silent([str(tmp_path)]) is None
    hung.set()
    wait_for(lambda: asked.silent([one]) is None, "the drive answers again")


@pytest.mark.parametrize("kind", ["nfs4", "ext4"])
def test_a_drive_with_a_server_is_asked_again_soon(
    tmp_path: Path, hung: threading.Event, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A worker that starts runs all the time would otherwise always meet the end of a drive in a start."""
    table = tmp_path / "mountinfo"
    table.write_text(f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 22 0:40 / {tmp_path}/hung rw master:1 - {kind} x rw\n")
    monkeypatch.setattr(mounts, "TABLE", table)
    now = 0.0
    monkeypatch.setattr(places, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(places, "AT_ONCE", A_SLOW_MACHINE)
    asked, one = places.Places(lambda: None), str(tmp_path / "hung")

    def silent(at: float) -> object:
        nonlocal now
        now = at
        return asked.silent([one])

    hung.set()
    assert [silent(1.0), silent(1.0)] == [None, None]
    hung.clear()
    assert silent(1.1) == (one if kind == "nfs4" else None)
    assert silent(2.1) == one


def test_what_a_start_opens_is_opened_elsewhere_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS answers a look at a folder from its cache while its server is away, and asks the server to open it."""
    (tmp_path / "data").mkdir()
    answers, real = threading.Event(), os.open

    def play(path: Any, *more: Any, **options: Any) -> int:
        if str(path).endswith("data"):
            answers.wait()
        return real(path, *more, **options)

    monkeypatch.setattr(os, "open", play)
    monkeypatch.setattr(places, "AT_ONCE", A_SLOW_MACHINE)
    asked, data = places.Places(lambda: None), inquiry.Opened(str(tmp_path / "data"))
    assert asked.silent([str(tmp_path), data.path]) is None, "nothing is opened as another user"
    assert asked.silent([inquiry.Opened(str(tmp_path)), data]) == data.path
    answers.set()
    wait_for(lambda: asked.silent([inquiry.Opened(str(tmp_path)), data]) is None, "the drive answers again")


def test_the_interpreter_of_a_program_is_looked_at(
    tmp_path: Path, hung: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "AT_ONCE", A_SLOW_MACHINE)
    script = tmp_path / "script"
    script.write_text(f"#!{tmp_path}/hung/python -u\n")
    script.chmod(0o700)
    search = inquiry.Search(("/no/such", str(tmp_path), str(script), f"{tmp_path}/hung"))
    asked = places.Places(lambda: None)
    assert asked.silent([search]) == f"{tmp_path}/hung/python"
    assert asked.silent([search._replace(user="another one")]) is None, "a program of another user is not read"
    hung.set()
    wait_for(lambda: asked.silent([search]) is None, "the drive answers again")


def test_a_folder_that_never_answers_fails_the_start(
    served: Served, tmp_path: Path, hung: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "ANSWER", 0.5)
    served.define("stuck", directory=str(tmp_path / "hung"))
    with served.worker():
        run = served.start("stuck")
        wait_for(lambda: _state(served, run) == "start_failed", "the start has failed")
    reason = served.viewer.get(f"/v1/runs/{run}").json()["reason"]
    assert reason == f"'{tmp_path}/hung' has not answered for 0.5 s; check the file system and its server"


def test_others_run_while_the_file_of_a_silent_program_hangs(
    served: Served, tmp_path: Path, hung: threading.Event
) -> None:
    hung.set()
    output = {"stdout": {"append": f"{tmp_path}/hung/out.log"}, "stderr": "none"}
    served.define("stuck", command=["sleep", "600"], output=output, silent_timeout="500ms", grace="1s")
    served.define("other")
    with served.worker():
        stuck = served.start("stuck")
        wait_for(lambda: (tmp_path / "hung/out.log").exists(), "the program has started")
        hung.clear()
        other = served.start("other")
        wait_for(lambda: _state(served, other) == "succeeded", "the other job has run")
        wait_for(lambda: _state(served, stuck) == "timed_out", "the silence has ended the program")


def _state(served: Served, run: int) -> str:
    return str(served.viewer.get(f"/v1/runs/{run}").json()["state"])


def _below(folder: Path, more: object) -> dict[str, object]:
    """Return a part of a definition in which ``hung`` is below this folder."""
    if isinstance(more, dict):
        return {name: _below(folder, one) for name, one in more.items()}
    if isinstance(more, list):
        return [_below(folder, one) for one in more]  # type: ignore[return-value]
    return str(more).replace("hung", f"{folder}/hung")  # type: ignore[return-value]


def test_a_drive_that_was_mounted_anew_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that waits for its dead server may do so for ever."""
    never, is_dead, real = threading.Event(), True, os.stat

    def look(path: Any) -> object:
        if is_dead:
            never.wait(300)
        return real("/")

    monkeypatch.setattr(inquiry, "look", look)
    monkeypatch.setattr(places, "AGAIN", 0.1)
    asked = places.Places(lambda: None)
    assert asked.silent(["/drive/folder"]) == "/drive/folder"
    is_dead = False
    wait_for(lambda: asked.silent(["/drive/folder"]) is None, "the drive answers another thread")
    never.set()


def test_secrets_that_hang_are_on_no_drive(monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    monkeypatch.setattr(inquiry, "resolve", lambda reference: never.wait(300))
    asked = places.Places(lambda: None)
    secrets = [inquiry.Kept(f"keyring:jobfac/{number}") for number in range(8)]
    assert [asked.silent([secret]) for secret in secrets] == secrets
    wait_for(lambda: asked.silent(["/etc"]) is None, "the root answers")
    never.set()


class Drive:
    """A drive whose server is dead, and the time, both as ``Places`` sees them."""

    def __init__(self) -> None:
        self.is_dead = True
        self.now = 0.0
        self.begun: list[str] = []
        self.asked = places.Places(lambda: None)
        self._never, self._real = threading.Event(), os.stat

    def look(self, path: Any) -> object:
        self.begun.append(path)
        if self.is_dead:
            self._never.wait(300)
        return self._real("/")

    def wait_until_hung(self) -> None:
        """Wait until the threads have ended or hang, also on a slow machine."""
        inquiries = (*self.asked._open.values(), *self.asked._left)
        is_steady = lambda: len(self.begun) == sum(not one.over.is_set() for one in inquiries)  # noqa: E731
        wait_for(is_steady, "each thread hangs or has ended")

    def end(self) -> None:
        self._never.set()


@pytest.fixture
def drive(monkeypatch: pytest.MonkeyPatch) -> Iterator[Drive]:
    made = Drive()
    monkeypatch.setattr(inquiry, "look", made.look)
    monkeypatch.setattr(inquiry, "BEGINS", float("inf"))  # a slow thread is not one without memory
    for module in (inquiry, places):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: made.now))
    monkeypatch.setattr(mounts, "mounts", lambda: [mounts.Mount("/", "ext4"), mounts.Mount("/drive", "nfs4")])
    yield made
    made.end()


def test_a_drive_that_was_mounted_anew_is_asked_about_other_places(drive: Drive) -> None:
    """Those that hang are never asked about again: each has the number of a run."""
    numbers = iter(range(1000))

    def is_silent() -> bool:
        found = drive.asked.silent([f"/drive/{next(numbers)}.log"]) is not None
        if drive.is_dead:
            drive.wait_until_hung()
        return found

    for later, number in ((0.0, 8), (61.0, 9), (122.0, 9), (182.0, 10)):
        drive.now = later
        assert all(is_silent() for _ in range(12))
        assert len(drive.begun) == number, "one finds out that it is still dead, and the next one waits longer"
    drive.is_dead, drive.now = False, 600.0
    wait_for(lambda: not is_silent(), "the drive answers")


def test_eight_jobs_on_a_drive_that_was_dead_for_hours_begin_again(drive: Drive) -> None:
    """So many threads were left alone meanwhile that no other one might begin."""
    folders = [f"/drive/{number}" for number in range(8)]
    for _ in range(120):
        drive.now += 60.0
        for folder in folders:
            assert drive.asked.silent([folder]) == folder
            drive.wait_until_hung()
    assert len(drive.begun) == len(folders) + 6, "after 1, 3, 7, 15, 31 and 63 minutes"
    drive.is_dead, drive.now = False, drive.now + 3600.0
    for folder in folders:
        wait_for(lambda place=folder: drive.asked.silent([place]) is None, "the drive answers")  # type: ignore[misc]


def test_a_folder_whose_drive_was_mounted_anew_is_scanned_again(monkeypatch: pytest.MonkeyPatch) -> None:
    never, calls = threading.Event(), iter([True, False])

    def scan(pattern: str) -> Scan:
        if next(calls):
            never.wait(300)
        return Scan({}, frozenset(), [])

    monkeypatch.setattr(lanes, "scan", scan)
    monkeypatch.setattr(lanes, "AGAIN", 0.1)
    scanner = lanes.Lanes(NoEvents())
    scanner.begin(["/tmp/*"], time.monotonic())
    wait_for(lambda: scanner._scanned, "the first scan hangs")
    found: list[str] = []

    def is_found() -> bool:
        scanner.begin((), time.monotonic())
        found.extend(one.pattern for one in scanner.results())
        return bool(found)

    wait_for(is_found, "another thread scans it")
    assert (scanner.stuck(time.monotonic()), scanner.close()) == (set(), False)
    never.set()
    wait_for(scanner.close, "the thread that was left alone has ended")
    assert (found, scanner.results()) == (["/tmp/*"], [])


def test_a_drive_with_many_folders_that_was_dead_for_hours_is_scanned_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many threads were left alone meanwhile that no other one might begin."""
    never, is_dead, now, real = threading.Event(), True, 0.0, os.stat

    def look(path: Any) -> object:
        if is_dead:
            never.wait(300)
        return real("/")

    monkeypatch.setattr(inquiry, "look", look)
    monkeypatch.setattr(inquiry, "BEGINS", float("inf"))  # a slow thread is not one without memory
    for module in (inquiry, lanes):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    for module in (mounts, lanes):
        monkeypatch.setattr(module, "mounts", lambda: [mounts.Mount("/", "ext4"), mounts.Mount("/drive", "nfs4")])
    monkeypatch.setattr(lanes, "scan", lambda pattern: Scan({}, frozenset(), []))
    scanner, wanted, found = lanes.Lanes(NoEvents()), {f"/drive/{number}/*" for number in range(9)}, set[str]()

    def goes_on(seconds: float) -> bool:
        nonlocal now
        now += seconds
        scanner.begin(wanted - found, now)
        looks = list(scanner._looks.values())
        wait_for(lambda: all(one.over.is_set() or one.real > "/drive" for one in looks), "each has got to its folder")
        time.sleep(0.002)
        found.update(one.pattern for one in scanner.results())
        return found == wanted

    assert not any(goes_on(300.0) for _ in range(24))
    assert scanner._left == 4, "the pauses grow"
    is_dead = False
    wait_for(lambda: goes_on(600.0), "all folders are scanned")
    never.set()
