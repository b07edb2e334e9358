"""Simulates another user of this machine. Only root can do this."""

import os
import pwd
import traceback
from collections.abc import Callable

import pytest

from jobfac.programs import Program, start
from tests.support.process_stage import finish

NOBODY = pwd.getpwnam("nobody")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can play another user")


def as_nobody(act: Callable[[], object]) -> None:
    """Run `act` in a process of the user nobody. Fails if it fails."""
    "".encode("utf-16-le")  # Python loads a codec at its first use, from a folder that nobody may not read
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(*[NOBODY.pw_gid] * 3)
            os.setresuid(*[NOBODY.pw_uid] * 3)
            act()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, "nobody could not do it"


def run(program: Program, output: int = 1) -> None:
    """Run a program to its end. Raises StartError if it did not start."""
    process = start(program, output, output)
    finish(process)
    if process.not_started is not None:
        raise process.not_started
