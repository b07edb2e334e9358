"""Output files are opened as the run's user, and links, pipes and devices of other users are not opened."""

import fcntl
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jobfac.definitions import Job
from jobfac.machine import trusted
from jobfac.programs import (
    OutputFile,
    Program,
    Series,
    StartError,
    destination_path,
    remove_timestamped,
)
from jobfac.programs.files.destinations import Kind, open_path
from jobfac.programs.files.inquiry import Inquiry, Opened
from jobfac.states import RunState
from jobfac.store.runs import Outcome
from jobfac.telemetry.logs import SILENCE
from jobfac.worker.executions.execution import Execution
from jobfac.worker.spool_folder import SpoolFolder
from tests.hostile.others import NOBODY, as_nobody, needs_root, run
from tests.support.process_stage import finish
from tests.unit.worker.test_launch import claimed

NOW = datetime(2027, 3, 4, 5, 6, 7, tzinfo=UTC)
KINDS: list[Kind] = ["overwrite", "append", "timestamped"]


@pytest.fixture
def place(crossroads: Path) -> Path:
    """A folder of the user nobody, beside a secret of root."""
    (crossroads / "secret").write_text("root's own")
    (crossroads / "secret").chmod(0o600)
    theirs = crossroads / "theirs"
    theirs.mkdir()
    os.chown(theirs, NOBODY.pw_uid, NOBODY.pw_gid)
    return theirs


def write(kind: Kind, pattern: str, place: Path, user: str | None, rotate_at: int = 1 << 20) -> Path:
    path = destination_path(kind, pattern, str(place), 7, NOW)
    file = OutputFile(kind, str(path), rotate_at, 5, "")
    run(Program(("printf", "written"), "m/1/1", {}, user=user, files=(file, None)))
    return path


@needs_root
@pytest.mark.parametrize("user", ["nobody", None])
@pytest.mark.parametrize("kind", KINDS)
def test_a_link_to_the_file_of_another_user_is_not_followed(place: Path, kind: Kind, user: str | None) -> None:
    name = "out-20270304T050607Z-7.log" if kind == "timestamped" else "out.log"
    as_nobody(lambda: (place / name).symlink_to("../secret"))
    with pytest.raises(StartError, match="symbolic link"):
        write(kind, "out-*.log" if kind == "timestamped" else name, place, user)
    assert (place.parent / "secret").read_text() == "root's own"


@needs_root
@pytest.mark.parametrize("user", ["nobody", None])
def test_a_link_of_another_user_to_a_folder_is_not_followed(place: Path, user: str | None) -> None:
    (place.parent / "mine").mkdir(mode=0o700)
    as_nobody(lambda: (place / "logs").symlink_to("../mine"))
    with pytest.raises(StartError, match=r"another user's symbolic link|no right to"):
        write("overwrite", "logs/out.log", place, user)
    assert not list((place.parent / "mine").iterdir())


@needs_root
def test_a_link_that_a_third_user_placed_is_not_followed_by_the_runs_user(place: Path) -> None:
    place.chmod(0o1777)
    (place.parent / "home").mkdir()
    os.chown(place.parent / "home", 1, 1)
    (place / "logs").symlink_to("../home")
    os.chown(place / "logs", 12345, 12345, follow_symlinks=False)
    with pytest.raises(StartError, match="another user's symbolic link"):
        write("overwrite", "logs/out.log", place, "daemon")


@needs_root
def test_a_hard_link_in_a_folder_of_another_user_is_not_written(place: Path) -> None:
    os.link(place.parent / "secret", place / "out.log")  # as nobody could do if the kernel did not protect links
    with pytest.raises(StartError, match="second name"):
        write("overwrite", "out.log", place, None)
    assert (place.parent / "secret").read_text() == "root's own"


@needs_root
def test_an_output_file_belongs_to_the_runs_user_and_so_do_the_folders_made_for_it(place: Path) -> None:
    path = write("append", "new/logs/out.log", place, "nobody")
    assert path.read_text() == "written"
    assert {one.stat().st_uid for one in (path, path.parent, path.parent.parent)} == {NOBODY.pw_uid}


