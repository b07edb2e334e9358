"""Without /proc the functions give the same results."""

import os
import signal

from jobfac.programs import portable, procfs
from tests.support.process_stage import Stage, finish, until


def test_both_tables_agree(stage: Stage) -> None:
    process, out, _ = stage.zoo("changes_group.py")
    (child,) = stage.numbers(out)
    for pid in (os.getpid(), process.pid, child):
        one, two = procfs.entry(pid), portable.entry(pid)
        assert one is not None
        assert two is not None
        assert [one.pid, one.parent, one.session, one.group, one.dead] == [
            two.pid, two.parent, two.session, two.group, two.dead
        ]  # fmt: skip
        assert portable.markers([pid]) == procfs.markers([pid])
        assert two.start <= portable.now()
    assert portable.markers([child]) == {child: process.marker}
    assert portable.entries().keys() >= {process.pid, child}


def test_a_signal_reaches_only_the_same_process(stage: Stage) -> None:
    process, _, _ = stage.start("sleep", "600")
    found = portable.entry(process.pid)
    assert found is not None
    assert not portable.send(process.pid, found.start - 1, signal.SIGKILL)
    assert process.poll() is None
    assert portable.send(process.pid, found.start, signal.SIGKILL)
    until(lambda: (one := portable.entry(process.pid)) is not None and one.dead)
    finish(process)
    assert portable.entry(process.pid) is None
    assert portable.markers([process.pid]) == {}
    assert not portable.send(process.pid, found.start, signal.SIGKILL)
