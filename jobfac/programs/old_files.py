"""Removal of the files that runs left behind, each its own, named by the time of its start."""

import re
from contextlib import suppress
from pathlib import Path

FRESH = 3600.0
"""Seconds after the last write during which a file stays: the program that writes it may still run."""


def remove_timestamped(pattern: str, directory: str | None, now: float, age: float | None, count: int | None) -> int:
    """Remove the files of this `timestamped` pattern that are too old or too many; returns how many.

    Only a regular file in the pattern's folder goes, whose name is the pattern's with a time and a run's id in place of
    the `*`: last written to more than `age` seconds before `now` (seconds since the epoch), or beside `count` newer
    ones. None sets no bound.
    """
    path = Path(directory or ".", pattern)
    before, _, behind = path.name.partition("*")
    name = re.compile(rf"{re.escape(before)}(\d{{8}}T\d{{6}}Z)-(\d+){re.escape(behind)}")
    found = []
    with suppress(OSError):
        for one in path.parent.iterdir():
            if (match := name.fullmatch(one.name)) and one.is_file() and not one.is_symlink():
                found.append((match[1], int(match[2]), one))
    removed = 0
    for place, (_, _, one) in enumerate(sorted(found, reverse=True)):
        with suppress(OSError):  # another worker on this machine does the same
            silent = now - one.stat().st_mtime
            if silent > FRESH and ((age is not None and silent > age) or (count is not None and place >= count)):
                one.unlink()
                removed += 1
    return removed