@needs_root
@pytest.mark.parametrize("user", ["nobody", None])
def test_an_old_file_with_another_value_in_its_name_is_known_again(place: Path, user: str | None) -> None:
    folder = SpoolFolder(place.parent / "spool", "token", "w1")
    folder.ensure()
    output = {"stdout": {"timestamped": "out-${parameters.day}-*.log"}}
    given = {"command": ["true"], "directory": str(place), "output": output, "user": user}
    job = Job.model_validate({**given, "parameters": {"day": {"type": "text"}}})
    for number, day in enumerate(("[!a]", "7"), 1):
        one = Execution(claimed(number, parameters=json.dumps({"day": day})), job, "token", folder.path, SILENCE)
        assert one.begin() is None
        assert one.process is not None
        finish(one.process)
        assert one.outcome(0.5).state == RunState.SUCCEEDED
        one.close()
        (series,) = one.series()
        assert series.pattern == f"out-{day}-*.log"
        for path in place.iterdir():
            os.utime(path, (number, number))
        assert len(list(place.iterdir())) == number
    assert remove_timestamped(series, NOW.timestamp(), None, 1) == 1
    folder.close()


@needs_root
def test_a_file_that_the_runs_user_may_not_write_is_refused_in_a_sentence(place: Path) -> None:
    with pytest.raises(StartError, match="user 'nobody' has no right to"):
        write("append", "../secret", place, "nobody")


@needs_root
@pytest.mark.parametrize("user", ["nobody", None])
def test_a_rotated_file_stays_private(place: Path, user: str | None) -> None:
    path = place / "out.log"
    path.write_text("salaries")
    path.chmod(0o640)
    os.chown(path, *((0, 12345) if user is None else NOBODY[2:4]))
    write("append", "out.log", place, user, rotate_at=1)
    assert sorted(one.name for one in place.iterdir()) == ["out.log", "out.log.1"]
    found = path.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o640, 12345 if user is None else NOBODY.pw_gid)


@needs_root
def test_a_file_that_another_user_placed_opens_no_output_to_others(place: Path) -> None:
    place.chmod(0o1777)
    as_nobody(lambda: (place / "out.log.1").touch())
    (place / "out.log.1").chmod(0o666)
    assert stat.S_IMODE(write("append", "out.log", place, None).stat().st_mode) == 0o644


@needs_root
def test_a_file_that_may_not_be_renamed_grows_and_no_older_one_is_lost(place: Path) -> None:
    os.chown(place, 0, 0)
    place.chmod(0o1777)  # nobody may rename its own files, and not this one
    (place / "out.log").touch()
    (place / "out.log").chmod(0o666)
    as_nobody(lambda: [(place / f"out.log.{number}").write_text(f"old {number}") for number in (1, 2)])
    for _ in range(5):
        write("append", "out.log", place, "nobody", rotate_at=1)
    assert (place / "out.log").read_text() == "written" * 5
    assert [(place / f"out.log.{number}").read_text() for number in (2, 3)] == ["old 1", "old 2"]


@needs_root
def test_rotation_follows_no_link(place: Path) -> None:
    (place.parent / "secret").write_text("long" * 100)
    as_nobody(lambda: (place / "out.log").symlink_to("../secret"))
    with pytest.raises(StartError):
        write("append", "out.log", place, "nobody", rotate_at=20)
    assert sorted(one.name for one in place.iterdir()) == ["out.log"]


@needs_root
def test_old_files_behind_another_users_link_are_kept(place: Path) -> None:
    (place.parent / "mine").mkdir()
    old = place.parent / "mine/out-20200101T000000Z-5.log"
    old.touch()
    os.utime(old, (0, 0))
    as_nobody(lambda: (place / "logs").symlink_to("../mine"))
    series = Series("logs/out-*.log", str(place), "logs/out-*.log", "job")
    assert remove_timestamped(series, NOW.timestamp(), 1.0, None) == 0
    assert old.exists()


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _device(path: Path) -> None:
    os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))


@pytest.mark.parametrize("make", [_fifo, pytest.param(_device, marks=needs_root)])
def test_only_regular_files_are_opened(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "out.log")
    with pytest.raises(StartError, match="not a regular file"):
        write("append", "out.log", tmp_path, None)


