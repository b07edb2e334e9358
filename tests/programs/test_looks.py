"""A look at all processes costs little for each of them. One that fails is repeated, and nothing is forgotten."""

import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobfac.programs import ExitWatcher, Signals, procfs
from jobfac.programs.children import children, is_dead
from jobfac.programs.procfs import mark_of, markers
from tests.support.process_stage import Stage, finish, lives, until


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


@pytest.mark.usefixtures("either_way")
def test_an_end_is_noticed_when_what_the_program_left_can_be_seen(stage: Stage) -> None:
    watcher = ExitWatcher()
    process, out, _ = stage.start("sh", "-c", "setsid sleep 600 & echo $!; exit 3")
    watcher.add(process)
    (left,) = stage.numbers(out)
    until(lambda: is_dead(process.pid))
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
