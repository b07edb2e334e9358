"""A user may read the mark of a program, as any limit of a process, and give it to a process of its own."""

import ctypes
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobfac.machine.marks import MARK
from jobfac.programs import Program
from jobfac.programs.children import PR_SET_CHILD_SUBREAPER, children
from jobfac.programs.procfs import number_of
from tests.hostile.others import NOBODY, needs_root, run
from tests.programs import conftest
from tests.support.process_stage import Stage, finish, lives, until

STRANGER = 54321
"""The number of a user as which no program is started."""

subreaper, stage = conftest.subreaper, conftest.stage


def orphan(marker: str, user: int = NOBODY.pw_uid) -> int:
    """Leave a process of another user behind that has the mark of an execution, and an environment that does not
    count."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        resource.setrlimit(MARK, (number_of(marker), resource.getrlimit(MARK)[1]))
        os.setresgid(*[NOBODY.pw_gid] * 3)
        os.setresuid(*[user] * 3)
        if pid := os.fork():
            os.write(writing, str(pid).encode())
            os._exit(0)
        texts = ctypes.c_char_p * 3
        ctypes.CDLL(None).execve(b"/bin/sleep", texts(b"sleep", b"600"), texts(b"x"))
        os._exit(1)
    os.waitpid(child, 0)
    pid = int(os.read(reading, 20))
    os.close(reading)
    os.close(writing)
    until(lambda: Path(f"/proc/{pid}/environ").read_bytes() == b"x\0")
    return pid


@needs_root
def test_a_process_of_another_user_does_not_keep_a_program_from_ending(stage: Stage) -> None:
    run(Program(("/bin/true",), f"{stage.token}/0/1", {"PATH": os.defpath}, user="nobody"))
    program, _, _ = stage.start("sleep", "600")
    before, after = orphan(program.marker), 0
    try:
        os.kill(program.pid, signal.SIGKILL)
        finish(program)
        assert program.leftovers() == []
        later, _, _ = stage.start("sleep", "600")
        after = orphan(f"{stage.token}/{stage.count + 1}/1")  # of a program that has not started yet
        children.sweep()
        program, _, _ = stage.start("sleep", "600")
        later.kill()
        program.terminate()
        finish(program)
        assert program.leftovers() == []
        assert lives(before)
        assert lives(after)
    finally:
        for pid in filter(None, (before, after)):
            os.kill(pid, signal.SIGKILL)
    until(lambda: children.sweep() is not None and not lives(before) and not lives(after))


@contextmanager
def adopting_nothing() -> Iterator[None]:
    """Orphans that are made inside the block go to another process, as those of a login go to init."""
    libc = ctypes.CDLL(None)
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) == 0
    try:
        yield
    finally:
        assert libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


@needs_root
def test_a_process_that_no_program_has_started_does_not_keep_one_from_ending(stage: Stage) -> None:
    """That of a user who has no job, and who may have logged in."""
    program, _, _ = stage.start("sleep", "600")
    with adopting_nothing():
        outside = orphan(program.marker, user=STRANGER)
    try:
        program.terminate()
        finish(program)
        assert program.leftovers() == []
        assert lives(outside)
    finally:
        os.kill(outside, signal.SIGKILL)
