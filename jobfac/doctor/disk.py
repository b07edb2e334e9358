"""How much room a disk has left."""

import os
from pathlib import Path

from jobfac.doctor.finding import Finding, State

LITTLE, TOO_LITTLE = 1 << 30, 100 << 20
"""Bytes left on a disk from which it is a warning, and a problem."""


def room(check: str, place: Path, remedy: str) -> Finding:
    """How much is left on the disk of ``place``, in bytes and in files."""
    disk = os.statvfs(place)
    left = disk.f_bavail * disk.f_frsize
    if disk.f_files and disk.f_favail < 1000:
        return Finding(check, State.PROBLEM, f"{place} has room for {disk.f_favail} more files only", remedy)
    state = State.PROBLEM if left < TOO_LITTLE else State.WARNING if left < LITTLE else State.OK
    return Finding(check, state, f"{place} has {_size(left)} left", "" if state is State.OK else remedy)


def _size(number: int) -> str:
    return f"{number / (1 << 30):,.1f} GiB" if number >= 1 << 30 else f"{number / (1 << 20):,.0f} MiB"
