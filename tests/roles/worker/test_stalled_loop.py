"""A worker whose loop hangs does not renew its lease, although its heartbeat thread is alive."""

from tests.support.factory import wait_for
from tests.support.fleet import Fleet


def test_the_runs_of_a_worker_with_a_stalled_loop_restart_elsewhere(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    hang = fleet.folder / "hang"
    fleet.define(long=fleet.journal.job(600), other={"command": ["true"], "labels": {"only": "first"}})
    (run_id,) = fleet.start("long")
    first = fleet.worker("first", "--label", "only=first", JOBFAC_HANG_AT="started", JOBFAC_HANG_WHILE=str(hang))
    wait_for(lambda: fleet.programs(first), "running")
    hang.touch()
    fleet.start("other")
    fleet.worker("second")
    wait_for(lambda: fleet.get(run_id)["worker"] == "second", "taken over")
    assert not fleet.journal.doubled()
    assert '"action": "loop_stalled"' in fleet.log(first)
    hang.unlink()
    wait_for(lambda: "registered again" in fleet.log(first), "well again")
    assert fleet.get(run_id)["worker"] == "second"
