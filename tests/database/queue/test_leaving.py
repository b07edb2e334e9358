"""A worker that deregisters: what its heartbeat finds then is no loss."""

import threading

import pytest

from jobfac.database.engine import Database
from jobfac.programs import Guardian
from jobfac.settings import Settings
from jobfac.store import sequences, workers
from jobfac.worker.identity import registration
from jobfac.worker.lease import Lease

SHORT = Settings(heartbeat=0.02, lease=0.5, lease_margin=0.1)


@pytest.mark.parametrize("leaves", [True, False])
def test_a_lease_that_ends_by_deregistration_is_not_lost(
    sqlite_url: str, caplog: pytest.LogCaptureFixture, leaves: bool
) -> None:
    db, lost = Database(sqlite_url), threading.Event()
    who = registration("w1", 1, ("default",), {})
    lease = Lease(db, who, SHORT, Guardian(), lambda beat, load: None, lambda until: lost.set())
    lease.adopt(db.transact(workers.register, who, 0.5), 0.0)
    if leaves:
        lease.leave()
    db.transact(sequences.deregister, lease.worker_id, "w1")  # the heartbeat is still at work
    lease.start()
    assert lost.wait(0.7 if leaves else 10) is not leaves
    lease.close()
    db.close()
    said = [line.getMessage() for line in caplog.records if line.levelname != "DEBUG"]
    assert bool({"lease lost", "lease not renewed in time"} & set(said)) is not leaves
