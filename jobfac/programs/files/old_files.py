"""Removes old `timestamped` output files: one file per run, with the start time in its name."""

import os
import re
import stat
from contextlib import suppress
from pathlib import Path

from jobfac.machine.trusted import folder

FRESH = 3600.0
"""Seconds after its last write that a file is always kept, because its program may still run."""


def remove_timestamped(pattern: str, directory: str | None, now: float, age: float | None, count: int | None) -> int:
    """Remove the files of this `timestamped` pattern that are too old or too many; returns how many were removed.

    A file is too old if it was last written more than `age` seconds before `now` (seconds since the epoch). It is
    surplus if there are `count` newer ones. None disables the limit. Only regular files in the pattern's folder are
    removed, whose names have a time and a run id in place of the `*`. A folder behind another user's symbolic link is
    skipped.
    """
    path = Path(directory or ".", pattern)
    before, _, behind = path.name.partition("*")
    name = re.compile(rf"{re.escape(before)}(\d{{8}}T\d{{6}}Z)-(\d+){re.escape(behind)}")
    with suppress(OSError), folder(path.parent) as at:
        listing = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=at)
        try:
            found = [(match[1], int(match[2]), one) for one in os.listdir(listing) if (match := name.fullmatch(one))]  # noqa: PTH208
            files = [one for one in sorted(found, reverse=True) if _is_regular(one[2], listing)]
            return sum(
                _remove(one, listing, now, age, count is not None and place >= count)
                for place, (_, _, one) in enumerate(files)
            )
        finally:
            os.close(listing)
    return 0


def _is_regular(name: str, at: int) -> bool:
    with suppress(OSError):
        return stat.S_ISREG(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode)
    return False


def _remove(name: str, at: int, now: float, age: float | None, is_surplus: bool) -> bool:
    with suppress(OSError):  # another worker on this machine may have removed it
        silent = now - os.stat(name, dir_fd=at, follow_symlinks=False).st_mtime
        if silent > FRESH and (is_surplus or (age is not None and silent > age)):
            os.unlink(name, dir_fd=at)
            return True
    return False
