"""A second user of the machine, started as root with FOLDER: becomes nobody and meddles until it is killed.

It prints a line for each thing that it must not be able to do and did. In its own folder FOLDER/theirs it replaces the
directory and the output file of a job that runs as nobody by links to what belongs to root.
"""

import contextlib
import itertools
import os
import pwd
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

FOLDER = Path(sys.argv[1])
THEIRS = FOLDER / "theirs"


def others() -> Iterator[Path]:
    """What belongs to root: the database with its journals, the spool, and what lies in them."""
    yield from (FOLDER / name for name in ("jobfac.db", "jobfac.db-wal", "jobfac.db-shm", "spool", "closed", "secret"))
    with contextlib.suppress(OSError):
        yield from (FOLDER / "spool").iterdir()


def plant() -> Iterator[Path]:
    """Where another user's file would be taken for one of jobfac's."""
    yield from (FOLDER / name for name in ("jobfac.db-journal", "jobfac.toml", "spool/0/lock", "spool/1-1.stdout"))


def read(path: Path) -> None:
    os.close(os.open(path, os.O_RDONLY))


def write(path: Path) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT))


def replace(path: Path) -> None:
    path.rename(path.with_name("gone"))


def link(path: Path) -> None:
    os.link(path, THEIRS / f"link-{random.random()}")


def processes() -> Iterator[int]:
    """The roles and guardians."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and b"jobfac" in (entry / "cmdline").read_bytes() and entry.stat().st_uid == 0:
                yield int(entry.name)


def trespass() -> None:
    """Try everything that only root may do, once."""
    acts: list[Callable[[Path], None]] = [read, write, replace, link]
    for act, path in [*itertools.product(acts, others()), *((write, path) for path in plant())]:
        with contextlib.suppress(OSError):
            act(path)
            print(f"nobody could {act.__name__} {path}", flush=True)
    for pid in processes():
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGSTOP)
            print(f"nobody could stop process {pid}", flush=True)
        for name in ("environ", "mem", "fd/3"):
            with contextlib.suppress(OSError):
                read(Path(f"/proc/{pid}/{name}"))
                print(f"nobody could read {name} of process {pid}", flush=True)


def swap() -> None:
    """Replace the job's directory and its output file by something else, again and again for a moment."""
    work, log = THEIRS / "work", THEIRS / "out.log"
    for _ in range(50):
        with contextlib.suppress(OSError):
            if work.is_symlink():
                work.unlink()
                work.mkdir()
            else:
                work.rmdir()
                work.symlink_to("../closed/inside")
        with contextlib.suppress(OSError):
            log.unlink(missing_ok=True)
            kind = random.choice(["link", "pipe", "file"])
            if kind == "link":
                log.symlink_to("../secret")
            elif kind == "pipe":
                os.mkfifo(log)
        time.sleep(random.uniform(0.0, 0.05))


def main() -> None:
    user = pwd.getpwnam("nobody")
    os.setgroups([])
    os.setresgid(*[user.pw_gid] * 3)
    os.setresuid(*[user.pw_uid] * 3)
    while True:
        trespass()
        for _ in range(5):
            swap()


if __name__ == "__main__":
    main()
