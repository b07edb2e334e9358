"""Removes folders of the spool without waiting for a program that is inside one long write to a file in them."""

import contextlib
import shutil
import threading
from pathlib import Path

from jobfac.machine import threads

PATIENCE = 0.5
"""Seconds for which the caller waits for a removal. If the process ends before it, the next worker removes the rest."""

_removals: dict[Path, threading.Event] = {}


def remove_folder(folder: Path) -> None:
    """Remove the folder of a worker, by a thread of its own. A repeated call starts no second one."""
    for other in [one for one, done in list(_removals.items()) if done.is_set()]:
        _removals.pop(other, None)
    if folder in _removals:
        return
    done = _removals[folder] = threading.Event()
    try:
        threads.begin(_remove, folder, done)
    except RuntimeError:  # the machine has no thread for it
        _remove(folder, done)
    done.wait(PATIENCE)


def _remove(folder: Path, done: threading.Event) -> None:
    """Remove the folder, with the fingerprints and the lock last, because this process may end at any moment.

    The next worker finds the folder by its lock, and needs the fingerprints to mask output that is left.
    """
    files = [path for path in folder.rglob("*") if path.name != "lock" and not path.is_dir()]
    for path in sorted(files, key=lambda path: path.suffix == ".secrets"):
        with contextlib.suppress(OSError):  # removed meanwhile
            path.unlink()
    shutil.rmtree(folder, ignore_errors=True)
    done.set()
