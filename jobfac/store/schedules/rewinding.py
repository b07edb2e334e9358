"""Set the next due times again after the clock was set back, or with newer data on time zones and holidays."""

import functools
from typing import Any

import sqlalchemy as sa

from jobfac.database.dialects import LOCKED_BY_KEY, PASS, rows, utcnow
from jobfac.database.tables import schedule
from jobfac.database.types import BigId
from jobfac.store.schedules.decision import ScheduleRow, come_again, read
from jobfac.store.schedules.inserting import advancing

BATCH = 200
"""The maximum number of schedules in one transaction."""

AHEAD = 600_000
"""By how many milliseconds a due time is ahead if the clock must have been set back. Those of files lie close together
and may be some milliseconds ahead."""

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
            decision = come_again(read(row.definition), row, was_set_back)
        except (ValueError, LookupError, ArithmeticError):  # it cannot be used, which an insertion says
            continue
        # What was noted while the clock was ahead lies in the future and would hold the next times, and ends, back.
        resumed = row.resumed_at if row.resumed_at is None or row.resumed_at <= row.now else row.now
        if decision is not None:
            last = row.last_due_at if row.last_due_at is not None and row.last_due_at <= row.now else None
            moves.append({
                "id": row.id, "next_due_at": decision.next_due_at, "fire_at": decision.fire_at,
                "last_due_at": last, "resumed_at": resumed,
            })  # fmt: skip
        elif resumed != row.resumed_at:
            moves.append({
                "id": row.id, "next_due_at": row.next_due_at, "fire_at": found.fire_at,
                "last_due_at": row.last_due_at, "resumed_at": resumed,
            })  # fmt: skip
    if moves:
        conn.execute(advancing(engine), rows.rows_parameter(moves))
    return (ids[-1] if len(ids) == BATCH else None), len(moves)


def is_behind(conn: sa.Connection) -> bool:
    """Whether a schedule had a run for a time that is minutes ahead: the clock was set back, perhaps unseen."""
    ahead = sa.select(schedule.c.id).with_hint(schedule, PASS, "mssql").where(schedule.c.last_due_at > utcnow(AHEAD))
    return conn.execute(ahead.limit(1)).first() is not None
