"""Reads about many processes end in time, even if some processes do not answer."""

import _thread
import threading

import pytest

from jobfac.programs import reading
from jobfac.programs.reading import read_each
from tests.programs import test_reading
from tests.support.process_stage import until

released = test_reading.released


def one_user(pid: int) -> int:
    return 0


def test_what_is_stuck_is_read_again_when_it_answers(released: threading.Event) -> None:
    reads: list[int] = []

    def read(pid: int) -> int:
        reads.append(pid)
        if pid % 10 == 0:
            released.wait()
        return -pid

    pids = range(1, 41)
    well = {pid: -pid for pid in pids if pid % 10}
    assert read_each(read, one_user, pids) == well
    assert read_each(read, one_user, pids) == well
    assert reads.count(10) == 1, "nothing waits twice for a stuck process"
    released.set()
    until(lambda: len(read_each(read, one_user, pids)) == 40)


def test_a_user_whose_processes_answer_slowly_delays_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may hold the locks on their memory for as long as it likes. Its programs are found by their marks."""
    monkeypatch.setattr(reading, "LIMIT", 0.2)
    monkeypatch.setattr(reading, "_resting", {})
    reads: list[int] = []

    def read(pid: int) -> int:
        reads.append(pid)
        if pid < 1000:
            threading.Event().wait(0.02)
        return -pid

    def user(pid: int) -> int:
        return 5 if pid < 1000 else pid % 3

    slow, others = range(500), range(1000, 1100)
    found = read_each(read, user, [*slow, *others])
    assert found.keys() >= set(others)
    assert 0 < len(found.keys() & set(slow)) < 500
    reads.clear()
    assert read_each(read, user, [*slow, *others]).keys() == set(others) == set(reads)


def test_only_so_many_users_have_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    """One user may own thousands of user IDs. They are the highest ones."""
    monkeypatch.setattr(reading, "MOST_USERS", 3)
    pids = range(1, 40)
    assert read_each(lambda pid: pid, lambda pid: pid % 10, pids).keys() == {pid for pid in pids if pid % 10 < 3}


def test_an_error_of_a_read_reaches_the_caller() -> None:
    def read(pid: int) -> int:
        raise OSError(pid)

    with pytest.raises(OSError, match="7"):
        read_each(read, one_user, [7])


def test_a_read_without_memory_does_not_count_as_done() -> None:
    def read(pid: int) -> int:
        if pid == 7:
            raise MemoryError
        return pid

    with pytest.raises(OSError, match="out of memory"):
        read_each(read, one_user, [6, 7, 8])


def test_a_thread_that_never_begins_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PATIENCE", 0.02)
    monkeypatch.setattr(reading, "BEGINS", 0.05)
    monkeypatch.setattr(_thread, "start_new_thread", lambda run, arguments: None)
    assert read_each(lambda pid: -pid, one_user, [1, 2, 3]) == {1: -1, 2: -2, 3: -3}
