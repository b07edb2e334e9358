"""What a program takes of the spool's disk in ways that no size shows is found, and freed when it has ended."""

import os
import subprocess
import threading
from pathlib import Path

import pytest

from jobfac.programs import Spool
from jobfac.programs.files import room as file_room
from jobfac.worker.executions.report import Report
from jobfac.worker.executions.room import LOOKS, Room
from jobfac.worker.executions.silence import states_of

MIB = 1 << 20


class Files:
    """The files of one execution, and the looks at them."""

    def __init__(self, folder: Path) -> None:
        self.spool = Spool(folder / "1-1.stdout", 64 * 1024)
        self.report = Report(folder / "1-1.report", 64 * 1024)
        Path(self.report.path).touch()
        self.parameters = folder / "1-1.parameters"
        self.parameters.write_bytes(b"{}")
        self.lock = threading.Lock()
        self.now = 100.0
        given = {str(self.parameters): 2}
        self.room = Room(self.lock, {"stdout": self.spool}, self.report, given, lambda: self.now)

    def look(self) -> str | None:
        self.now += 1
        found = self.room.look()
        self.room.free()
        return self.room.excess if found else None

    def trim(self) -> None:
        self.room.program_ended(is_left=False)
        self.room.free()

    def taken(self) -> int:
        return sum(Path(path).stat().st_blocks * 512 for path in (self.spool.path, self.report.path, self.parameters))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    monkeypatch.setattr(file_room, "SLACK", MIB)
    monkeypatch.setattr(file_room, "REST", 16 * 1024)
    return Files(tmp_path)


def take(path: str | Path, *options: str) -> None:
    subprocess.run(["fallocate", "-o", "1M", "-l", "4M", *options, path], check=True)


@pytest.mark.parametrize("name", ["stdout", "report", "parameters"])
def test_blocks_that_no_size_shows_end_a_program_and_are_freed_then(files: Files, name: str) -> None:
    assert (files.look(), files.look()) == (None, None)
    path = Path({"stdout": files.spool.path, "report": files.report.path}.get(name, files.parameters))
    take(path, *([] if name == "parameters" else ["-n"]))
    *before, found = (files.look() for _ in range(LOOKS))
    assert (before, found is None) == ([None] * (LOOKS - 1), False)
    what = "parameters file" if name == "parameters" else name
    assert str(found).startswith(f"its {what} takes 4 MiB of the spool's disk, but ")
    assert files.taken() > 4 * MIB
    files.trim()
    assert files.taken() < MIB
    assert files.parameters.read_bytes() == b"{}"


@pytest.mark.parametrize("is_full", [True, False])
def test_a_length_without_content_explains_nothing_on_a_full_disk(
    files: Files, monkeypatch: pytest.MonkeyPatch, is_full: bool
) -> None:
    """XFS takes blocks in advance by the length of a file, which a program sets without writing anything."""
    monkeypatch.setattr(file_room, "_is_full", lambda folder: is_full)
    os.truncate(files.spool.path, 64 * MIB)
    take(files.spool.path, "-n", "-o", "64M")
    *_, found = (files.look() for _ in range(LOOKS + 2))
    assert (found is not None) == is_full


def test_a_program_that_gives_space_back_for_a_moment_takes_too_much(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_full = True
    monkeypatch.setattr(file_room, "_is_full", lambda folder: is_full)
    os.truncate(files.spool.path, 64 * MIB)
    take(files.spool.path, "-n", "-o", "64M")
    assert files.look() is None, "its cut is freed after the first look"
    for _ in range(LOOKS - 1):
        is_full = False
        assert [files.look() for _ in range(20)] == [None] * 20
        is_full = True
        assert files.look() is None
    assert files.look() is not None


def test_what_was_freed_is_freed_again_and_not_filled_again(files: Files) -> None:
    """A program may make its output long and take blocks in the part that no reader comes back to."""
    os.truncate(files.spool.path, 1 << 40)
    while files.spool.read():
        pass
    assert files.look() is None
    take(files.spool.path)
    assert files.taken() > 4 * MIB
    assert files.look() is None
    assert files.taken() < MIB
    take(files.spool.path)
    assert files.look() is None
    assert str(files.look()).startswith("its stdout takes 4 MiB of the spool's disk, but ")


def test_a_look_is_nothing_that_the_program_wrote(files: Files) -> None:
    """Otherwise a program that hangs would never be silent."""
    os.write(files.spool.fd, b"x" * (5 * MIB))
    assert files.look() is None
    before = states_of([files.spool.fd])
    assert files.look() is None
    assert states_of([files.spool.fd]) == before
    assert files.taken() < MIB


def test_what_frees_a_file_holds_no_lock_while_it_waits(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program may be in one write of its output for minutes, and the kernel lets nobody else change the file."""
    looks, done = threading.Event(), threading.Event()

    def waits(fd: int, start: int, length: int) -> bool:
        looks.set()
        return done.wait(60)

    monkeypatch.setattr(file_room, "punch_hole", waits)
    os.write(files.spool.fd, b"x" * (5 * MIB))
    frees = threading.Thread(target=files.room.free)
    frees.start()
    assert looks.wait(60)
    assert files.lock.acquire(timeout=60)
    files.lock.release()
    assert files.look() is None, "another thread does not wait"
    take(files.report.path, "-n")
    assert "its report takes" in str([files.look() for _ in range(LOOKS)])
    done.set()
    frees.join()


@pytest.mark.parametrize("is_left", [True, False])
def test_what_a_program_has_left_is_freed_again_and_again(files: Files, is_left: bool) -> None:
    """It may write for as long as the outcome cannot be stored."""
    files.room.program_ended(is_left)
    taken = []
    for _ in range(3):
        os.write(files.spool.fd, b"x" * (5 * MIB))
        files.room.free()
        taken.append(files.taken())
    assert (max(taken) < 2 * MIB) == is_left
    assert taken[0] < 2 * MIB


def test_a_long_report_is_cut_while_its_reader_waits(files: Files) -> None:
    for _ in range(3):
        Path(files.report.path).write_bytes(bytes(4 * MIB))
        assert (files.look(), Path(files.report.path).stat().st_size) == (None, 64 * 1024 + 1)
        assert files.look() is None


def test_much_output_and_an_emptied_one_take_what_they_need(files: Files) -> None:
    writer = files.spool.open_for_program()
    for _ in range(3):
        os.write(writer, b"x" * (5 * MIB))
        assert files.look() is None
        assert os.pread(files.spool.fd, 1, 2 * MIB) == b"\0", "what nobody reads is freed, although nothing is stored"
        os.truncate(files.spool.path, 0)
    os.write(writer, b"end\n")
    files.trim()
    chunks = [chunk.data for _ in range(9) for chunk in files.spool.read(final=True)]
    assert b"".join(chunks).endswith(b"end\n")
    os.close(writer)
