"""Record an outbox event in the transaction in which it happens: one row, independent of the number of recipients."""

import json
from collections.abc import Iterable
from typing import NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import utcnow
from jobfac.database.tables import outbox_event
from jobfac.database.types import truncate_utf16
from jobfac.views.notifications import Body

_INSERT = outbox_event.insert().values(created_at=utcnow())


class OutboxEvent(NamedTuple):
    """An event of a run, or, without ``run_id``, of a job. ``body``: what its notifications say."""

    job: str
    event: str
    body: Body
    run_id: int | None = None
    attempt: int = 0
    detail: str | None = None


def record(conn: sa.Connection, items: Iterable[OutboxEvent]) -> None:
    """Store outbox events. Any scheduler addresses and delivers them later."""
    rows = [
        item._asdict()
        | {
            "body": json.dumps(item.body, ensure_ascii=False),
            "detail": None if item.detail is None else truncate_utf16(item.detail, 1000),
        }
        for item in items
    ]
    if rows:
        conn.execute(_INSERT, rows)
