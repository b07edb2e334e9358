"""Decides which of the files that have become runs have gone. Pure: the clock is an argument."""

import os
import socket
import sys
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jobfac.store.schedules import ArrivedFile, Gone
from jobfac.worker.files.scanning import Scan

GONE = 30.0
"""Seconds for which scans must not find a file until it counts as gone. One scan alone may miss a file: some servers
leave out others while they delete one."""

KEPT_LISTING = 60.0
"""Seconds for which a network drive may show an old listing, such as NFS (acdirmax). A run on another machine that has
moved its file away, and back before its end, must have ended before that."""

AWAY = 3600.0
"""Seconds for which the folder of a file must be away until the file is forgotten. It is known again when it is seen
again."""


@dataclass(slots=True)
class _Known:
    """A file that has become a run.

    ``since``: which scan missed it first; ``away``: which scan missed its folder first; ``not_before``: when it is
    reported.
    """

    file: ArrivedFile
    run_id: int
    since: float | None = None
    away: float | None = None
    not_before: float = 0.0


class Departures:
    """The files of one pattern that have become runs, and since when each is missing. Used by one thread.

    Only a folder that was read to its end, and that is the one in which the file was seen, shows that it is missing.
    """

    def __init__(self) -> None:
        self._files: dict[str, _Known] = {}
        self._too_soon: list[str] = []

    def handle(self, files: Iterable[ArrivedFile], runs: Mapping[str, int]) -> None:
        """Record which of these files have become which runs."""
        for file in files:
            if file.place and file.key in runs:
                self._files[file.key] = _Known(file, runs[file.key])

    def observe(self, found: Scan, began: float) -> list[Gone]:
        """Take the result of a scan that began at ``began`` (seconds); return the files that have gone."""
        gone, forgotten = [], []
        for key, one in self._files.items():
            is_missing = _is_missing(one.file, found)
            if is_missing is None:
                one.since, one.away = None, began if one.away is None else one.away
                if began >= one.away + AWAY:
                    forgotten.append(key)
                continue
            one.away = None
            if not is_missing:
                if one.since is not None and one.file.path in found.files:
                    self._too_soon.append(one.file.path)
                one.since = None
                continue
            one.since = began if one.since is None else one.since
            if began >= max(one.since + GONE, one.not_before):
                gone.append(Gone(key, one.run_id, one.file.place))
        self.drop(forgotten)
        return gone

    def take_too_soon(self) -> list[str]:
        """Return the paths of files that were missing and are there again without having gone, since the last call."""
        found, self._too_soon = self._too_soon, []
        return found

    def drop(self, keys: Iterable[str]) -> None:
        """Forget these files."""
        for key in keys:
            self._files.pop(key, None)

    def postpone(self, keys: Collection[str], until: float) -> None:
        """Report these files again, but not before ``until``."""
        for key in keys:
            self._files[key].not_before = until


def placed(file: ArrivedFile, found: Scan) -> ArrivedFile:
    """Return the file with the place in which the scan has found it."""
    return file._replace(place=_place(found, os.path.dirname(file.path)))  # noqa: PTH120 (hot)


def _is_missing(file: ArrivedFile, found: Scan) -> bool | None:
    """Whether a file is missing in its folder; None: that folder was not there, or not read to its end."""
    seen = found.files.get(file.path)
    if seen is not None and (seen.size, seen.modified // 10**9) == (file.size, file.modified):
        return False
    folder, name = os.path.split(file.path)
    if _place(found, folder) != file.place:
        return None
    return seen is not None or name not in found.listings[folder].names


def _place(found: Scan, folder: str) -> str:
    """Return which folder of which machine it is; empty: unknown, or it was not read to its end."""
    listing = found.listings.get(folder)
    # One text for all files of the folder, of which there may be many.
    return sys.intern(f"{_machine()} {listing.place}") if listing is not None and listing.place else ""


@cache
def _machine() -> str:
    """Return what tells this machine from others, also from copies that have kept the name."""
    number = ""
    with suppress(OSError, UnicodeDecodeError):
        number = Path("/etc/machine-id").read_text().strip()
    return f"{socket.gethostname()} {number}"
