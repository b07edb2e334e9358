"""Who changed what: everything that changes state, besides the runs' own events, has a row here."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import LOCKED, utcnow
from jobfac.database.tables import audit
from jobfac.database.types import truncate_utf16

BATCH = 100
"""Entries removed in one transaction at most."""


class Receipt(NamedTuple):
    """A row of the audit, by which a transaction can be recognised whose commit was not answered."""

    id: int
    by: str
    subject: str


_WRITTEN = "jobfac.audit.receipts"


@contextmanager
def receipts(conn: sa.Connection) -> Iterator[list[Receipt]]:
    """Collect the receipts of all rows that are written on this connection meanwhile."""
    written: list[Receipt] = []
    info = conn.info  # kept, because a connection that breaks meanwhile does not give it any more
    info[_WRITTEN] = written
    try:
        yield written
    finally:
        info.pop(_WRITTEN, None)


def holds(conn: sa.Connection, receipt: Receipt) -> bool:
    """Whether the row is there. Waits for a transaction that has written it and has not ended yet."""
    query = sa.select(audit.c.id).where(audit.c.id == receipt.id, *_matches(receipt))
    return conn.execute(query.with_hint(audit, LOCKED, "mssql")).first() is not None


def _matches(receipt: Receipt) -> tuple[sa.ColumnElement[bool], ...]:
    # SQLite gives the id of a row that was rolled back to the next one, which may be somebody else's.
    return audit.c.by == receipt.by, audit.c.subject == receipt.subject


def note(
    conn: sa.Connection, by: str, action: str, subject: str, before: str | None = None, after: str | None = None
) -> None:
    """Record that ``by`` did ``action`` to ``subject``; ``before`` and ``after`` as text, where there is any."""
    by, subject = truncate_utf16(by, 200), truncate_utf16(subject, 200)
    values = {"by": by, "action": action[:32], "subject": subject, "before": before, "after": after}
    row_id = conn.execute(audit.insert().values(at=utcnow()).returning(audit.c.id), values).scalar_one()
    if (written := conn.info.get(_WRITTEN)) is not None:
        written.append(Receipt(int(row_id), by, subject))


def forget(conn: sa.Connection, age: float) -> bool:
    """Remove some entries that are older than ``age`` seconds; True: there may be more."""
    oldest = sa.select(audit.c.id, audit.c.at, utcnow(-age * 1000).label("limit")).order_by(audit.c.id).limit(BATCH)
    ids = [row.id for row in conn.execute(oldest) if row.at < row.limit]
    if ids:
        conn.execute(audit.delete().where(audit.c.id.in_(ids)))
    return len(ids) == BATCH
