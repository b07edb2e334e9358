"""Starts the test programs in ``tests/programs/zoo`` and waits for them."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from jobfac.programs import Limits, Process, Program, Spool, spool_path, start
from jobfac.programs.files.spool import SEAL
from jobfac.programs.tree import entry

ZOO = Path(__file__).parents[1] / "programs" / "zoo"


def free(spool: Spool) -> None:
    """Free what the spool has cut, as the worker does all the time."""
    space = spool.space()
    space.free()
    os.close(space.fd)
    spool.was_freed(space)


def left_file(folder: Path, run: int, stream: str = "stdout") -> Path:
    """Return the path of a file of a run's first attempt in the folder of its worker, for the caller to write."""
    path = Path(spool_path(folder / f"{run}-1-0a", run, 1, stream))
    path.parent.mkdir(exist_ok=True)
    return path


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


def lives(pid: int) -> bool:
    found = entry(pid)
    return found is not None and not found.dead


class Stage:
    """Starts programs with spools. All markers begin with `token`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.token = f"test-{os.getpid()}-{time.monotonic_ns()}"
        self.count = 0
        self.spools: list[Spool] = []
        self.processes: list[Process] = []

    def start(
        self,
        *argv: str,
        directory: str | None = None,
        user: str | None = None,
        detach: bool = False,
        limits: Limits | None = None,
    ) -> tuple[Process, Spool, Spool]:
        """Start a program; returns the process and the spools of its stdout and stderr."""
        self.count += 1
        marker = f"{self.token}/{self.count}/1"
        out = Spool(self.folder / f"{self.count}-1.stdout", 1 << 20)
        err = Spool(self.folder / f"{self.count}-1.stderr", 1 << 20)
        self.spools += [out, err]
        program = Program(argv, marker, {"PATH": os.environ["PATH"]}, directory, user, detach, limits)
        process = start(program, out.fd, err.fd)
        self.processes.append(process)
        return process, out, err

    def zoo(self, name: str, *arguments: str, detach: bool = False) -> tuple[Process, Spool, Spool]:
        path = str(ZOO / name)
        argv = [sys.executable, "-S", path] if name.endswith(".py") else [path]
        return self.start(*argv, *arguments, detach=detach)

    def numbers(self, spool: Spool, count: int = 1) -> list[int]:
        """Wait until the program has printed ``count`` PIDs; returns all that it printed."""
        until(lambda: len(written(spool).splitlines()) >= count)
        return [int(line) for line in written(spool).split()]


def written(spool: Spool) -> bytes:
    """What the program has written into the file so far."""
    return Path(spool.path).read_bytes().removeprefix(SEAL)


def text(spool: Spool) -> bytes:
    """Everything that the program printed."""
    return b"".join(chunk.data for chunk in spool.read(final=True))


def finish(process: Process) -> None:
    until(process.poll)
