"""The audit: one row for every change of state, except for the changes that the events of runs record."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import LOCKED, utcnow
from jobfac.database.dialects.rows import delete
from jobfac.database.tables import audit
from jobfac.database.types import truncate_utf16

BATCH = 100
"""The maximum number of entries that one transaction removes."""


class Receipt(NamedTuple):
    """A row of the audit. It proves that its transaction was committed when the commit got no answer."""

    id: int
    by: str
    subject: str


_WRITTEN = "jobfac.audit.receipts"


@contextmanager
def receipts(conn: sa.Connection) -> Iterator[list[Receipt]]:
    """Collect the receipts of all audit rows that are written on this connection inside the ``with`` block."""
    written: list[Receipt] = []
    info = conn.info  # kept in a variable, because a broken connection no longer returns it
    info[_WRITTEN] = written
    try:
        yield written
    finally:
        info.pop(_WRITTEN, None)


def holds(conn: sa.Connection, receipt: Receipt) -> bool:
    """Whether the row exists. Waits for a transaction that has written the row and has not ended yet."""
    # After a failover that has lost commits, the row of another caller may have the id.
    query = sa.select(audit.c.id).where(
        audit.c.id == receipt.id, audit.c.by == receipt.by, audit.c.subject == receipt.subject
    )
    return conn.execute(query.with_hint(audit, LOCKED, "mssql")).first() is not None


def note(
    conn: sa.Connection, by: str, action: str, subject: str, before: str | None = None, after: str | None = None
) -> None:
    """Record that ``by`` did ``action`` to ``subject``. ``before`` and ``after`` are optional texts."""
    by, subject = truncate_utf16(by, 200), truncate_utf16(subject, 200)
    values = {"by": by, "action": action[:32], "subject": subject, "before": before, "after": after}
    row_id = conn.execute(audit.insert().values(at=utcnow()).returning(audit.c.id), values).scalar_one()
    if (written := conn.info.get(_WRITTEN)) is not None:
        written.append(Receipt(int(row_id), by, subject))


def forget(conn: sa.Connection, age: float) -> bool:
    """Remove up to ``BATCH`` entries older than ``age`` seconds. Returns True if there may be more."""
    # Those that were written while the clock was ahead would otherwise keep all that came after them.
    oldest = sa.select(audit.c.id, audit.c.at, utcnow(-age * 1000).label("limit")).where(audit.c.at <= utcnow())
    oldest = oldest.order_by(audit.c.id).limit(BATCH)
    return delete(conn, audit, [{"id": row.id} for row in conn.execute(oldest) if row.at < row.limit]) == BATCH
