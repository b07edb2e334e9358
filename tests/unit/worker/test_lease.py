"""The trust in a lease: after a registration that took long, and after the worker was frozen; what follows its loss."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from jobfac.database.engine import Database
from jobfac.errors import Unreachable
from jobfac.programs import Guardian
from jobfac.programs.guardian import clock
from jobfac.settings import Settings
from jobfac.store import workers
from jobfac.store.workers import Registration
from jobfac.store.workers.draining import LEAVING
from jobfac.worker import lease as module
from jobfac.worker.lease import Lease
from jobfac.worker.worker import Worker

WHO = Registration("w1", "host", 1, "token", "0", 1, ["default"], {})


def test_a_registration_that_took_long_is_followed_by_a_heartbeat_at_once(sqlite_url: str) -> None:
    settings = Settings(database_url=sqlite_url, lease=120.0, lease_margin=10.0, heartbeat=60.0)
    beaten, lost = threading.Event(), threading.Event()
    db = Database(sqlite_url)
    guardian = Guardian()
    lease = Lease(db, WHO, settings, guardian, lambda beat, load: beaten.set(), lambda until: lost.set())
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

    def fail(until: float) -> None:
        raise OSError(24, "Too many open files")

    lease = Lease(db, WHO, settings, guardian, lambda beat, load: None, fail)
    try:
        lease.check()
        assert lease.lost
    finally:
        guardian.close()
        db.close()


@pytest.mark.parametrize("first", [Lease._beat, Lease.check])
def test_a_renewal_after_the_guardian_has_acted_restores_no_trust(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, first: Callable[[Lease], object]
) -> None:
    """A machine with the only worker was suspended: nobody has ended the lease, but the programs are killed."""
    settings = Settings(database_url=sqlite_url, lease=120.0, lease_margin=10.0, heartbeat=60.0)
    db, guardian, lost = Database(sqlite_url), Guardian(), list[float]()
    lease = Lease(db, WHO, settings, guardian, lambda beat, load: None, lost.append)
    lease.adopt(db.transact(workers.register, WHO, settings.lease, notice=60.0), clock())
    monkeypatch.setattr(module, "clock", lambda: clock() + 113.0)
    try:
        first(lease)
        lease.check()
        assert not lease.is_trusted()
        (until,) = lost
        assert until < clock() + 113.0, "nobody knows which programs ended by themselves"
    finally:
        guardian.close()
        db.close()


@pytest.mark.parametrize(("age", "stalled"), [(59.0, False), (61.0, True)])
def test_a_loop_that_has_not_turned_for_half_a_lease_gets_no_renewal(
    sqlite_url: str, age: float, stalled: bool
) -> None:
    settings = Settings(database_url=sqlite_url, lease=120.0, lease_margin=10.0, heartbeat=0.05)
    renewed = threading.Event()
    db, guardian = Database(sqlite_url), Guardian()
    lease = Lease(db, WHO, settings, guardian, lambda beat, load: renewed.set(), lambda until: None, lambda: age)
    lease.adopt(db.transact(workers.register, WHO, settings.lease), clock())
    lease.start()
    try:
        assert renewed.wait(0.3 if stalled else 9.0) != stalled
    finally:
        lease.close()
        guardian.close()
        db.close()


def test_a_lost_lease_ends_programs_once(sqlite_url: str) -> None:
    """The loop and the heartbeat learn it at the same time. The second one must not take programs that the first has
    killed for programs that ended by themselves."""
    settings = Settings(database_url=sqlite_url, lease=120.0, lease_margin=10.0, heartbeat=60.0)
    db, guardian, lost = Database(sqlite_url), Guardian(), list[float]()
    lease = Lease(db, WHO, settings, guardian, lambda beat, load: None, lost.append)
    lease.adopt(7, clock())
    try:
        lease.lose(6, "of a former registration")
        assert lease.is_trusted()
        lease.lose(7, "said a turn")
        lease._beat()  # there is no worker 7
        assert lease.lost
        (until,) = lost
        assert until > clock()
    finally:
        guardian.close()
        db.close()


def test_a_worker_that_is_told_to_leave_while_it_claims_says_so(tmp_path: Path) -> None:
    worker = Worker(Database(f"sqlite:///{tmp_path}/jobfac.db"), Settings(spool=str(tmp_path)), name="w1", slots=1)
    worker._inbox.put_drain(time.monotonic() + 60)
    worker._read_inbox()
    assert worker._health.to_show() is None, "it may leave at once"
    worker._held.live[1, 1] = MagicMock()
    worker._read_inbox()
    assert worker._health.to_show() == LEAVING


@pytest.mark.parametrize(
    ("holds", "gives_up", "leaves"), [(True, False, False), (True, True, True), (False, False, True)]
)
def test_a_worker_that_leaves_waits_with_its_outcomes_for_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holds: bool, gives_up: bool, leaves: bool
) -> None:
    worker = Worker(Database(f"sqlite:///{tmp_path}/jobfac.db"), Settings(spool=str(tmp_path)), name="w1", slots=1)
    monkeypatch.setattr(worker, "_register", MagicMock(side_effect=Unreachable("it is locked")))
    monkeypatch.setattr(worker, "_compose", MagicMock())
    monkeypatch.setattr("jobfac.worker.worker.replace", MagicMock())
    if holds:
        execution = MagicMock(process=None)
        execution.claimed.sequence_run_id = None
        worker._held.over.append((execution, MagicMock()))
    worker._phases.signal(time.monotonic(), gives_up)
    worker._register_again()
    assert worker._is_done() == leaves