@pytest.mark.parametrize("kind", ["link", "second name"])
def test_what_takes_the_place_of_the_file_after_the_first_look_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Another user may change the folder between any two steps."""
    (tmp_path / "secret").write_text("root's own")
    (place := tmp_path / "theirs").mkdir()
    place.chmod(0o777)

    def swapped(name: str, *more: int) -> int:
        (os.symlink if kind == "link" else os.link)(tmp_path / "secret", place / name)
        return really_open(name, *more)

    really_open = trusted._open
    monkeypatch.setattr(trusted, "_open", swapped)
    with pytest.raises(StartError, match="symbolic link" if kind == "link" else "second name"):
        open_path("overwrite", place / "out.log", 0, 0)
    assert (tmp_path / "secret").read_text() == "root's own"


@needs_root
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_the_worker_lets_the_runs_user_open_the_file_of_its_job(place: Path, stream: str) -> None:
    folder = SpoolFolder(place.parent / "spool", "token", "w1")
    folder.ensure()
    job = Job.model_validate({"command": ["true"], "user": "nobody", "output": {stream: {"append": "../secret"}}})
    job = job.model_copy(update={"directory": str(place)})
    one = Execution(claimed(), job, "token", folder.path, SILENCE)
    assert one.begin() is None
    assert one.process is not None
    finish(one.process)
    assert "user 'nobody' has no right to" in str(one.outcome(0.5).reason)
    one.close()
    folder.close()


def test_the_users_own_links_to_folders_are_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "logs").symlink_to("disk/../disk")
    assert write("append", "logs/out.log", tmp_path, None).resolve() == tmp_path / "disk/out.log"


def test_a_loop_of_links_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    with pytest.raises(StartError, match="cannot be opened"):
        write("append", "one/out.log", tmp_path, None)


@needs_root
def test_opening_as_another_user_does_not_change_the_workers_threads(place: Path) -> None:
    seen: set[int] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.add(os.geteuid())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        write("overwrite", "out.log", place, "nobody")
    finally:
        done.set()
        watcher.join()
    assert seen == {0}


@needs_root
@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_a_link_in_the_place_of_an_output_file_costs_no_lock(place: Path, kind: str) -> None:
    """A file that is closed loses all locks of the process. So a link to its SQLite database made it lose that."""
    database, link = place.parent / "secret", place / "x.log"
    (link.symlink_to if kind == "symbolic" else link.hardlink_to)(database)
    with database.open("r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        assert start_with_output(place, "append", "x.log").state == RunState.START_FAILED
        program = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        done = subprocess.run([sys.executable, "-c", program, str(database)], capture_output=True, check=False)
        assert b"BlockingIOError" in done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_no_thread_of_the_worker_opens_or_empties_an_output_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    """A file of very many pieces is emptied for as long as its owner likes."""
    (logs := tmp_path / "logs").mkdir()
    (logs / "x.log").write_text("before")
    touched, real = [], os.open

    def note(path: Any, *more: Any, **options: Any) -> int:
        handle = real(path, *more, **options)
        where = str(Path(f"/proc/self/fd/{handle}").readlink())
        touched.append(where) if where.startswith(f"{logs}/") else None
        return handle

    monkeypatch.setattr(os, "open", note)
    assert start_with_output(logs, kind, "x*.log" if kind == "timestamped" else "x.log").state == RunState.SUCCEEDED
    assert not touched
    assert any("written" in path.read_text() for path in logs.iterdir())


def start_with_output(place: Path, kind: Kind, name: str) -> Outcome:
    """Do all that a worker does to start a program whose output goes to a file of its own user."""
    output = {"stdout": {kind: str(place / name)}}
    job = Job.model_validate({"command": ["echo", "written"], "directory": "/", "output": output})
    one = Execution(claimed(), job, "token", place.parent, SILENCE)
    (inquiry := Inquiry(one.places(), lambda _: False, lambda: None)).run()
    assert inquiry.is_answered
    assert one.begin() is None
    assert one.process is not None
    finish(one.process)
    outcome = one.outcome(0.5)
    one.close()
    return outcome


def test_the_folder_of_a_start_is_really_opened_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only then an NFS client asks its server."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("folder")
    opened: list[Path] = []
    real = os.open

    def note(path: str, flags: int, *more: int) -> int:
        handle = real(path, flags, *more)
        opened.append(Path(f"/proc/self/fd/{handle}").readlink())
        return handle

    monkeypatch.setattr(os, "open", note)
    for name in ("folder", "link", "file"):
        Inquiry([Opened(str(tmp_path / name))], lambda _: False, lambda: None).run()
    assert opened == [tmp_path / "folder"] * 2
