"""The append-only history of every run: each transition, its cause and its reason."""

import functools
from collections.abc import Sequence

import sqlalchemy as sa

from jobfac.database.dialects import rows, utcnow
from jobfac.database.tables import run_event
from jobfac.database.types import BigId, truncate_utf16
from jobfac.states import FINAL
from jobfac.store import upstream
from jobfac.store.runs.event import Event
from jobfac.store.runs.subscribers import record_subscribed
from jobfac.views.runs import EventView
from jobfac.views.serialization import columns, from_row

ALL = 2**31 - 1

_KINDS = {
    "run_id": BigId, "attempt": run_event.c.attempt.type, "word": run_event.c.event.type, "who": run_event.c.by.type,
    "detail": run_event.c.detail.type, "place": sa.Integer(),
}  # fmt: skip


@functools.cache
def _insert(engine: str) -> sa.Insert:
    input_rows = rows.rows_table(engine, **_KINDS)
    c = input_rows.c
    # The ids must follow the order of the events. SQL Server respects ORDER BY in an INSERT only together with a limit.
    select = sa.select(c.run_id, c.attempt, utcnow(), c.word, c.who, c.detail).order_by(c.place).limit(ALL)
    return run_event.insert().from_select(["run_id", "attempt", "at", "event", "by", "detail"], select)


def record(conn: sa.Connection, events: Sequence[Event]) -> None:
    """Append events with the database's time, and record outbox events for subscribers.

    The caller must already have changed the runs.
    """
    if not events:
        return
    values = [
        {
            "run_id": event.run_id,
            "attempt": event.attempt,
            "word": event.event,
            "who": event.by,
            "detail": None if event.detail is None else truncate_utf16(event.detail, 1000),
            "place": place,
        }
        for place, event in enumerate(events)
    ]
    conn.execute(_insert(conn.dialect.name), rows.rows_parameter(values))
    upstream.record(conn, [event.run_id for event in events if event.event in FINAL])
    record_subscribed(conn, events)


_EVENT_COLUMNS = [run_event.c[name] for name in columns(EventView)]


def events_of(conn: sa.Connection, run_id: int) -> list[EventView]:
    """Return the events of one run, oldest first."""
    query = sa.select(*_EVENT_COLUMNS).where(run_event.c.run_id == run_id).order_by(run_event.c.id)
    return [from_row(EventView, row) for row in conn.execute(query).mappings()]
