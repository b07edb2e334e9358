"""How loaded the machine is, and whether it is too loaded for more programs."""

import os
from pathlib import Path
from typing import NamedTuple

from jobfac.store.workers import MachineLoad

PRESSURE = Path("/proc/pressure/cpu")
MEMORY = Path("/proc/meminfo")
CGROUPS = Path("/sys/fs/cgroup")

RECLAIMABLE = ("inactive_file", "active_file", "slab_reclaimable")
"""The fields of ``memory.stat`` that MemAvailable counts as available. Source: the kernel's cgroup-v2 documentation."""


class LoadLimits(NamedTuple):
    """From when on a worker claims nothing. 0: no limit.

    Attributes:
        cpu_pressure: percent of time in which work waits for a processor.
        free_memory: bytes that must be free.
    """

    cpu_pressure: float = 0.0
    free_memory: int = 0

    def exceeded(self, load: MachineLoad) -> str:
        """Why the machine is too loaded for another program; empty: it is not, or its load is not known."""
        pressure, free = load
        if self.cpu_pressure and pressure is not None and pressure > self.cpu_pressure:
            return f"claims nothing: CPU pressure of {pressure:.0f} % is above {self.cpu_pressure:g} %"
        if self.free_memory and free is not None and free < self.free_memory:
            return f"claims nothing: {free >> 20:,} MiB of memory are free, less than {self.free_memory >> 20:,} MiB"
        return ""


def is_worth_storing(stored: MachineLoad, load: MachineLoad) -> bool:
    """Whether a heartbeat stores the load: the CPU pressure has changed by 10 points, or the free memory by 10 %."""
    if (stored.cpu_pressure is None) != (load.cpu_pressure is None):
        return True
    if abs((load.cpu_pressure or 0.0) - (stored.cpu_pressure or 0.0)) >= 10.0:
        return True
    return abs((load.free_memory or 0) - (stored.free_memory or 0)) * 10 >= (stored.free_memory or 1)


def coarse(load: MachineLoad) -> MachineLoad:
    """Return the load as it is stored: the CPU pressure in tens, and eight steps of memory for each doubling.

    The values are part of the text of a statement for SQL Server, so there must be few of them.
    """
    pressure, memory = load
    if memory is not None:
        step = 1 << max(0, memory.bit_length() - 4)
        memory = memory // step * step
    return MachineLoad(None if pressure is None else round(pressure / 10) * 10.0, memory)


def measure() -> MachineLoad:
    """Measure the load of this machine. Takes well under a millisecond."""
    return MachineLoad(_cpu_pressure(), _free_memory())


def _cpu_pressure() -> float | None:
    """From the kernel's pressure stall information; without it, from the load average."""
    try:
        return read_pressure(PRESSURE.read_text(encoding="ascii"))
    except (OSError, ValueError):
        try:
            return estimate_pressure(os.getloadavg()[0], os.cpu_count() or 1)
        except OSError:
            return None


def read_pressure(text: str) -> float:
    """The percentage in the last ten seconds, from the content of ``/proc/pressure/cpu``.

    Raises:
        ValueError: the text has another form.
    """
    kind, average, *_ = text.split()
    name, _, number = average.partition("=")
    if (kind, name) != ("some", "avg10"):
        raise ValueError(text)
    return float(number)


def estimate_pressure(load: float, processors: int) -> float:
    """The part of the runnable work that found no processor, in percent."""
    return 100.0 * max(0.0, 1.0 - processors / load) if load > 0 else 0.0


def _free_memory() -> int | None:
    """What the kernel calls available, or what the limit of this process's cgroup leaves, if that is less."""
    try:
        available = read_available(MEMORY.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    left = _left_in_cgroup()
    return available if left is None else min(available, left)


def read_available(text: str) -> int:
    """The bytes of MemAvailable in the content of ``/proc/meminfo``.

    Raises:
        ValueError: the text has no such line.
    """
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) * 1024
    raise ValueError("no MemAvailable")


def _left_in_cgroup() -> int | None:
    """Bytes that the memory limits of this process's cgroup (v2) and of those around it leave; None: no limit."""
    try:
        own = Path("/proc/self/cgroup").read_text(encoding="utf-8").rpartition("0::")[2].strip()
    except (OSError, ValueError):
        return None
    folder = CGROUPS / own.lstrip("/")
    around = [one for one in (folder, *folder.parents) if one.is_relative_to(CGROUPS)]
    return min((left for one in around if (left := left_in(one)) is not None), default=None)


def left_in(folder: Path) -> int | None:
    """Bytes that the memory limit of a cgroup leaves, besides what the kernel can reclaim; None: there is no limit."""
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        if limit == "max":
            return None
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        fields = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):
        return None
    # The file cache grows to the limit and shrinks only under memory pressure.
    return max(0, int(limit) - used + sum(int(fields.get(name, 0)) for name in RECLAIMABLE))
