"""A look at all processes costs little for each of them. One that is stuck in the kernel stops neither the search for
others nor their end, and what a look that failed could not do is done later."""

import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobfac.programs import ExitWatcher, Signals, kill_all, procfs, reading
from jobfac.programs.children import SWEEPS, children, is_dead
from jobfac.programs.procfs import mark_of, markers
from jobfac.programs.tree import Table
from jobfac.store.workers import Fenced
from jobfac.worker.spool_folder import SpoolFolder
from tests.support.process_stage import Stage, finish, lives, until, written


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Until it is set, the stuck processes of a test are stuck."""
    monkeypatch.setattr(reading, "PATIENCE", 0.02)
    event = threading.Event()
    yield event
    event.set()
    until(lambda: all(reader.is_over for reader in reading._stuck.values()))


def test_other_programs_are_killed_while_one_is_stuck(
    stage: Stage, released: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, _, _ = stage.start("sleep", "600")
    process, _, _ = stage.zoo("ignores_term.py")
    read = procfs._marker

    def marker(pid: int) -> str | None:
        if pid == stuck.pid:
            released.wait()
        return read(pid)

    monkeypatch.setattr(procfs, "_marker", marker)
    ends = threading.Thread(target=process.kill, daemon=True)
    ends.start()
    ends.join(10)
    assert not ends.is_alive()
    until(lambda: not process.alive())


def test_what_is_not_read_in_time_has_its_mark(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    process, _, _ = stage.start("sleep", "600")
    monkeypatch.setattr(reading.budget, "left", lambda: 0.0)
    assert markers([process.pid]) == {process.pid: mark_of(process.marker)}
    process.kill()
    until(lambda: not process.alive())


def test_a_process_with_a_known_mark_is_not_read_further(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    process, _, _ = stage.start("sleep", "600")
    other, _, _ = stage.start("sleep", "600")
    reads: list[int] = []
    monkeypatch.setattr(procfs, "_marker", reads.append)
    mark = mark_of(process.marker)
    assert markers([process.pid, other.pid], known={mark}) == {process.pid: mark}
    assert reads == [other.pid]
    kill_all([process, other])
    until(lambda: not process.alive() and not other.alive())


def test_no_environment_of_others_is_read_to_find_what_descends_from_this_process(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, out, _ = stage.start("sh", "-c", "setsid sleep 600 & echo $!; wait")
    (escaped,) = stage.numbers(out)
    monkeypatch.setattr(Table, "pids_by_marker", None)
    process.kill()
    until(lambda: not process.alive())
    assert not lives(escaped)


ENDLESS = """
import ctypes, mmap, time
SIZE, SET_MM, SET_MM_MAP, NORESERVE = 1 << 28, 35, 14, 0x4000
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
start = libc.mmap(None, ctypes.c_size_t(SIZE), mmap.PROT_READ, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE, -1, 0)
fields = [0, 0, *open("/proc/self/stat").read().rpartition(")")[2].split()]
code, stack, data, arguments = (list(map(int, fields[at : at + 2])) for at in (25, 27, 44, 47))
libc.sbrk.restype = ctypes.c_void_p
places = [*code, *data, int(fields[46]), libc.sbrk(0), stack[0], *arguments, start, start + SIZE, 0]
moved = (ctypes.c_uint64 * 12)(*places)
end = (ctypes.c_uint32 * 2)(0, 0xFFFFFFFF)
text = bytes(moved) + bytes(end)
print(libc.prctl(SET_MM, SET_MM_MAP, text, ctypes.c_ulong(len(text)), 0), flush=True)
time.sleep(600)
"""


def test_an_endless_environment_is_not_read_to_its_end(stage: Stage) -> None:
    """A process may say that its environment is any part of its memory."""
    process, out, err = stage.start(sys.executable, "-S", "-c", ENDLESS)
    until(lambda: written(out) or process.poll())
    if written(out) != b"0\n":
        pytest.skip(f"this kernel does not let it: {written(out)!r} {written(err)!r}")
    assert len(procfs._content(f"/proc/{process.pid}/environ")) <= procfs.MOST
    process.kill()
    until(lambda: not process.alive())


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Inside the block this process cannot open a file. Those that are open stay open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("is_first", [True, False])
def test_little_is_read_of_a_large_environment(stage: Stage, is_first: bool) -> None:
    """Half a million variables cost 0.2 s: 120 idle processes of one user ended the worker's lease."""
    variables = "dict(os.environ) | large" if is_first else "large | dict(os.environ)"
    program = f"import os; large = {{'V': 'x' * 100_000}}; os.execve('/bin/sleep', ['sleep', '600'], {variables})"
    process, _, _ = stage.start(sys.executable, "-S", "-c", program)
    place = Path(f"/proc/{process.pid}/environ")
    until(lambda: len(place.read_bytes()) > 100_000)
    assert len(procfs._content(str(place))) == procfs.MOST < 100_000
    assert markers([process.pid]) == {process.pid: process.marker if is_first else mark_of(process.marker)}
    process.kill()
    until(lambda: not process.alive())


def test_a_process_that_becomes_another_program_is_not_lost(stage: Stage, tmp_path: Path) -> None:
    """Its environment is empty for a moment, in which a program that ended left nothing and was over."""
    script = tmp_path / "again.sh"
    script.write_text('export V="${V:-$(printf %0100000d 0)}"; exec /bin/sh "$0"')
    process, _, _ = stage.start("/bin/sh", str(script))
    found = {markers([process.pid]).get(process.pid) for _ in range(3000)}
    process.kill()
    finish(process)
    assert found <= {process.marker, mark_of(process.marker)}


