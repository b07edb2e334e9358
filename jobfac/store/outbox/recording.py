"""Record an outbox event in the transaction in which it happens: one row, independent of the number of recipients."""

import functools
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import rows, utcnow
from jobfac.database.tables import outbox_event
from jobfac.database.types import truncate_utf16
from jobfac.views.notifications import Body

_NAMES = ("job", "event", "body", "run_id", "attempt", "detail")

ALL = 2**31 - 1

LARGEST = 2**21
"""About how many characters of bodies one statement writes, and how many one transaction addresses. A body contains the
payload and the outputs of a run: megabytes, and once for each recipient when it is addressed."""


@functools.cache
def _insert(engine: str) -> sa.Insert:
    given = rows.rows_table(engine, **{name: outbox_event.c[name].type for name in _NAMES}, place=sa.Integer())
    # The ids must follow the order of the events. SQL Server respects ORDER BY in an INSERT only together with a limit.
    values = sa.select(*(given.c[name] for name in _NAMES), utcnow()).order_by(given.c.place).limit(ALL)
    return outbox_event.insert().from_select([*_NAMES, "created_at"], values, include_defaults=False)


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
    found = (
        item._asdict()
        | {
            "body": json.dumps(item.body, ensure_ascii=False),
            "detail": None if item.detail is None else truncate_utf16(item.detail, 1000),
        }
        for item in items
    )
    insert_in_pieces(conn, _insert(conn.dialect.name), found)


def insert_in_pieces(conn: sa.Connection, insert: sa.Insert, found: Iterable[Mapping[str, Any]]) -> None:
    """Insert rows with a ``body`` in their order, about ``LARGEST`` characters with each statement."""
    piece: list[Mapping[str, Any]] = []
    size = 0
    for row in found:
        piece.append({**row, "place": len(piece)})
        size += len(row["body"])
        if size >= LARGEST:
            conn.execute(insert, rows.rows_parameter(piece))
            piece, size = [], 0
    if piece:
        conn.execute(insert, rows.rows_parameter(piece))
