"""An output limit of gigabytes costs disk space, but neither memory nor long transactions."""

from pathlib import Path

from tests.support.fleet import Fleet

MEGABYTE = 1024 * 1024


def peak_memory(pid: int) -> int:
    """Return the peak_memory memory of a process in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def test_output_of_a_hundred_megabytes_is_shipped_in_pieces(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    size = 100 * MEGABYTE
    command = ["sh", "-c", f"head -c {size} /dev/zero"]
    fleet.define(much={"command": command, "output": {"limit": "2GiB"}}, little={"command": ["true"]})
    worker = fleet.worker()
    fleet.one("little")
    before = peak_memory(worker.pid)
    assert fleet.one("much")["state"] == "succeeded"
    assert peak_memory(worker.pid) - before < 50 * MEGABYTE
    with fleet.db.read() as conn:
        stored = conn.exec_driver_sql("SELECT sum(length(data)), count(DISTINCT run_id) FROM run_output").one()
    assert tuple(stored) == (size, 1)
