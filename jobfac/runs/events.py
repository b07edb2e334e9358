"""The append-only history of every run: each transition, who caused it and why."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.dialects import utcnow
from jobfac.runs.news import tell
from jobfac.tables import fitting, run_event

_INSERT = run_event.insert().values(at=utcnow())


class Event(NamedTuple):
    """One thing that happened to a run. ``event`` is a state's name, or a word such as ``discarded``; ``notify`` is the
    run's, for whom it is news."""

    run_id: int
    attempt: int
    event: str
    by: str
    detail: str | None = None
    notify: str | None = None


def record(conn: sa.Connection, events: Sequence[Event]) -> None:
    """Append events at the database's time, and news for those who want to hear of them. The runs have changed."""
    rows = [
        {
            "run_id": e.run_id,
            "attempt": e.attempt,
            "event": e.event,
            "by": e.by,
            "detail": None if e.detail is None else fitting(e.detail, 1000),
        }
        for e in events
    ]
    if rows:
        conn.execute(_INSERT, rows)
        tell(conn, events)


def events_of(conn: sa.Connection, run_id: int) -> Sequence[sa.RowMapping]:
    """The events of one run, oldest first: ``id``, ``attempt``, ``at``, ``event``, ``by``, ``detail``."""
    columns: list[Any] = [c for c in run_event.c if c.name != "run_id"]
    query = sa.select(*columns).where(run_event.c.run_id == run_id).order_by(run_event.c.id)
    return conn.execute(query).mappings().all()
