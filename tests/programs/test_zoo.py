"""Badly behaved programs: their ends and their output are recorded exactly, and they keep no others waiting."""

import os
import signal
import sys
from pathlib import Path

import pytest

from jobfac.programs import Exit, ExitWatcher, Process, Signals, posix
from jobfac.programs.tree import Looks, Table, entry
from tests.support.process_stage import Stage, finish, free, lives, text, until


def ending(process: Process) -> Exit:
    finish(process)
    assert process.exit is not None
    assert process.leftovers() == []
    return process.exit


def test_every_exit_code_is_recorded(stage: Stage) -> None:
    for code in range(256):
        process, out, err = stage.start("sh", "-c", f"exit {code}")
        end = ending(process)
        assert (end.code, end.signal) == (code, None)
        assert process.started <= end.at
        out.close(delete=True)
        err.close(delete=True)


def test_the_signal_that_ended_a_program_is_recorded(stage: Stage) -> None:
    end = ending(stage.start("sh", "-c", "kill -SEGV $$")[0])
    assert (end.code, end.signal) == (None, signal.SIGSEGV)


@pytest.mark.parametrize(
    ("script", "printed"),
    [
        ("true", b""),
        (r"printf 'a\000b\377\376c'", b"a\0b\xff\xfec"),
        ("cat; echo end of input", b"end of input\n"),
        ("trap '' TERM; echo line; printf 'no newline'", b"line\nno newline"),
    ],
    ids=["silent", "binary", "needs input", "no final newline"],
)
def test_output_is_recorded_exactly(stage: Stage, script: str, printed: bytes) -> None:
    process, out, err = stage.start("sh", "-c", script)
    assert ending(process).code == 0
    assert text(out) == printed
    assert text(err) == b""


def test_closing_the_output_is_allowed(stage: Stage) -> None:
    process, out, err = stage.zoo("closes_stdout.py")
    assert ending(process).code == 0
    assert (text(out), text(err)) == (b"before", b"after")


def test_a_path_may_contain_spaces_and_any_letters(stage: Stage) -> None:
    folder = stage.folder / "Übungs Ordner ñ 雪"
    folder.mkdir()
    program = folder / "mon programme é"
    program.write_text('#!/bin/sh\nprintf "%s|" "$0" "$@"; pwd\n', encoding="utf-8")
    program.chmod(0o755)
    process, out, _ = stage.start(f"./{program.name}", "a b", "", "ß", directory=str(folder))
    assert ending(process).code == 0
    assert os.fsdecode(text(out)) == f"./{program.name}|a b||ß|{folder}\n"


def test_the_environment_is_that_of_the_program_and_the_marker(stage: Stage) -> None:
    process, out, _ = stage.start("env")
    ending(process)
    expected = {f"PATH={os.environ['PATH']}", f"JOBFAC_MARKER={process.marker}"}
    assert set(os.fsdecode(text(out)).splitlines()) == expected


def test_a_program_leads_a_session_and_inherits_no_descriptors(stage: Stage) -> None:
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)
    program = (
        "import os; print(os.getpid() == os.getsid(0) == os.getpgid(0), sorted(map(int, os.listdir('/proc/self/fd'))))"
    )
    process, out, _ = stage.start(sys.executable, "-S", "-c", program)
    ending(process)
    os.close(read_end)
    os.close(write_end)
    assert text(out) == b"True [0, 1, 2, 3]\n"  # descriptor 3 is that of the listing


def test_a_flood_uses_little_disk_space(stage: Stage) -> None:
    process, out, _ = stage.zoo("floods.py", "256")
    flooded = False
    end = b""
    watcher = ExitWatcher()
    watcher.add(process)
    while True:
        watcher.wait(0.02)
        over = process.poll() is not None
        stored = out.read(final=over)
        flooded |= out.flooding
        free(out)
        found = os.fstat(out.fd)
        assert found.st_blocks * 512 < 3 * (1 << 20) + (found.st_size - out.size)
        assert sum(len(chunk.data) for chunk in stored) <= 1 << 20
        if over and not stored:
            break
        end = b"".join(chunk.data for chunk in stored) or end
    watcher.close()
    assert flooded
    assert out.size == 1 << 28
    assert end.endswith(b"x\n")
    assert out.keep_from == (1 << 28) - (1 << 19)


def test_a_spool_file_is_private(stage: Stage) -> None:
    _, out, _ = stage.start("true")
    assert Path(out.path).stat().st_mode & 0o777 == 0o600


class Slow:
    """A clock of a machine on which a look takes a second."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.looks: list[float] = []
        self._read = Table.read
        monkeypatch.setattr(Table, "read", self.read)
        monkeypatch.setattr(posix, "looks", Looks(lambda: self.now))

    def read(self) -> Table:
        self.looks.append(self.now)
        self.now += 1.0
        return self._read()


def test_the_signals_of_a_turn_take_as_many_looks_for_many_programs_as_for_one(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 900 processes, KILL for 20 programs that it did not end took 8 seconds, again and again."""
    programs = [stage.start("sh", "-c", "trap '' TERM; echo; sleep 600 & wait; wait") for _ in range(3)]
    for _, out, _ in programs:
        stage.numbers(out)
    slow, signals = Slow(monkeypatch), Signals()
    for process, _, _ in programs:
        signals.add(process, kill=False)
    assert slow.looks == []
    signals.send()
    assert len(slow.looks) == 1
    for process, _, _ in programs:
        signals.add(process, kill=True)
    signals.send()
    signals.send()
    assert len(slow.looks) <= 5
    for process, _, _ in programs:
        finish(process)
        assert process.exit is not None
        assert (process.exit.signal, process.leftovers()) == (signal.SIGKILL, [])


def test_looks_at_what_programs_have_left_take_a_small_part_of_the_time(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three such runs and 4,500 processes each took all of the loop's time, and the lease of the worker with it."""
    slow = Slow(monkeypatch)
    left = []
    programs = []
    for _ in range(3):
        process, out, _ = stage.start("sh", "-c", "trap '' TERM; sleep 600 & echo $!")
        left += stage.numbers(out)
        finish(process)
        programs.append(process)
    slow.looks.clear()
    longest = slow.now = 0.0
    while slow.now < 300.0:
        began = slow.now
        assert [process.leftovers() for process in programs] == [[pid] for pid in left]
        longest = max(longest, slow.now - began)
        slow.now += 0.05
    assert longest <= 1.0, "one look is for all"
    assert 300 / Looks.LONGEST <= len(slow.looks) <= 300 / Looks.PART
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not any(lives(pid) for pid in left))
    slow.now += 100.0
    while any(process.leftovers() for process in programs):
        slow.now += 1.0
    assert slow.now < 500.0
    assert [entry(pid) for pid in left] == [None] * 3
