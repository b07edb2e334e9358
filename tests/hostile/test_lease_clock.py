"""Leases on SQLite use a clock that does not step, and end with a reboot of the machine."""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac.database.dialects import lease_clock
from jobfac.database.engine import Database
from jobfac.database.tables import worker_lease
from jobfac.programs.guardian import clock
from jobfac.store import workers
from jobfac.store.workers import LeaseLost, Registration
from tests.support.database import Hand

HOUR = 3_600_000


class Clocks:
    """The machine's two clocks, which the test sets."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.wall, self.boot, self.id = lease_clock.wall_ms(), lease_clock.boot_ms(), "first"
        patch.setattr(lease_clock, "wall_ms", lambda: self.wall)
        patch.setattr(lease_clock, "boot_ms", lambda: self.boot)
        patch.setattr(lease_clock, "boot_id", lambda: self.id)

    def go(self, seconds: float) -> None:
        """Let time pass."""
        self.wall += round(seconds * 1000)
        self.boot += round(seconds * 1000)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


@pytest.fixture
def db(sqlite_url: str, clocks: Clocks) -> Iterator[Database]:
    """Only on SQLite: SQL Server has its own clock."""
    made = Database(sqlite_url)
    with made.begin() as conn:  # remove the values of the real clocks from the template
        conn.exec_driver_sql("DROP TABLE IF EXISTS lease_clock")
    again = Database(sqlite_url)
    made.close()
    yield again
    again.close()


def expired(db: Database) -> list[str]:
    return db.transact(workers.expire, "another").workers


def read_clocks() -> tuple[float, float]:
    """The clock of leases and the clock by which a worker trusts its own, in seconds."""
    return lease_clock.boot_ms() / 1000, clock()


def ahead(name: str, which: Collection[tuple[int, ...]]) -> Callable[..., Any]:
    """Return a function of ``time`` that is an hour ahead, when it is called with some arguments."""
    read, hour = getattr(time, name), HOUR * 10**6 if name.endswith("_ns") else 3600
    return lambda *of: read(*of) + hour * (of in which)


@pytest.mark.parametrize(
    ("which", "moved"),
    [([(), (time.CLOCK_REALTIME,)], 0), ([(time.CLOCK_BOOTTIME,)], 3600)],
    ids=["set forward", "suspended"],
)
def test_the_clocks_of_leases_follow_no_wall_clock_and_include_suspension(
    monkeypatch: pytest.MonkeyPatch, which: list[tuple[int, ...]], moved: float
) -> None:
    before = read_clocks()
    for name in ("time", "time_ns", "clock_gettime", "clock_gettime_ns"):
        monkeypatch.setattr(time, name, ahead(name, which))
    for now, then in zip(read_clocks(), before, strict=True):
        assert abs(now - then - moved) < 60


@pytest.mark.parametrize("step", [HOUR, -HOUR, 60_000, 700])
def test_setting_the_clock_changes_no_lease(db: Database, clocks: Clocks, step: int) -> None:
    one = Hand(db, "w1")
    clocks.wall += step
    assert expired(db) == []
    clocks.go(59)
    assert expired(db) == []
    one.renew()
    clocks.go(59)
    assert expired(db) == []
    clocks.go(2)
    assert expired(db) == ["w1"]


def test_the_lease_still_reads_as_a_time_of_day_after_the_clock_was_set(db: Database, clocks: Clocks) -> None:
    one, _ = Hand(db, "w1"), Hand(db, "w2")
    clocks.go(45)
    clocks.wall += HOUR
    one.renew()
    with db.read() as conn:
        ends = conn.execute(sa.select(worker_lease.c.lease_until).order_by(worker_lease.c.worker_id)).scalars().all()
    assert abs(ends[0].timestamp() * 1000 - clocks.wall - 60_000) < 5
    assert abs(ends[1].timestamp() * 1000 - clocks.wall - 15_000) < 5
    assert ends[0] - ends[1] == timedelta(seconds=45)


def test_leases_end_with_a_reboot(db: Database, clocks: Clocks, sqlite_url: str) -> None:
    one = Hand(db, "w1")
    clocks.id, clocks.boot = "second", 5_000
    clocks.wall -= HOUR  # the battery of the hardware clock is empty too
    booted = Database(sqlite_url)
    assert expired(booted) == ["w1"]
    with pytest.raises(LeaseLost):
        booted.transact(workers.renew, one.id, 15.0)
    Hand(booted, "w2").renew()
    clocks.go(59)
    assert expired(booted) == []
    booted.close()


def test_leases_end_with_a_reboot_of_a_machine_whose_clock_always_begins_at_the_same_time(
    db: Database, clocks: Clocks, sqlite_url: str
) -> None:
    """It has no battery and no network. Its workers would be alive for as long as it ran before."""
    began = clocks.wall - clocks.boot
    who = Registration("w1", "host", 1, "w1", "0", 1, pools=["default"], labels={})
    one = db.transact(workers.register, who, 60.0, notice=30.0)
    clocks.id, other = "of a container", Database(sqlite_url)
    assert expired(other) == []
    db.transact(workers.renew, one, 60.0)
    clocks.id, clocks.boot, clocks.wall = "second", 5_000, began + 5_000
    booted = Database(sqlite_url)
    assert expired(booted) == ["w1"]
    for made in (other, booted):
        made.close()


@pytest.mark.parametrize(
    ("first", "second"), [("first", lease_clock.UNKNOWN), (lease_clock.UNKNOWN, "first"), ("first", "of a container")]
)
def test_a_process_that_reads_another_boot_id_or_none_ends_no_lease(
    db: Database, clocks: Clocks, sqlite_url: str, first: str, second: str
) -> None:
    """Under ``ProcSubset=pid`` of systemd there is no /proc/sys. systemd-nspawn and LXC make an id for a container."""
    clocks.id = first
    one = Hand(db, "w1")
    clocks.id, other = second, Database(sqlite_url)
    assert expired(other) == []
    one.renew()
    clocks.id, again = "first", Database(sqlite_url)
    assert expired(again) == []
    clocks.id, clocks.boot, booted = lease_clock.UNKNOWN, 5_000, Database(sqlite_url)
    assert expired(booted) == ["w1"]
    for made in (other, again, booted):
        made.close()


def test_a_process_with_another_clock_expires_no_worker(db: Database, clocks: Clocks, sqlite_url: str) -> None:
    one = Hand(db, "w1")
    clocks.wall += 2 * HOUR
    ahead = Database(sqlite_url)
    assert expired(ahead) == []
    clocks.wall -= 2 * HOUR
    one.renew()
    assert expired(ahead) == []
    ahead.close()


def test_a_failed_transaction_leaves_the_clock_intact(db: Database) -> None:
    with pytest.raises(ZeroDivisionError), db.begin():
        raise ZeroDivisionError
    Hand(db, "w1").renew()


def test_a_server_whose_clock_is_set_forward_ends_no_lease_for_the_time_of_a_lease(clocks: Clocks) -> None:
    steps, lease = lease_clock.ForwardSteps(), timedelta(seconds=15)
    at = datetime.fromtimestamp(lease_clock.wall_ms() / 1000, UTC)

    def answered(after: float, ahead: float = 0.0, slow: float = 0.0) -> bool:
        """The server is asked ``after`` seconds, its clock is ``ahead``, and its answer comes ``slow``."""
        clocks.go(after)
        sent = lease_clock.boot_ms()
        clocks.go(slow)
        steps.note(at + timedelta(milliseconds=sent - begun, seconds=ahead + slow / 2), sent)
        return steps.is_over(lease)

    begun = lease_clock.boot_ms()
    assert (answered(0), answered(16)) == (False, True), "it has just started"
    assert all((answered(5), answered(5, slow=2), answered(5), answered(5, -3600)))
    assert not answered(5, -3598), "set forward by two seconds"
    assert (answered(10, -3598), answered(6, -3598)) == (False, True)
    assert (answered(5, 3600), answered(14, 3600), answered(2, 3600)) == (False, False, True)


class Server:
    """A server that answers some time after it is asked, or not, as a process sees it whose leases last 15 s."""

    def __init__(self, clocks: Clocks, steps: lease_clock.ForwardSteps) -> None:
        self._clocks = clocks
        self._ahead = lease_clock.wall_ms() - lease_clock.boot_ms()
        self.steps = steps

    def answers(self, after: float, slow: float = 0.0, begun: float = 0.0) -> bool:
        """It is asked ``after`` seconds. Returns whether leases may be ended then. ``begun``: the transaction's age."""
        self._clocks.go(after)
        sent = lease_clock.boot_ms()
        self._clocks.go(slow)
        now = datetime.fromtimestamp((self._ahead + lease_clock.boot_ms()) / 1000, UTC)
        self.steps.note(now, sent, sent - round(1000 * begun) if begun else None)
        return self.steps.is_over(timedelta(seconds=15))

    def takes(self, seconds: float, error: bool = False, waits: float = 0.0) -> None:
        """Another request takes so long, of which it may wait on purpose, and fails if there is an ``error``."""

        def work() -> None:
            self._clocks.go(seconds)
            if error:
                raise sa.exc.OperationalError("", None, Exception())

        with suppress(sa.exc.OperationalError):
            self.steps.watch(work, waits)


