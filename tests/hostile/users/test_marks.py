"""A user may read the mark of a program, as any limit of a process, and give it to a process of its own."""

import ctypes
import os
import resource
import signal
from pathlib import Path

from jobfac.machine.marks import MARK
from jobfac.programs import Program
from jobfac.programs.children import children
from jobfac.programs.procfs import number_of
from tests.hostile.others import NOBODY, needs_root, run
from tests.programs import conftest
from tests.support.process_stage import Stage, finish, lives, until

subreaper, stage = conftest.subreaper, conftest.stage


def orphan_of_nobody(marker: str) -> int:
    """Leave a process of nobody behind that has the mark of an execution, and an environment that does not count."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        resource.setrlimit(MARK, (number_of(marker), resource.getrlimit(MARK)[1]))
        os.setresgid(*[NOBODY.pw_gid] * 3)
        os.setresuid(*[NOBODY.pw_uid] * 3)
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
    before, after = orphan_of_nobody(program.marker), 0
    try:
        os.kill(program.pid, signal.SIGKILL)
        finish(program)
        assert program.leftovers() == []
        later, _, _ = stage.start("sleep", "600")
        after = orphan_of_nobody(f"{stage.token}/{stage.count + 1}/1")  # of a program that has not started yet
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
    until(lambda: children.sweep() >= 0 and not lives(before) and not lives(after))
