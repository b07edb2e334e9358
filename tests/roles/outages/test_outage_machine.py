"""A full disk, a deleted spool, no free descriptors: no run fails because of it, and the workers stay and report it."""

import contextlib
import ctypes
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobfac.store import workers
from tests.support.factory import Factory, wait_for
from tests.support.fleet import Fleet

LIBC = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB. Root mounts it here; other users mount it in the user namespace of a helper process."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if LIBC.mount(b"none", bytes(folder), b"tmpfs", 0, b"size=256k,mode=0700") == 0:
        yield folder
        LIBC.umount2(bytes(folder), 2)
        return
    words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    script = 'mount -t tmpfs -o size=256k,mode=0700 none "$1" && echo ready && read line'
    with subprocess.Popen(
        [*words, script, "sh", str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as helper:
        assert helper.stdout is not None
        assert helper.stdout.readline() == "ready\n", "no file system can be mounted here, not even in a namespace"
        yield Path(f"/proc/{helper.pid}/root{folder}")
        helper.communicate("\n")


def fill(folder: Path) -> Path:
    """Write until the file system is full."""
    path = folder / "ballast"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return path


def message(fleet: Fleet, name: str) -> str:
    """Return the message of a worker in the fleet."""
    (found,) = [one for one in fleet.db.query(workers.workers) if one.name == name]
    return found.message or ""


def test_with_a_full_disk_runs_are_requeued_until_there_is_space(sqlite_factory: Factory, small_disk: Path) -> None:
    sqlite_factory.environment["JOBFAC_SPOOL"] = str(small_disk)
    with Fleet(sqlite_factory) as fleet:
        command = {"command": ["echo", "done"], "retry": {"attempts": 2}, "restartable": False}
        fleet.define(job=command, writes={"command": ["sh", "-c", "head -c 400000 /dev/zero"]})
        worker = fleet.worker("sick")
        assert fleet.one("writes")["state"] == "failed", "the program got the error that it cannot write"
        # The outcome is stored before the files are removed, which would make room again.
        wait_for(lambda: [path.name for path in small_disk.glob("*/*")] == ["lock"], "the files of the run are removed")
        ballast = fill(small_disk)
        ids = fleet.start("job", 3)
        wait_for(lambda: message(fleet, "sick").startswith("unhealthy: no space in"), "it says so")
        found = fleet.get(ids[0])
        assert (found["state"], found["failures"]) == ("queued", 0)
        assert "No space left on device" in fleet.attempts(ids[0])[0]["reason"]
        fleet.worker("well", JOBFAC_SPOOL=str(fleet.folder / "spool"))
        assert {(row["state"], row["worker"]) for row in fleet.finish(*ids)} == {("succeeded", "well")}
        ballast.unlink()
        wait_for(lambda: not message(fleet, "sick"), "it is well again")
        assert worker.poll() is None


def test_a_worker_claims_again_after_a_fault_of_the_machine(sqlite_factory: Factory, small_disk: Path) -> None:
    sqlite_factory.environment["JOBFAC_SPOOL"] = str(small_disk)
    with Fleet(sqlite_factory) as fleet:
        fleet.define(job={"command": ["cat"]})
        fleet.worker("sick")
        ballast = fill(small_disk)
        ids = fleet.start("job", 3, payload="x" * 10000)
        wait_for(lambda: message(fleet, "sick"), "it is ill")
        ballast.unlink()
        assert {row["state"] for row in fleet.finish(*ids)} == {"succeeded"}


def test_a_removed_spool_is_created_again(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    go = fleet.folder / "go"
    fleet.define(job={"command": ["sh", "-c", f"until [ -e '{go}' ]; do sleep 0.05; done; echo done"]})
    worker = fleet.worker()
    (run_id,) = fleet.start("job")
    wait_for(lambda: fleet.programs(worker), "running")
    shutil.rmtree(fleet.folder / "spool")
    go.touch()
    assert fleet.wait(run_id)["state"] == "succeeded"
    assert fleet.text(run_id) == b"done\n"
    found = fleet.one("job")
    assert (found["state"], fleet.text(found["id"])) == ("succeeded", b"done\n")


def test_with_few_open_files_fewer_programs_run_at_once(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.define(job={"command": ["sleep", "0.2"]})
    worker = fleet.worker(slots=60)
    fleet.one("job")  # what a worker opens for its start alone is closed after it
    used = len(os.listdir(f"/proc/{worker.pid}/fd"))  # noqa: PTH208
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (used + 60, used + 60))
    assert {row["state"] for row in fleet.finish(*fleet.start("job", 20))} == {"succeeded"}
    assert worker.poll() is None


def test_without_free_descriptors_nothing_is_claimed_and_the_fleet_shows_why(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.define(job={"command": ["true"]})
    worker = fleet.worker("w1")
    fleet.one("job")  # as above
    used = len(os.listdir(f"/proc/{worker.pid}/fd"))  # noqa: PTH208
    _, hard = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (used + 20, hard))
    (run_id,) = fleet.start("job")
    wait_for(lambda: message(fleet, "w1") == "unhealthy: too many open files in this worker", "it says so")
    assert (fleet.get(run_id)["state"], fleet.get(run_id)["attempt"]) == ("queued", 0)
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (used + 200, hard))
    assert fleet.wait(run_id)["state"] == "succeeded"
