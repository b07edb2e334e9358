"""Reads about many processes end in time, even if some processes do not answer."""

import _thread
import os
import threading
from collections.abc import Callable

import pytest

from jobfac.programs import reading
from jobfac.programs.reading import Budget, read_each
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
    monkeypatch.setattr(reading, "budget", Budget())
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


def test_slow_reads_take_a_small_part_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """One call after the other, each faster than its limit, stopped the loop: one for each program that ended. So did
    one user ID after the other of the same user."""
    now = 100.0
    monkeypatch.setattr(reading, "budget", Budget(lambda: now))
    reads: list[int] = []

    def read(pid: int) -> int:
        nonlocal now
        reads.append(pid)
        now += 0.7
        return -pid

    for pid in range(1, 9):
        read_each(read, lambda pid: pid, [pid])
    assert reads == [1, 2, 3, 4]
    assert reading.budget.left() == 0.0
    now += 10.0
    assert reading.budget.left() == pytest.approx(0.48)
    now += 20.0
    assert reading.budget.left() == reading.LIMIT
    with reading.budget.spent():
        now += 3600.0  # this process stood still
    now += 20.0
    assert reading.budget.left() == reading.LIMIT


def test_a_reader_that_has_not_begun_in_time_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller read in its place, although the memory of the process may be locked for any time."""
    started: list[Callable[[], None]] = []
    monkeypatch.setattr(_thread, "start_new_thread", lambda run, arguments: started.append(run))
    monkeypatch.setattr(reading, "LIMIT", 0.05)
    monkeypatch.setattr(reading, "budget", Budget())
    reads: list[int] = []
    assert read_each(reads.append, one_user, [1]) == {}
    for run in started:
        run()
    assert reads == []


def test_only_so_many_users_have_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    """One user may own thousands of user IDs. They are the highest ones."""
    monkeypatch.setattr(reading, "MOST_USERS", 3)
    pids = range(1, 40)
    assert read_each(lambda pid: pid, lambda pid: pid % 10, pids).keys() == {pid for pid in pids if pid % 10 < 3}
    monkeypatch.setattr(os, "geteuid", lambda: 9)  # the worker's own user is read first
    assert read_each(lambda pid: pid, lambda pid: pid % 10, pids).keys() == {
        pid for pid in pids if pid % 10 in (0, 1, 9)
    }


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
    assert read_each(lambda pid: -pid, one_user, [1, 2, 3]) == {}


def test_where_no_thread_can_be_started_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[object] = []

    def refused(run: object, arguments: object) -> None:
        tried.append(run)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", refused)
    assert read_each(lambda pid: -pid, one_user, [1, 2, 3]) == {}
    assert len(tried) == 1
