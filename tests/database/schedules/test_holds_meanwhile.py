"""Holds that are placed or released while a scheduler inserts due runs."""

from typing import Any

import pytest
import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import schedule
from jobfac.operations import holds
from jobfac.operations.caller import Caller
from jobfac.store import schedules
from jobfac.store.holds.placing import Scope
from jobfac.views.holds import HoldView

ME = Caller("me")


def hold(db: Database) -> HoldView:
    return holds.hold(db, ME, Scope(job="skip"), "why")


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
