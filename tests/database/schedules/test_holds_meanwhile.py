"""Holds that are placed or released while a scheduler inserts due runs."""

from typing import Any

import pytest
import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import run, schedule
from jobfac.operations import holds
from jobfac.operations.caller import Caller
from jobfac.store import schedules
from jobfac.store.holds.placing import Scope
from jobfac.store.schedules import arriving, following
from jobfac.store.schedules.arriving import ArrivedFile
from jobfac.views.holds import HoldView
from tests.support.database import Hand, start, states

ME = Caller("me")


def hold(db: Database) -> HoldView:
    return holds.hold(db, ME, Scope(job="skip"), "why")


@pytest.mark.parametrize("policy", ["deny", "replace"])
def test_what_is_due_under_a_hold_queues(db: Database, policy: str) -> None:
    with db.read() as conn:
        now = conn.execute(sa.select(utcnow())).scalar_one()
    daily = f"{now.minute} {now.hour} * * *"  # not each minute: the next one may begin meanwhile
    clocks = [{"name": name, "cron": daily, "missed": "all"} for name in "ab"]
    rules = [*clocks, {"after": {"job": "first"}}, {"file": "/in/*"}]
    wanted = {"first": {"command": ["x"]}, "skip": {"command": ["x"], "already_running": policy, "schedules": rules}}
    for job, one in d.from_data({"jobs": wanted}).jobs.items():
        db.transact(schedules.put, job, one, "me")
    found = hold(db)
    for name in "ab":
        is_due = {"fire_at": now, "next_due_at": now.replace(second=0, microsecond=0)}
        with db.begin() as conn:
            conn.execute(schedule.update().where(schedule.c.name == name).values(is_due))
        db.transact(schedules.insert_due, "s1")
        start(db, "first", priority=5)
        worker = Hand(db, "w")
        worker.end(worker.take())
        db.transact(following.insert_followers, "s1")
    (watch,) = db.query(arriving.watched, ["default"])
    db.transact(arriving.start_arrived, watch, [ArrivedFile(f"/in/{name}", 1, 1) for name in "ab"])
    with db.read() as conn:
        ids = list(conn.execute(sa.select(run.c.id).where(run.c.job == "skip").order_by(run.c.id)).scalars())
    assert len(ids) == 6
    assert not {"denied", "stopped"} & set(states(db, ids))
    holds.release(db, ME, found.id)
    while claimed := worker.claim(1):
        worker.end(claimed[0])
    assert states(db, ids) == ["succeeded"] * 6


@pytest.mark.parametrize("is_released", [False, True])
def test_a_hold_that_changes_before_the_due_schedules_are_locked_counts(db: Database, is_released: bool) -> None:
    bodies = {"skip": {"command": ["x"], "schedules": [{"cron": "* * * * *", "missed": "skip"}]}}
    db.transact(schedules.put, "skip", d.from_data({"jobs": bodies}).jobs["skip"], "me")
    with db.begin() as conn:
        now = conn.execute(sa.select(utcnow())).scalar_one()
        conn.execute(schedule.update().values(fire_at=now, next_due_at=now.replace(second=0, microsecond=0)))
    changes = [hold(db)] if is_released else []

    def change() -> HoldView:
        return holds.release(db, ME, changes[0].id) if is_released else hold(db)

    def listen(conn: Any, cursor: Any, statement: str, *more: Any) -> None:
        if "FROM jobfac.schedule WITH (UPDLOCK" in statement and len(changes) == is_released:
            changes.append(change())

    if db.dialect.name == "sqlite":  # one writer: nothing changes between two statements
        changes.append(change())
    else:
        sa.event.listen(db.engine, "before_cursor_execute", listen)
    assert bool(db.transact(schedules.insert_due, "s1").runs) == is_released
    assert len(changes) == 1 + is_released
