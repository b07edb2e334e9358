"""What happened, written down in the transaction in which it happened: one row, whoever wants to hear of it."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import utcnow
from jobfac.database.tables import news
from jobfac.database.types import truncate_utf16

_INSERT = news.insert().values(created_at=utcnow())


class News(NamedTuple):
    """An event of a job's run, or without a ``run_id`` of the job alone. ``body``: what will be told, JSON-able."""

    job: str
    event: str
    body: Mapping[str, Any]
    run_id: int | None = None
    attempt: int = 0
    detail: str | None = None


def record(conn: sa.Connection, items: Iterable[News]) -> None:
    """Write news down, to be addressed and delivered by any scheduler."""
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
