"""Place and release holds, and remove those that ended long ago."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import PASS, utcnow
from jobfac.database.dialects.rows import delete
from jobfac.database.tables import schedule, start_hold
from jobfac.database.types import truncate_utf16
from jobfac.store import audit, jobs, outbox
from jobfac.store.holds import reading
from jobfac.store.holds.conditions import IS_OPEN
from jobfac.store.outbox import OutboxEvent
from jobfac.views.holds import HoldView
from jobfac.views.serialization import as_json

BATCH = 100
"""The maximum number of holds that one transaction removes."""


class Scope(NamedTuple):
    """What is held: a pool, a category or a job; none of them: everything."""

    pool: str | None = None
    category: str | None = None
    job: str | None = None


def place(conn: sa.Connection, scope: Scope, reason: str, until: datetime | None, by: str) -> HoldView:
    """Place a hold, and record the event ``held`` of each job that it covers and that subscribes to it."""
    values = {**scope._asdict(), "reason": truncate_utf16(reason, 1000), "until": until}
    values["created_by"] = truncate_utf16(by, 128)
    insert = start_hold.insert().values(created_at=utcnow())
    hold_id = int(conn.execute(insert.returning(start_hold.c.id), values).scalar_one())
    placed = reading.get(conn, hold_id)
    ends = "" if until is None else f", until {until.isoformat()}"
    audit.note(conn, by, "hold", f"hold {hold_id}", after=f"{placed.scope}: {reason}{ends}")
    held_events = [
        OutboxEvent(job_id, "held", {"job": job_id, "hold": as_json(placed)}, detail=placed.sentence)
        for job_id in _subscribers(conn, placed)
    ]
    outbox.record(conn, held_events)
    return placed


def _subscribers(conn: sa.Connection, hold: HoldView) -> Sequence[str]:
    """Return the ids of the jobs that the hold covers and that notify somebody of ``held``."""
    pools = {one.name: one.pool for one in jobs.known_queues(conn)}
    found = []
    for job_id in jobs.ids(conn):
        stored = jobs.load(conn, job_id)
        if stored is None or stored.unreadable or not hold.covers(stored.id, stored.category, pools.get(stored.queue)):
            continue
        entries = (*stored.definition.notify, *stored.defaults.notify)
        if any("held" in entry.on and entry.of != "jobs" for entry in entries):
            found.append(job_id)
    return found


def release(conn: sa.Connection, hold_id: int, by: str) -> bool:
    """End a hold. Returns False if it had ended before. What it held is freed by ``moving.free``."""
    change = start_hold.update().where(start_hold.c.id == hold_id, start_hold.c.released_at.is_(None))
    values = {"released_at": utcnow(), "released_by": truncate_utf16(by, 128)}
    if not conn.execute(change.values(values)).rowcount:
        return False
    audit.note(conn, by, "release", f"hold {hold_id}")
    _wake_schedules(conn)
    return True


_ENDED = (
    sa.select(start_hold.c.id)
    .with_hint(start_hold, PASS, "mssql")
    .where(
        sa.text(IS_OPEN),
        sa.or_(start_hold.c.released_at.is_not(None), start_hold.c.until <= utcnow()),
    )
    .order_by(start_hold.c.id)
    .limit(1)
)


def first_ended(conn: sa.Connection) -> HoldView | None:
    """Return a hold that has ended and whose runs are not freed yet, or None."""
    hold_id = conn.execute(_ENDED).scalar()
    return None if hold_id is None else reading.get(conn, hold_id)


def mark_freed(conn: sa.Connection, hold_id: int) -> None:
    """Record that everything that an ended hold held has been freed."""
    conn.execute(start_hold.update().where(start_hold.c.id == hold_id).values(freed=True))


def forget(conn: sa.Connection, age: float) -> bool:
    """Remove up to ``BATCH`` holds that ended more than ``age`` seconds ago and have freed everything.

    Returns True if there may be more. The audit keeps who placed and who released them.
    """
    old = (
        sa.select(start_hold.c.id)
        .with_hint(start_hold, PASS, "mssql")
        .where(sa.text("freed = 1"), start_hold.c.released_at < utcnow(-age * 1000))
        .order_by(start_hold.c.id)
        .limit(BATCH)
    )
    return delete(conn, start_hold, conn.execute(old).mappings().all()) == BATCH


def _wake_schedules(conn: sa.Connection) -> None:
    """Make the schedules that holds postponed due at once. The scheduler postpones those that are still held again."""
    is_put_off = (schedule.c.next_due_at <= schedule.c.resumed_at, schedule.c.fire_at > utcnow())
    conn.execute(schedule.update().where(*is_put_off).values(fire_at=schedule.c.next_due_at))
