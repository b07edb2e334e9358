"""Output that goes to a file of the user's: overwritten, appended with rotation, or one for each run."""

import fcntl
import os
from datetime import datetime
from pathlib import Path
from typing import Literal

from jobfac.programs.failures import StartError, explain_file

Kind = Literal["overwrite", "append", "timestamped"]


def open_destination(
    kind: Kind,
    pattern: str,
    directory: str | None,
    run_id: int,
    now: datetime,
    rotate_at: int = 10 * 1024 * 1024,
    keep: int = 5,
) -> tuple[int, Path]:
    """Open the file that a program writes to; returns the descriptor (the caller closes it) and the path.

    A relative `pattern` is meant from the job's `directory`; missing folders are created. `timestamped` puts the time
    and the run's id in place of the `*` in the name. `append` first moves a file of more than `rotate_at` bytes to
    `.1`, that one to `.2`, and so on; `keep` of them are kept. Raises StartError.
    """
    path = Path(directory or ".", pattern)
    if kind == "timestamped":
        if "*" not in path.name:
            raise StartError(f"the output file {pattern!r} has no '*' in its name for the time; add one")
        path = path.with_name(path.name.replace("*", f"{now:%Y%m%dT%H%M%SZ}-{run_id}"))
    # Always at the end, so that two streams or two runs in one file do not write over each other.
    # (Opening must not wait for the reader of a named pipe; writing may.)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK
    if kind == "overwrite":
        flags |= os.O_TRUNC
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "append":
            _rotate(path, rotate_at, keep)
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        raise StartError(explain_file("the output file", path, error)) from error
    os.set_blocking(descriptor, True)
    return descriptor, path


def _rotate(path: Path, rotate_at: int, keep: int) -> None:
    """Shift the generations of a file that has grown too large, once, however many starts see it at the same time."""
    if not path.exists() or path.stat().st_size <= rotate_at:
        return
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # somebody is about it, or the program guards its own log
            return
        if not path.exists() or not os.path.samestat(os.fstat(file.fileno()), path.stat()):  # somebody was faster
            return
        for number in range(keep - 1, 0, -1):
            older = path.with_name(f"{path.name}.{number}")
            if older.exists():
                older.replace(path.with_name(f"{path.name}.{number + 1}"))
        path.replace(path.with_name(f"{path.name}.1"))
