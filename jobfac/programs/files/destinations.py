"""Output files that a job's definition names: overwritten, appended with rotation, or one for each run."""

import contextlib
import fcntl
import os
from datetime import datetime
from pathlib import Path
from typing import Literal

from jobfac.programs.failures import StartError, explain_file
from jobfac.programs.files.paths import folder, open_regular

Kind = Literal["overwrite", "append", "timestamped"]


def open_destination(
    kind: Kind,
    pattern: str,
    directory: str | None,
    run_id: int,
    now: datetime,
    rotate_at: int = 10 * 1024 * 1024,
    keep: int = 5,
    user: str | None = None,
) -> tuple[int, Path]:
    """Open the file that a program writes to; returns the descriptor (the caller closes it) and the path.

    A relative `pattern` is meant from the job's `directory`; missing folders are created. `timestamped` puts the time
    and the run's id in place of the `*` in the name. `append` first moves a file of more than `rotate_at` bytes to
    `.1`, that one to `.2`, and so on; `keep` of them are kept.

    The file is opened with the rights of `user`, by a process of that user's if it is not this process's own. Only
    regular files are opened, and no symbolic link is followed that another user could have placed.

    Raises:
        StartError: it cannot be opened, or is no regular file.
    """
    path = Path(directory or ".", pattern)
    if kind == "timestamped":
        if "*" not in path.name:
            raise StartError(f"the output file {pattern!r} has no '*' in its name for the time; add one")
        path = path.with_name(path.name.replace("*", f"{now:%Y%m%dT%H%M%SZ}-{run_id}"))
    if user is not None:
        from jobfac.programs.files.opening import open_as

        if (descriptor := open_as(user, kind, path, rotate_at, keep)) is not None:
            return descriptor, path
    return open_path(kind, path, rotate_at, keep), path


def open_path(kind: Kind, path: Path, rotate_at: int, keep: int, who: str = "this worker") -> int:
    """The same with this process's rights. Raises StartError."""
    # Always at the end, so that two streams or two runs in one file do not write over each other.
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        with folder(path.parent, make=0o777) as at:
            if kind == "append":
                _rotate(path.name, at, rotate_at, keep)
            descriptor = open_regular(path.name, at, flags, 0o666)
        if kind == "overwrite":  # only now is it known to be a file that may be emptied
            os.ftruncate(descriptor, 0)
    except OSError as error:
        raise StartError(explain_file("the output file", path, error, who)) from error
    return descriptor


def _rotate(name: str, at: int, rotate_at: int, keep: int) -> None:
    """Shift the generations of a file that has grown too large, once, however many starts see it at the same time."""
    try:
        if os.stat(name, dir_fd=at, follow_symlinks=False).st_size <= rotate_at:
            return
    except FileNotFoundError:
        return
    file = open_regular(name, at, os.O_WRONLY)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # another start rotates it, or the program guards its own log
            return
        try:
            named = os.stat(name, dir_fd=at, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not os.path.samestat(os.fstat(file), named):  # another start was faster
            return
        for number in range(keep - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{name}.{number}", f"{name}.{number + 1}", src_dir_fd=at, dst_dir_fd=at)
        os.replace(name, f"{name}.1", src_dir_fd=at, dst_dir_fd=at)
    finally:
        os.close(file)
