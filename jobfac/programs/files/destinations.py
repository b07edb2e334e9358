"""Output files named by a job's definition: overwritten, appended with rotation, or one file per run."""

import contextlib
import fcntl
import os
from datetime import datetime
from pathlib import Path
from typing import Literal

from jobfac.machine.trusted import folder, open_regular
from jobfac.programs.failures import StartError, explain_file

Kind = Literal["overwrite", "append", "timestamped"]

MARK = "user.jobfac"
"""The extended attribute that names the series of a file."""


def destination_path(kind: Kind, pattern: str, directory: str | None, run_id: int, now: datetime) -> Path:
    """Return the path of the file that a program writes to.

    A relative `pattern` is relative to the job's `directory`. `timestamped` replaces the `*` in the name with the time
    and the run id.

    Raises:
        StartError: the name has no `*` for the time.
    """
    path = Path(directory or ".", pattern)
    if kind == "timestamped":
        if "*" not in path.name:
            raise StartError(f"the output file {pattern!r} has no '*' in its name for the time; add one")
        path = path.with_name(path.name.replace("*", f"{now:%Y%m%dT%H%M%SZ}-{run_id}"))
    return path


def open_destination(
    kind: Kind,
    pattern: str,
    directory: str | None,
    run_id: int,
    now: datetime,
    rotate_at: int = 10 * 1024 * 1024,
    keep: int = 5,
    mark: str = "",
) -> tuple[int, Path]:
    """Open the file that a program of this process's user writes to; returns the descriptor and the path.

    Raises as ``destination_path`` and ``open_path``.
    """
    path = destination_path(kind, pattern, directory, run_id, now)
    return open_path(kind, path, rotate_at, keep, mark), path


def open_path(kind: Kind, path: Path, rotate_at: int, keep: int, mark: str = "", who: str = "this worker") -> int:
    """Open the output file with this process's rights; returns the descriptor, which the caller closes.

    Missing folders are created. `append` first renames a file of more than `rotate_at` bytes to `.1`, the former `.1`
    to `.2`, and so on; `keep` of them are kept. Only regular files are opened, and symbolic links that another user
    could have created are not followed.

    Args:
        mark: the series of the file (``MARK``), stored if its file system can; empty: none is stored.
        who: the user named in messages.

    Raises:
        StartError: the file cannot be opened, or it is not a regular file.
    """
    # O_APPEND, because two streams or two runs may write to the same file.
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        with folder(path.parent, make=0o777) as at:
            if kind == "append":
                _rotate(path.name, at, rotate_at, keep)
            descriptor = open_regular(path.name, at, flags, 0o666)
        if kind == "overwrite":  # only after the check that it is a regular file
            os.ftruncate(descriptor, 0)
        if mark:
            with contextlib.suppress(OSError):
                os.setxattr(descriptor, MARK, mark.encode())
    except OSError as error:
        raise StartError(explain_file("the output file", path, error, who)) from error
    return descriptor


def _rotate(name: str, at: int, rotate_at: int, keep: int) -> None:
    """Rotate a file that is too large. Concurrent starts rotate it only once."""
    try:
        if os.stat(name, dir_fd=at, follow_symlinks=False).st_size <= rotate_at:
            return
    except FileNotFoundError:
        return
    file = open_regular(name, at, os.O_WRONLY)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # another start rotates it, or the program has locked its log
            return
        try:
            named = os.stat(name, dir_fd=at, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not os.path.samestat(os.fstat(file), named):  # another start has rotated it
            return
        for number in range(keep - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{name}.{number}", f"{name}.{number + 1}", src_dir_fd=at, dst_dir_fd=at)
        if keep:
            os.replace(name, f"{name}.1", src_dir_fd=at, dst_dir_fd=at)
        else:
            os.unlink(name, dir_fd=at)
    finally:
        os.close(file)
