"""A scheduler with inconsistent data neither overloads the database nor fills the log."""

import pytest
import sqlalchemy as sa

from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import schedule, worker, worker_lease
from jobfac.scheduler import Scheduler
from jobfac.scheduler.backoff import MAX_EXPIRY_PAUSE, expiry_pause
from jobfac.settings import Settings
from tests.support.database import Hand
from tests.support.factory import wait_for
from tests.support.fleet import Fleet

HOURS = 2 * 3600 * 1000


def test_expiries_without_effect_become_rare() -> None:
    pauses = [expiry_pause(number) for number in range(1000)]
    assert pauses[:3] == [0.02, 0.04, 0.08]
    assert pauses[-1] == MAX_EXPIRY_PAUSE
    spent, number = 0.0, 0
    while spent < 22:
        spent, number = spent + pauses[number], number + 1
    assert number < 15


def test_a_scheduler_pauses_so_until_a_worker_expires(sqlite_fleet: Fleet) -> None:
    one = Scheduler(sqlite_fleet.db, Settings(), "s")
    assert [one._expire() for _ in range(12)] == [expiry_pause(number) for number in range(1, 13)]
    Hand(sqlite_fleet.db, "w1").lapse()
    assert one._expire() == 0.0
    assert one._expire() == expiry_pause(1)


def test_a_scheduler_whose_clock_is_ahead_logs_it_and_backs_off(sqlite_fleet: Fleet) -> None:
    """The scheduler's wall clock is hours ahead of the lease clock, so it sees an expired lease that is still valid."""
    fleet = sqlite_fleet
    Hand(fleet.db, "w1")
    with fleet.db.begin() as conn:
        conn.exec_driver_sql("UPDATE lease_clock SET ahead = ahead - ?", (HOURS,))
        conn.execute(worker_lease.update().values(lease_until=utcnow(10_000 - HOURS)))
    one = fleet.factory.role("scheduler")
    wait_for(lambda: "clocks disagree" in fleet.log(one), "said so")
    assert fleet.log(one).count("clocks disagree") == 1
    with fleet.db.read() as conn:
        assert conn.execute(sa.select(worker.c.state)).scalar_one() == "active"


def test_a_disabled_jobs_schedule_is_named_once(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    schedules = [{"cron": "* * * * *", "missed": "once"}]
    fleet.factory.apply({"off": {"command": ["true"], "enabled": False, "schedules": schedules}})
    one = fleet.factory.role("scheduler")

    def fired(db: Database) -> None:
        with db.begin() as conn:
            due = {"fire_at": utcnow(-1), "next_due_at": utcnow(-61_000), "last_due_at": None}
            conn.execute(schedule.update().values(due))
        wait_for(lambda: _next(db) > 0, "moved on")

    for _ in range(3):
        fired(fleet.db)
    assert fleet.log(one).count("due run not started") == 1


def _next(db: Database) -> float:
    with db.read() as conn:
        due, now = conn.execute(sa.select(schedule.c.fire_at, utcnow())).one()
    return float((due - now).total_seconds())


@pytest.mark.parametrize("number", [-1, 0])
def test_the_first_expiry_is_never_delayed(number: int) -> None:
    assert expiry_pause(number) == 0.02
