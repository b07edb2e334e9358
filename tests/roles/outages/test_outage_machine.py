"""A full disk, a spool that is gone, no open files left: the runs end with a reason, and the workers live."""

import contextlib
import ctypes
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.factory import Factory, wait_for
from tests.support.fleet import Fleet

LIBC = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB; as root it is mounted here, as anybody else in a user's namespace of a helper."""
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
    """Write until nothing more fits."""
    path = folder / "ballast"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return path


def test_a_full_disk_ends_the_run_with_a_reason(sqlite_factory: Factory, small_disk: Path) -> None:
    sqlite_factory.environment["JOBFAC_SPOOL"] = str(small_disk)
    with Fleet(sqlite_factory) as fleet:
        fleet.define(job={"command": ["cat"]}, writes={"command": ["sh", "-c", "head -c 100000 /dev/zero"]})
        worker = fleet.worker()
        ballast = fill(small_disk)
        found = fleet.one("job", payload="x" * 10000)
        assert (found["state"], "No space left on device" in found["reason"]) == ("start_failed", True)
        assert fleet.one("writes")["state"] == "failed", "the program was told that it cannot write"
        ballast.unlink()
        assert fleet.one("job", payload="x" * 10000)["state"] == "succeeded"
        assert worker.poll() is None


def test_a_spool_that_is_removed_meanwhile_is_made_again(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.define(job={"command": ["sh", "-c", "sleep 0.5; echo done"]})
    worker = fleet.worker()
    (run_id,) = fleet.start("job")
    wait_for(lambda: fleet.programs(worker), "running")
    shutil.rmtree(fleet.folder / "spool")
    assert fleet.wait(run_id)["state"] == "succeeded"
    assert fleet.text(run_id) == b"done\n"
    found = fleet.one("job")
    assert (found["state"], fleet.text(found["id"])) == ("succeeded", b"done\n")


def test_too_many_open_files_end_the_run_with_a_reason(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.define(job={"command": ["sleep", "1"]}, after={"command": ["true"]})
    worker = fleet.worker(slots=60)
    used = len(os.listdir(f"/proc/{worker.pid}/fd"))  # noqa: PTH208
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (used + 60, used + 60))
    ids = fleet.start("job", 60)
    found = fleet.finish(*ids)
    assert {row["state"] for row in found} == {"succeeded", "start_failed"}
    failed = [row for row in found if row["state"] == "start_failed"]
    assert all("too many open files" in row["reason"] for row in failed), {row["reason"] for row in failed}
    assert fleet.one("after")["state"] == "succeeded"
    assert worker.poll() is None