@pytest.fixture
def server(clocks: Clocks) -> Server:
    """A server that a process has watched for longer than a lease."""
    made = Server(clocks, lease_clock.ForwardSteps())
    made.answers(0)
    assert made.answers(16)
    return made


def test_after_an_outage_of_the_server_nobody_ends_a_lease_for_the_time_of_a_lease(server: Server) -> None:
    """The first one that is back would take the others for dead. They live, and store how their programs ended."""
    assert all((server.answers(10), server.answers(60))), "nobody was silent: there was nothing to ask"
    server.takes(5, error=True)
    assert server.answers(0), "too short to end a lease"
    server.takes(3)
    assert server.answers(6), "the process was busy with other things"
    server.takes(5, waits=5)
    assert server.answers(6), "it waited for work, and the process was busy with other things"
    server.takes(22, error=True)
    assert (server.answers(0), server.answers(14), server.answers(2)) == (False, False, True)


def test_a_server_that_was_frozen_was_silent_too(server: Server) -> None:
    """No request has failed: their answers came late. A scheduler may have asked late, or for something else."""
    assert (server.answers(1, slow=9), server.answers(16)) == (False, True)
    assert (server.answers(5, slow=7), server.answers(16)) == (False, True)
    server.takes(12)
    assert (server.answers(0), server.answers(16)) == (False, True)
    assert (server.answers(0, begun=12), server.answers(16)) == (True, True), "others were answered meanwhile"
    assert (server.answers(12, begun=12), server.answers(16)) == (False, True)


def test_many_slow_answers_after_an_outage_do_not_hide_it(server: Server) -> None:
    """A server that has just come up is slow."""
    server.takes(22, error=True)
    assert not any(server.answers(0, slow=1.2) for _ in range(12))
    assert server.answers(2)


def test_while_logins_are_refused_the_others_wait_long_for_their_next_one(server: Server) -> None:
    for _ in range(4):
        server.takes(60, error=True)
        server.steps.refused(60)
    assert (server.answers(0), server.answers(74), server.answers(2)) == (False, False, True)
    assert server.answers(5), "the last pause is over"


def test_a_process_that_has_just_started_does_not_know_whether_there_was_an_outage(clocks: Clocks) -> None:
    """A service manager starts it again and again in an outage. The workers that live need a moment longer than it."""
    server = Server(clocks, lease_clock.ForwardSteps())
    server.takes(20, error=True)
    assert (server.answers(0), server.answers(14), server.answers(2)) == (False, False, True)
    server = Server(clocks, lease_clock.ForwardSteps())
    server.takes(0)
    assert (server.answers(14), server.answers(2)) == (False, True), "its first answer counts, whatever it asked"