FORKS_LATE = """
import os, signal
def fork(*_):
    if os.fork():
        os._exit(0)
    os.setsid()
    os.execv("/bin/sleep", ["sleep", "600"])
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGUSR1, fork)
    print(os.getpid(), flush=True)
    os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
    while True:
        signal.pause()
"""


@pytest.mark.parametrize("is_first", [True, False], ids=["at the end", "afterwards"])
def test_a_daemon_that_forks_while_somebody_looks_is_not_lost(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, is_first: bool
) -> None:
    """The parent ends after the look that does not show its child yet."""
    process, out, _ = stage.start(sys.executable, "-S", "-c", FORKS_LATE)
    (parent,) = stage.numbers(out)
    until(lambda: is_dead(process.pid))
    listed, read = children._listed, procfs.entry

    def fork() -> None:
        os.kill(parent, signal.SIGUSR1)
        until(lambda: is_dead(parent))

    def listed_before() -> set[int]:
        found = listed()
        if parent in found and not is_dead(parent):
            fork()
        return found

    def read_after(pid: int) -> procfs.Entry | None:
        if pid == parent and not is_dead(parent):
            fork()
        return read(pid)

    if is_first:
        monkeypatch.setattr(children, "_listed", listed_before)
    else:
        until(process.poll)
        monkeypatch.setattr(procfs, "entry", read_after)
    until(process.poll)
    (daemon,) = process.leftovers()
    assert daemon != parent
    process.kill()
    until(lambda: not process.alive())
    assert not lives(daemon)


def test_a_title_over_an_environment_is_recognised_by_its_beginning() -> None:
    titles = (b"a title", b"a=title\0\0\0\0A=1\0", b"\0\0\0", b"le\0H=/\0", b"a=title\0OME/x\0A=1\0")
    assert [one for one in titles if not procfs._is_overwritten(one)] == []
    none = (b"", b"A=1\0B=\0", b"=\0" * 9, b"A=1\0" * 99 + b"b\0", b"A=1\0B")
    assert [one for one in none if procfs._is_overwritten(one)] == []


@pytest.mark.usefixtures("either_way")
def test_signals_that_could_not_be_sent_to_the_whole_tree_are_sent_later(stage: Stage) -> None:
    """A worker without descriptors ended itself, and a guardian killed the programs of all its runs."""
    children.take_fault()
    program, out, _ = stage.start("sh", "-c", "trap 'echo 9' TERM; setsid sleep 600 & echo $!; while :; do wait; done")
    (escaped,) = stage.numbers(out)
    until(lambda: os.getsid(escaped) == escaped)
    signals = Signals()
    signals.add(program, kill=False)
    with no_descriptors():
        signals.send()
    assert signals.is_incomplete
    assert isinstance(children.take_fault(), OSError)
    assert stage.numbers(out, 2) == [escaped, 9]
    assert lives(escaped)
    signals.send()
    until(lambda: not lives(escaped))
    assert not signals.is_incomplete
    assert stage.numbers(out) == [escaped, 9]
    signals.add(program, kill=True)
    with no_descriptors():
        signals.send()
    assert signals.is_incomplete
    signals.send()
    finish(program)
    assert (program.leftovers(), signals.is_incomplete) == ([], False)


def test_programs_of_a_lost_execution_are_ended_when_they_can_be_seen(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / stage.token).mkdir()
    spool = SpoolFolder(tmp_path, "own", "w1")
    process, _, _ = stage.start("sleep", "600")
    with no_descriptors(), pytest.raises(OSError, match="open files"):
        spool.end_fenced([Fenced(stage.token, 1, 1)])
    assert lives(process.pid)
    spool.end_fenced()
    finish(process)


@pytest.mark.usefixtures("either_way")
def test_an_end_is_noticed_when_what_the_program_left_can_be_seen(stage: Stage) -> None:
    watcher = ExitWatcher()
    process, out, _ = stage.start("sh", "-c", "setsid sleep 600 & echo $!; exit 3")
    watcher.add(process)
    (left,) = stage.numbers(out)
    until(lambda: is_dead(process.pid) and os.getsid(left) == left)
    with no_descriptors():
        assert watcher.wait(0.1) == set()
        process.terminate()
        assert (process.poll(), process.leftovers()) == (None, [])
    assert isinstance(children.take_fault(), OSError)
    assert not process.was_signalled
    until(lambda: watcher.wait(0.1))
    assert process.exit is not None
    assert process.exit.code == 3
    assert process.leftovers() == [left]
    with no_descriptors():
        process.kill()
        assert process.leftovers() == [left]
    os.kill(left, signal.SIGKILL)
    until(lambda: not process.alive())
    watcher.close()


@pytest.mark.parametrize(("whose", "sweeps"), [("of others", 1), (None, SWEEPS)])
def test_a_sweep_is_repeated_for_what_may_be_left_of_its_programs_alone(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, whose: str | None, sweeps: int
) -> None:
    """Processes of one program that fork and end all the time kept the worker sweeping for longer than its lease."""
    process, _, _ = stage.start("sleep", "600")
    done: list[int] = []

    def reap() -> list[str | None]:
        done.append(1)
        return [whose]

    with monkeypatch.context() as patch:
        patch.setattr(children, "_reap", reap)
        children.sweep_for([process])
    assert len(done) == sweeps
    process.kill()
    until(lambda: not process.alive())
