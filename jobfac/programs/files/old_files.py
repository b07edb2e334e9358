"""Removes old `timestamped` output files: one file per run, with the start time in its name."""

import hashlib
import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from jobfac.definitions.parameters import texts_between
from jobfac.machine.trusted import folder
from jobfac.programs.files.destinations import MARK

FRESH = 3600.0
"""Seconds after its last write that a file is always kept, because its program may still run."""


_TIME_AND_RUN = r"([0-9]{8}T[0-9]{6}Z)-([0-9]{1,19})"


class Series(NamedTuple):
    """The `timestamped` files of a stream of a job.

    Attributes:
        pattern: the path of one run's file, with a `*`.
        directory: the job's directory, in which a relative path begins.
        template: the path as the definition has it, with placeholders.
    """

    pattern: str
    directory: str | None
    template: str
    job: str

    @property
    def mark(self) -> str:
        """What tells the files of this job and template from all others; empty: their names do.

        With placeholders a name does not tell: a value of one job may look like the text of another.
        """
        if self.pattern == self.template:
            return ""
        return f"{self.job} {hashlib.sha256(self.template.encode()).hexdigest()[:16]}"

    @property
    def place(self) -> tuple[str, str | None, str, str]:
        """What the series of two runs have in common if the same files are theirs."""
        return self.job, self.directory, os.path.dirname(self.pattern), self.template  # noqa: PTH120

    def names(self) -> tuple[re.Pattern[str], re.Pattern[str]]:
        """Return what the names of this run's pattern match, and what those of any values match."""
        any_values = "\0".join(texts_between(self.template)).rpartition("/")[2]
        return _named(self.pattern.rpartition("/")[2]), _named(any_values)


def _named(text: str) -> re.Pattern[str]:
    """Return what matches these names, and some more. In the text a `*` stands for time and run, a NUL for a value."""
    before, _, behind = text.partition("*")
    return re.compile(_with_values(before) + _TIME_AND_RUN + _with_values(behind), re.DOTALL)


def _with_values(text: str) -> str:
    """Return a pattern with one wildcard at most: with many, a long name could keep the matching busy for minutes."""
    first, *others = text.split("\0")
    return re.escape(first) + (f".*{re.escape(others[-1])}" if others else "")


def remove_timestamped(series: Series, now: float, age: float | None, count: int | None) -> int:
    """Remove the files of this series that are too old or too many; returns how many were removed.

    A file is too old if it was last written more than `age` seconds before `now` (seconds since the epoch). It is
    surplus if there are `count` newer ones. None disables the limit. Only regular files in the pattern's folder are
    removed, whose names have a time and a run id in place of the `*`. Those with other values of placeholders need the
    mark of the series, too. A folder behind another user's symbolic link is skipped.
    """
    this, any_values = series.names()

    def match(name: str, at: int) -> re.Match[str] | None:
        if (found := this.fullmatch(name)) is not None or not series.mark:
            return found
        found = any_values.fullmatch(name)
        return found if found is not None and _mark(name, at) == series.mark else None

    with suppress(OSError), folder(Path(series.directory or ".", series.pattern).parent) as at:
        listing = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=at)
        try:
            found = [(hit[1], int(hit[2]), one) for one in os.listdir(listing) if (hit := match(one, listing))]  # noqa: PTH208
            files = [one for one in sorted(found, reverse=True) if _is_regular(one[2], listing)]
            return sum(
                _remove(one, listing, now, age, count is not None and place >= count)
                for place, (_, _, one) in enumerate(files)
            )
        finally:
            os.close(listing)
    return 0


def _mark(name: str, at: int) -> str | None:
    with suppress(OSError):  # it has none, or its file system has none
        return os.getxattr(f"/proc/self/fd/{at}/{name}", MARK, follow_symlinks=False).decode(errors="replace")
    return None


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
