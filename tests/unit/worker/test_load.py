"""The load of the machine: how it is read, and when a worker claims nothing because of it."""

import os
from pathlib import Path

import pytest

from jobfac.store.workers import MachineLoad
from jobfac.telemetry.logs import SILENCE
from jobfac.worker.health import Health
from jobfac.worker.load import (
    LoadLimits,
    coarse,
    estimate_pressure,
    is_worth_storing,
    left_in,
    measure,
    read_available,
    read_pressure,
)

PRESSURE = "some avg10=29.21 avg60=47.21 avg300=33.90 total=156197692\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
MEMORY = "MemTotal:        8152240 kB\nMemFree:          102400 kB\nMemAvailable:    2097152 kB\n"


def test_the_kernels_figures_are_read() -> None:
    assert read_pressure(PRESSURE) == 29.21
    assert read_available(MEMORY) == 2 << 30
    for text in ("", "full avg10=1.00", "some avg60=1.00"):
        with pytest.raises(ValueError, match=r".*"):
            read_pressure(text)
    with pytest.raises(ValueError, match="MemAvailable"):
        read_available("MemFree: 1 kB\n")


def test_what_a_cgroup_leaves_counts_what_the_kernel_can_reclaim(tmp_path: Path) -> None:
    """After a night of loads the cache of files fills each limit, and a worker claimed nothing for good."""
    assert left_in(tmp_path) is None
    (tmp_path / "memory.max").write_text("max\n")
    assert left_in(tmp_path) is None
    (tmp_path / "memory.max").write_text(f"{4 << 30}\n")
    (tmp_path / "memory.current").write_text(f"{(4 << 30) - (100 << 20)}\n")
    (tmp_path / "memory.stat").write_text(f"anon {300 << 20}\ninactive_file {3 << 30}\nactive_file 5\nslab 7\n")
    assert left_in(tmp_path) == (3 << 30) + (100 << 20) + 5


@pytest.mark.parametrize(("load", "processors", "pressure"), [(0.0, 2, 0.0), (1.5, 2, 0.0), (4.0, 2, 50.0)])
def test_without_them_the_load_average_tells_how_much_work_waits(load: float, processors: int, pressure: float) -> None:
    assert estimate_pressure(load, processors) == pressure


def test_this_machine_is_measured() -> None:
    pressure, free = measure()
    assert pressure is not None
    assert 0 <= pressure <= 100
    assert free is not None
    assert 0 < free < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_a_limit_that_is_exceeded_is_told_with_both_figures() -> None:
    limits = LoadLimits(80, 2 << 30)
    assert limits.exceeded(MachineLoad(79.9, 3 << 30)) == limits.exceeded(MachineLoad()) == ""
    assert limits.exceeded(MachineLoad(85.2, 3 << 30)) == "claims nothing: CPU pressure of 85 % is above 80 %"
    assert limits.exceeded(MachineLoad(0.0, 1 << 30)) == (
        "claims nothing: 1,024 MiB of memory are free, less than 2,048 MiB"
    )
    assert LoadLimits().exceeded(MachineLoad(100.0, 0)) == ""


def test_an_overloaded_worker_claims_nothing_and_says_why_once() -> None:
    health = Health(SILENCE)
    health.loaded("claims nothing: CPU pressure of 85 % is above 80 %")
    health.loaded("claims nothing: CPU pressure of 93 % is above 80 %")
    assert (health.starts(4), health.to_show()) == (0, "claims nothing: CPU pressure of 85 % is above 80 %")
    health.shown(health.to_show() or "")
    assert health.to_show() is None
    health.fault("no space in /spool", 0.0)
    assert health.to_show() == "unhealthy: no space in /spool"
    health.examined(None, 1.0)
    assert health.starts(4) == 0
    health.loaded("")
    assert (health.starts(4), health.to_show()) == (1, "")


@pytest.mark.parametrize(
    ("load", "worth"),
    [
        (MachineLoad(20.0, 1000), False),
        (MachineLoad(29.0, 1099), False),
        (MachineLoad(30.0, 1000), True),
        (MachineLoad(20.0, 900), True),
        (MachineLoad(None, 1000), True),
    ],
)
def test_a_heartbeat_stores_a_load_that_has_changed(load: MachineLoad, worth: bool) -> None:
    assert is_worth_storing(MachineLoad(20.0, 1000), load) is worth
    assert is_worth_storing(MachineLoad(), load)


def test_few_loads_are_stored() -> None:
    assert coarse(MachineLoad(44.9, 17_716_740_096)) == MachineLoad(40.0, 16 << 30)
    assert coarse(MachineLoad()) == MachineLoad()
    assert len({coarse(MachineLoad(0.0, memory << 20)) for memory in range(1024, 2048)}) == 8
