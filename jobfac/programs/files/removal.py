"""Removes folders of the spool without waiting for a program that is inside one long write to a file in them.

Also remembers since when a file in them could not be read.
"""

import contextlib
import os
import shutil
import threading
from pathlib import Path

from jobfac.machine import threads
from jobfac.programs.guardian import clock

PATIENCE = 0.5
"""Seconds for which the caller waits for a removal. If the process ends before it, the next worker removes the rest."""


def remove_folder(folder: Path, lock: int) -> None:
    """Remove the folder of a worker, by a thread of its own.

    Args:
        lock: a descriptor with the lock of the folder, which the removal closes in the end. Until then nobody else
            takes the folder for that of a dead worker: he would have to wait, too.
    """
    done = threading.Event()
    try:
        threads.begin(_remove, folder, lock, done)
    except RuntimeError:  # the machine has no thread for it: a later worker removes it
        os.close(lock)
    else:
        done.wait(PATIENCE)


def _remove(folder: Path, lock: int, done: threading.Event) -> None:
    """Remove the folder, with the fingerprints and the lock last, because this process may end at any moment.

    The next worker finds the folder by its lock, and needs the fingerprints to mask output that is left.
    """
    try:
        files = [Path(inside, name) for inside, _, names in os.walk(folder) for name in names if name != "lock"]
        for path in sorted(files, key=lambda path: path.suffix == ".secrets"):
            with contextlib.suppress(OSError):  # removed meanwhile
                path.unlink()
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)
        done.set()


def unread_for(path: Path) -> float:
    """Return for how many seconds a file could not be read, 0 at the first call. A mark beside it keeps that time.

    The time in which the machine was off does not count, and the wall clock may be set meanwhile.
    """
    mark, now = path.with_name(f"{path.name}.unread"), clock()
    seconds = 0.0
    with contextlib.suppress(OSError):  # a disk that takes no mark may get well, too
        if mark.exists():
            with contextlib.suppress(ValueError):  # it is empty if the disk was full
                known, then = map(float, mark.read_text().split())
                seconds = known + (now - then if then <= now else now)
        mark.write_text(f"{seconds:.1f} {now:.1f}")
        mark.chmod(0o600)
    return seconds
