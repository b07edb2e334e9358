"""On SQLite a lease is ended only after notice, so a long write of somebody else ends no worker's programs."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from jobfac.database.dialects import lease_notice
from jobfac.database.engine import Database
from jobfac.store import workers
from jobfac.store.workers import LeaseLost, Registration
from jobfac.worker.lease import trusted_until
from tests.hostile.test_lease_clock import Clocks, expired
from tests.hostile.test_lease_clock import clocks as clocks
from tests.hostile.test_lease_clock import db as db
from tests.support.factory import wait_for
from tests.support.fleet import Fleet

LEASE, NOTICE = 60.0, 30.0


def test_trust_is_what_the_last_promise_gives_and_never_less_than_was_known() -> None:
    assert trusted_until(0.0, sent=100.0, promise=15.0, margin=3.0) == 112.0
    assert trusted_until(112.0, sent=111.5, promise=None, margin=3.0) == 112.0
    assert trusted_until(112.0, sent=111.5, promise=7.5, margin=3.0) == 116.0
    assert trusted_until(112.0, sent=101.0, promise=7.5, margin=3.0) == 112.0, "a notice is shorter than a lease"
    assert trusted_until(112.0, sent=111.5, promise=2.0, margin=3.0) == 112.0, "a promise within the margin is none"


def registered(db: Database, name: str) -> int:
    who = Registration(name, "host", 1, name, "0", 4, ["default"], {})
    return db.transact(workers.register, who, LEASE, notice=NOTICE)


def promised(db: Database, worker_id: int) -> float | None:
    return db.query(workers.promised, worker_id)


def test_an_expiry_takes_two_steps_of_notice_and_its_period(db: Database, clocks: Clocks) -> None:
    one = registered(db, "w1")
    clocks.go(LEASE + 1)
    assert promised(db, one) == NOTICE, "the lease has run out, but nobody has noticed"
    expiry = db.transact(workers.expire, "another")
    assert (expiry.workers, expiry.pending) == ([], 1)
    assert promised(db, one) is None
    clocks.go(NOTICE + 1)
    assert expired(db) == [], "the period begins with the second step"
    clocks.go(NOTICE - 1)
    assert expired(db) == []
    clocks.go(1)
    assert expired(db) == ["w1"]
    assert promised(db, one) is None
    with pytest.raises(LeaseLost):
        db.transact(workers.renew, one, LEASE)


def test_a_heartbeat_withdraws_the_notice_and_a_turn_goes_on_meanwhile(db: Database, clocks: Clocks) -> None:
    one = registered(db, "w1")
    clocks.go(LEASE + 1)
    for _ in range(2):
        assert expired(db) == []
    clocks.go(NOTICE - 1)
    db.transact(workers.hold, one)
    db.transact(workers.renew, one, LEASE)
    assert promised(db, one) == NOTICE
    clocks.go(LEASE - 1)
    assert db.transact(workers.expire, "another").pending == 0


def test_after_the_notice_a_late_worker_has_lost_its_lease_although_nobody_ended_it(
    db: Database, clocks: Clocks
) -> None:
    one = registered(db, "w1")
    clocks.go(LEASE + 1)
    for _ in range(2):
        assert expired(db) == []
    clocks.go(NOTICE)
    for act in (lambda conn: workers.renew(conn, one, LEASE), lambda conn: workers.hold(conn, one)):
        with pytest.raises(LeaseLost):
            db.transact(act)


def test_heartbeats_of_others_give_notice_early(db: Database, clocks: Clocks) -> None:
    registered(db, "dead")
    other = registered(db, "alive")
    for _ in range(3):
        clocks.go(LEASE / 4)
        db.transact(workers.renew, other, LEASE)
        assert expired(db) == []
    clocks.go(LEASE / 4)
    assert expired(db) == ["dead"], "as soon as without notice"


def test_a_frozen_expiry_shortens_no_notice(db: Database, clocks: Clocks) -> None:
    """Its first step is not seen before it commits, so the second step counts from later than any reading before."""
    one = registered(db, "w1")
    clocks.go(LEASE + 1)
    with db.begin() as frozen:
        lease_notice.endable(frozen, [one])
        clocks.go(NOTICE - 1)
        assert promised(db, one) == NOTICE
        read_at = clocks.boot
    while not expired(db):
        clocks.go(1)
    assert clocks.boot >= read_at + NOTICE * 1000


def test_a_reboot_ends_leases_at_once(db: Database, clocks: Clocks) -> None:
    registered(db, "w1")
    for _ in range(2):
        db.transact(lambda conn: lease_notice._STEP and conn.exec_driver_sql(lease_notice._STEP))
    clocks.boot, clocks.id = 1000, "second"
    db.close()
    again = Database(db.url.render_as_string())
    assert expired(again) == ["w1"]
    again.close()


@pytest.mark.parametrize("how", ["waited", "wrote", "wrote in pieces"])
def test_who_waited_for_the_lock_or_held_it_gives_no_notice_for_a_while(
    db: Database, clocks: Clocks, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    one = registered(db, "w1")
    clocks.go(LEASE + 1)
    waits = lease_notice.Contention()
    monkeypatch.setattr(lease_notice, "contention", waits)
    now = time.monotonic()
    if how == "waited":
        waits.waited(now - NOTICE / 4)
    elif how == "wrote":
        waits.wrote(now - NOTICE / 4)
    else:
        for _ in range(5):
            waits.wrote(now - NOTICE / 10)
    assert db.transact(workers.expire, "another").pending == 1
    assert promised(db, one) == NOTICE
    assert not waits.explains(NOTICE, time.monotonic() + NOTICE), "it is forgotten after a period"
    assert not lease_notice.Contention().explains(NOTICE, now)
    clocks.go(LEASE * 10)
    assert expired(db) == []
    assert promised(db, one) is None, "a lease that ran out long ago gets notice all the same"


def test_a_series_of_long_writes_pauses_for_as_long_as_they_take() -> None:
    """Only one of many waiting writers would get into a short pause, and heartbeats are among them."""
    contention = lease_notice.Contention()
    pauses = []
    for took in (0.0, 0.5, 60.0):
        contention.wrote(time.monotonic() - took)
        pauses.append(round(contention.pause, 1))
    assert pauses == [0.1, 0.5, lease_notice.LONGEST_PAUSE]


def test_threads_that_write_for_a_stretch_leave_a_pause_for_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """These poll ten times a second. Their heartbeats waited until programs of healthy workers were ended."""
    contention, pauses = lease_notice.Contention(), list[float]()
    monkeypatch.setattr(lease_notice, "time", SimpleNamespace(monotonic=time.monotonic, sleep=pauses.append))
    paused_before = []
    for took in (0.01, 0.2, 0.2, 0.01, 0.4, 0.01, 0.01):
        contention.rest(time.monotonic())
        paused_before.append(len(pauses))
        contention.wrote(time.monotonic() - took)
    assert paused_before == [0, 0, 0, 1, 1, 2, 2]
    assert set(pauses) == {lease_notice.PAUSE}


@pytest.fixture
def locked(sqlite_fleet: Fleet) -> Iterator[sqlite3.Connection]:
    path = str(sa.make_url(sqlite_fleet.factory.url).database)
    connection = sqlite3.connect(path, isolation_level=None, timeout=20, check_same_thread=False)
    yield connection
    connection.close()


def test_a_write_longer_than_two_leases_ends_no_program(sqlite_fleet: Fleet, locked: sqlite3.Connection) -> None:
    """Three workers, so that each could expire the others as soon as the lock is free."""
    fleet = sqlite_fleet
    fleet.define(long=fleet.journal.job(9, restartable=False))
    ids = fleet.start("long", 3)
    roles = [fleet.worker(f"w{number}", slots=1) for number in range(3)]
    scheduler = fleet.factory.role("scheduler")
    before = [fleet.registration(role)["id"] for role in roles]
    wait_for(lambda: len(fleet.journal.lines("start")) == 3, "all run")
    locked.execute("BEGIN IMMEDIATE")
    threading.Event().wait(6.5)  # more than two leases of 3 s
    locked.execute("ROLLBACK")
    assert [row["state"] for row in fleet.finish(*ids)] == ["succeeded"] * 3
    assert [fleet.registration(role)["id"] for role in roles] == before
    assert "self_fence" not in fleet.logs()
    assert scheduler.poll() is None
