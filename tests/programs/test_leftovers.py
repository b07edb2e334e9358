"""What a program leaves behind keeps no others waiting, however many processes there are."""

import os
import signal

import pytest

from jobfac.programs import posix
from jobfac.programs.tree import Looks, Table, entry
from tests.support.process_stage import Stage, finish, lives, until


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


def test_looks_at_what_programs_have_left_take_a_small_part_of_the_time(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three such runs and 4,500 processes each took all of the loop's time, and the lease of the worker with it."""
    left = []
    programs = []
    for _ in range(3):
        process, out, _ = stage.start("sh", "-c", "trap '' TERM; sleep 600 & echo $!")
        left += stage.numbers(out)
        finish(process)
        programs.append(process)
    slow = Slow(monkeypatch)
    longest = 0.0
    while slow.now < 300.0:
        began = slow.now
        assert [process.leftovers() for process in programs] == [[pid] for pid in left]
        longest = max(longest, slow.now - began)
        slow.now += 0.05
    assert longest <= 3.0, "the first looks; of the others there is one in a turn"
    assert len(slow.looks) <= 300 / Looks.PART + 3
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not any(lives(pid) for pid in left))
    slow.now += 100.0
    while any(process.leftovers() for process in programs):
        slow.now += 1.0
    assert slow.now < 500.0
    assert [entry(pid) for pid in left] == [None] * 3
