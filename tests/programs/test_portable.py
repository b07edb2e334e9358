"""Without /proc the functions give the same results."""

import errno
import os
import signal
from pathlib import Path

import pytest

from jobfac.programs import StartError, become_subreaper, children, portable, procfs
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


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
@pytest.mark.parametrize("call", [(os, "pidfd_open"), (signal, "pidfd_send_signal")], ids=["open", "send"])
def test_a_signal_is_sent_where_the_system_has_no_descriptors_of_processes(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, call: tuple[object, str], number: int
) -> None:
    """A kernel before 5.3 does not know them, and the seccomp filter of an old container engine refuses them."""

    def refuse(*arguments: object) -> None:
        raise OSError(number, "refused")

    process, _, _ = stage.start("sleep", "600")
    found = procfs.entry(process.pid)
    assert found is not None
    monkeypatch.setattr(*call, refuse)
    assert not procfs.send(process.pid, found.start - 1, signal.SIGKILL)
    assert procfs.send(process.pid, found.start, signal.SIGKILL)
    finish(process)
    assert not procfs.send(process.pid, found.start, signal.SIGKILL)


def test_a_worker_without_the_process_table_of_its_namespace_does_not_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It would start programs that it cannot find, and so never stop them."""
    become_subreaper()
    foreign = tmp_path / "self"
    monkeypatch.setattr(children, "SELF", str(foreign))
    with pytest.raises(StartError, match="mount -t proc"):
        become_subreaper()
    foreign.symlink_to("1")
    with pytest.raises(StartError, match="another PID namespace"):
        become_subreaper()
