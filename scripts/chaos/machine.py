"""Faults of the machine: a full disk under the spool, and a worker that may open few files."""

import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

ROOM = 16
"""Megabytes of the small disk on which the spool lies."""

SPARE = 2
"""How many more files a worker may open than it has open."""


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """Make ``folder`` a small disk of its own; None where this user or this machine cannot mount one."""
    folder.mkdir(mode=0o700)
    words = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}m,mode=0700", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(words, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


def fill(disk: Path, seconds: float) -> None:
    """Leave no room on the disk for so long."""
    filler = disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(65536))
    time.sleep(seconds)
    filler.unlink(missing_ok=True)


def limit_files(pid: int, seconds: float) -> None:
    """Let a process open only ``SPARE`` more files for so long."""
    with suppress(psutil.Error, ProcessLookupError):  # it may end meanwhile
        process = psutil.Process(pid)
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (_highest(pid, process) + SPARE, before[1]))
        time.sleep(seconds)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def _highest(pid: int, process: psutil.Process) -> int:
    """The limit counts numbers of descriptors, not how many are open. A process that has just died has none."""
    try:
        return max((int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()), default=-1) + 1
    except OSError:
        return int(process.num_fds())
