"""The trust in a lease after a registration that took long."""

import threading

from jobfac.database.engine import Database
from jobfac.programs import Guardian
from jobfac.programs.guardian import clock
from jobfac.settings import Settings
from jobfac.store import workers
from jobfac.store.workers import Registration
from jobfac.worker.lease import Lease

WHO = Registration("w1", "host", 1, "token", "0", 1, ["default"], {})


def test_a_registration_that_took_long_is_followed_by_a_heartbeat_at_once(sqlite_url: str) -> None:
    settings = Settings(database_url=sqlite_url, lease=120.0, lease_margin=10.0, heartbeat=60.0)
    beaten, lost = threading.Event(), threading.Event()
    db = Database(sqlite_url)
    guardian = Guardian()
    lease = Lease(db, WHO, settings, guardian, lambda beat, load: beaten.set(), lambda in_time: lost.set())
    worker_id = db.transact(workers.register, WHO, settings.lease)
    lease.start()
    lease.adopt(worker_id, clock() - 100.0)  # 10 s of trust are left, and the next heartbeat would come in 60
    try:
        assert beaten.wait(9.0)
        assert lease.is_trusted()
        assert not lost.is_set()
    finally:
        lease.close()
        guardian.close()
        db.close()


def test_a_loss_in_which_programs_cannot_be_killed_ends_no_thread(sqlite_url: str) -> None:
    """As without a free descriptor. The worker registers again, and that lease needs its heartbeat and its watchdog."""
    settings = Settings(database_url=sqlite_url, lease=120.0, lease_margin=10.0, heartbeat=60.0)
    db, guardian = Database(sqlite_url), Guardian()

    def fail(in_time: bool) -> None:
        raise OSError(24, "Too many open files")

    lease = Lease(db, WHO, settings, guardian, lambda beat, load: None, fail)
    try:
        lease.check()
        assert lease.lost
    finally:
        guardian.close()
        db.close()
