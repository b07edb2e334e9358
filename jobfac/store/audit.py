"""Who changed what: everything that changes state, besides the runs' own events, is written down here."""

import sqlalchemy as sa

from jobfac.database.dialects import utcnow
from jobfac.database.tables import audit
from jobfac.database.types import truncate_utf16

BATCH = 100
"""Entries removed in one transaction at most."""


def note(
    conn: sa.Connection, by: str, action: str, subject: str, before: str | None = None, after: str | None = None
) -> None:
    """Write down that ``by`` did ``action`` to ``subject``; ``before`` and ``after`` as text, where there is any."""
    conn.execute(
        audit.insert().values(at=utcnow()),
        {
            "by": truncate_utf16(by, 200),
            "action": action[:32],
            "subject": truncate_utf16(subject, 200),
            "before": before,
            "after": after,
        },
    )


def forget(conn: sa.Connection, age: float) -> bool:
    """Remove some entries that are older than ``age`` seconds; True: there may be more."""
    oldest = sa.select(audit.c.id, audit.c.at, utcnow(-age * 1000).label("limit")).order_by(audit.c.id).limit(BATCH)
    ids = [row.id for row in conn.execute(oldest) if row.at < row.limit]
    if ids:
        conn.execute(audit.delete().where(audit.c.id.in_(ids)))
    return len(ids) == BATCH
