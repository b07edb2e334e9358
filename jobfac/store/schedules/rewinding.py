"""Set the next due times again after the clock was set back, or with newer data on time zones and holidays."""

import functools
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from jobfac.database.dialects import LOCKED_BY_KEY, PASS, rows, utcnow
from jobfac.database.tables import schedule
from jobfac.database.types import BigId
from jobfac.store.schedules.decision import AHEAD, UNUSABLE, ScheduleRow, come_again, fire_again, read
from jobfac.store.schedules.inserting import advancing

BATCH = 200
"""The maximum number of schedules in one transaction."""

_IDS = sa.select(schedule.c.id).where(schedule.c.id > sa.bindparam("p_after")).order_by(schedule.c.id).limit(BATCH)


@functools.cache
def _rows(engine: str) -> sa.Select[Any]:
    given = rows.rows_table(engine, id=BigId)
    columns = (utcnow().label("now") if name == "now" else schedule.c[name] for name in ScheduleRow._fields)
    query = sa.select(*columns, schedule.c.fire_at).with_hint(schedule, LOCKED_BY_KEY, "mssql")
    return query.where(schedule.c.id == given.c.id).order_by(schedule.c.id)


def rewind(conn: sa.Connection, after: int, was_set_back: bool = True) -> tuple[int | None, int]:
    """Look at some schedules with ids above ``after`` and set those back that are due earlier than is stored.

    ``was_set_back``: the database's clock was, otherwise only the data on time zones and holidays may have changed.
    Returns the id from which to continue (None: there are no more), and how many were set back. Safe to repeat.
    """
    ids = conn.execute(_IDS, {"p_after": after}).scalars().all()
    if not ids:
        return None, 0
    engine = conn.dialect.name
    moves = []
    for found in conn.execute(_rows(engine), rows.rows_parameter({"id": one} for one in ids)).all():
        row = ScheduleRow(*found[:-1])
        try:
            move = _move(row, found.fire_at, was_set_back)
        except UNUSABLE:  # it cannot be used here, which an insertion says
            continue
        if move is not None:
            moves.append({"id": row.id, **move})
    if moves:
        conn.execute(advancing(engine), rows.rows_parameter(moves))
    return (ids[-1] if len(ids) == BATCH else None), len(moves)


def _move(row: ScheduleRow, fire_at: datetime | None, was_set_back: bool) -> dict[str, datetime | None] | None:
    """Return the times of a schedule that are to be stored; None: they stay as they are.

    What was noted while the clock was ahead lies in the future and would hold the next times, and ends, back.
    """
    stored = {
        "next_due_at": row.next_due_at, "fire_at": fire_at,
        "last_due_at": row.last_due_at, "resumed_at": row.resumed_at,
    }  # fmt: skip
    rule = read(row.definition)
    decision = come_again(rule, row, was_set_back)
    if decision is not None:
        times = {"next_due_at": decision.next_due_at, "fire_at": decision.fire_at}
    else:
        times = {"fire_at": fire_again(rule, row, fire_at)}
    latest = row.now if decision is not None else row.now + timedelta(milliseconds=AHEAD)
    last = row.last_due_at if row.last_due_at is None or row.last_due_at <= latest else None
    resumed = row.resumed_at if row.resumed_at is None or row.resumed_at <= row.now else row.now
    move = {**stored, **times, "last_due_at": last, "resumed_at": resumed}
    return None if move == stored else move


def is_behind(conn: sa.Connection) -> bool:
    """Whether a schedule had a run for a time that is minutes ahead: the clock was set back, perhaps unseen."""
    ahead = sa.select(schedule.c.id).with_hint(schedule, PASS, "mssql").where(schedule.c.last_due_at > utcnow(AHEAD))
    return conn.execute(ahead.limit(1)).first() is not None
