"""Removes folders of the spool without waiting for a program that is inside one long write to a file in them."""

import shutil
import threading
from pathlib import Path

PATIENCE = 0.5
"""Seconds for which a removal is waited for. Whatever is left of it then is the folder of a dead worker."""

_threads: dict[Path, threading.Thread] = {}


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that is in it, by a thread of its own. A repeated call starts no second one."""
    for other in [one for one, thread in list(_threads.items()) if not thread.is_alive()]:
        _threads.pop(other, None)
    if folder in _threads:
        return
    thread = threading.Thread(target=shutil.rmtree, args=(folder,), kwargs={"ignore_errors": True}, daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the machine has no thread for it
        shutil.rmtree(folder, ignore_errors=True)
        return
    _threads[folder] = thread
    thread.join(PATIENCE)
