"""What a program does to its output file does not end its worker."""

import os
import tempfile
from pathlib import Path

import pytest

from jobfac.programs import Spool
from tests.support.fleet import Fleet

DIRECT = """
import fcntl, os, sys
os.write(1, b"said")
try:
    fcntl.fcntl(1, fcntl.F_SETFL, os.O_DIRECT)
except OSError:
    sys.exit("this file system has no direct reads")
"""


def test_a_program_cannot_keep_the_worker_from_reading(sqlite_fleet: Fleet, crossroads: Path) -> None:
    """Direct reads need aligned buffers. They are a property of an open file that is shared with who inherited it."""
    fleet = sqlite_fleet
    fleet.define(direct={"command": ["python3", "-c", DIRECT]}, fine={"command": ["true"]})
    spool = crossroads / "spool"
    fleet.worker(JOBFAC_SPOOL=str(spool))
    found = fleet.one("direct")
    if found["exit_code"]:
        pytest.skip(fleet.text(found["id"], "stderr").decode())
    assert fleet.text(found["id"]) == b"said"
    assert fleet.one("fine")["state"] == "succeeded"


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="without a file system for files of any length")
def test_the_longest_file_does_not_become_an_offset_that_no_database_takes() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        spool = Spool(Path(folder, "1-1.stdout"), 1 << 20)
        chunks = []
        for _ in range(3):
            os.ftruncate(spool.fd, 2**63 - 1)
            chunks += spool.read()
            os.ftruncate(spool.fd, 0)
            chunks += spool.read()
            os.write(spool.fd, b"anew")
            chunks += spool.read()
        spool.close(delete=True)
    assert max(chunk.offset + len(chunk.data) for chunk in chunks) < 10**15
