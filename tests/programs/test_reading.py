"""A process that is stuck in the kernel stops neither the search for others nor their end."""

import _thread
import sys
import threading
from collections.abc import Iterator

import pytest

from jobfac.programs import procfs, reading
from jobfac.programs.reading import read_each
from tests.support.process_stage import Stage, until, written


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


def test_what_is_stuck_is_read_again_when_it_answers(released: threading.Event) -> None:
    reads: list[int] = []

    def read(pid: int) -> int:
        reads.append(pid)
        if pid % 10 == 0:
            released.wait()
        return -pid

    pids = range(1, 41)
    well = {pid: -pid for pid in pids if pid % 10}
    assert read_each(read, pids) == well
    assert read_each(read, pids) == well
    assert reads.count(10) == 1, "nothing waits twice for a stuck process"
    released.set()
    until(lambda: len(read_each(read, pids)) == 40)


def test_an_error_of_a_read_reaches_the_caller() -> None:
    def read(pid: int) -> int:
        raise OSError(pid)

    with pytest.raises(OSError, match="7"):
        read_each(read, [7])


def test_a_read_without_memory_does_not_count_as_done() -> None:
    def read(pid: int) -> int:
        if pid == 7:
            raise MemoryError
        return pid

    with pytest.raises(OSError, match="out of memory"):
        read_each(read, [6, 7, 8])


def test_a_thread_that_never_begins_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PATIENCE", 0.02)
    monkeypatch.setattr(reading, "BEGINS", 0.05)
    monkeypatch.setattr(_thread, "start_new_thread", lambda run, arguments: None)
    assert read_each(lambda pid: -pid, [1, 2, 3]) == {1: -1, 2: -2, 3: -3}


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
