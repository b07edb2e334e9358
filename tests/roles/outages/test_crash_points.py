"""A worker dies at each failpoint. Another one completes all runs, and no run is executed twice at once."""

import pytest

from jobfac.worker.failpoints import POINTS
from tests.support.engines import DRIVERS
from tests.support.factory import wait_for
from tests.support.fleet import Fleet

SHORTER = {"JOBFAC_LEASE": "1.5", "JOBFAC_LEASE_MARGIN": "0.5"}


def crash(fleet: Fleet, point: str) -> None:
    """Execute six runs on a worker that dies at the failpoint, and then on another one."""
    fleet.define(brief=fleet.journal.job(0.1), bad=fleet.journal.job(0.1, code=3))
    ids = fleet.start("brief", 5) + fleet.start("bad")
    first = fleet.factory.role("worker", "--name", "first", "--slots", "3", JOBFAC_CRASH_AT=point, **SHORTER)
    assert wait_for(lambda: first.poll() is not None and first.returncode, f"dead at {point}") == -9
    wait_for(lambda: not fleet.programs(first), "its programs gone", timeout=2.0)
    fleet.worker("second", slots=3)
    found = fleet.finish(*ids)
    assert [row["state"] for row in found] == ["succeeded"] * 5 + ["failed"]
    assert found[-1]["exit_code"] == 3
    assert not fleet.journal.doubled()
    ends = {(line.run, line.attempt): line.value for line in fleet.journal.lines("end")}
    for row in found:
        *before, last = fleet.attempts(row["id"])
        assert (last["number"], last["exit_code"]) == (row["attempt"], ends[row["id"], row["attempt"]])
        # One, unless the first worker had lost its short lease on a busy machine before it died.
        assert {(one["worker"], one["state"]) for one in before} <= {("first", "lost")}
    if point in ("gathered", "turn_began", "outcomes_written", "claimed_uncommitted"):
        assert all(row["attempt"] == 1 for row in found), "what was not committed did not happen"


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_at_each_failpoint_on_sqlite(sqlite_fleet: Fleet, point: str) -> None:
    crash(sqlite_fleet, point)


@pytest.mark.mssql
@pytest.mark.parametrize("url", DRIVERS, indirect=True)
@pytest.mark.parametrize("point", ["claimed_uncommitted:2", "committed:2"])
def test_a_crash_at_main_failpoints_on_the_test_server(fleet: Fleet, point: str) -> None:
    crash(fleet, point)
