"""Who changed what: everything that changes state, besides the runs' own events, is written down here."""

import sqlalchemy as sa

from jobfac.dialects import utcnow
from jobfac.tables import audit, fitting


def note(
    conn: sa.Connection, by: str, action: str, subject: str, before: str | None = None, after: str | None = None
) -> None:
    """Write down that ``by`` did ``action`` to ``subject``; ``before`` and ``after`` as text, where there is any."""
    conn.execute(
        audit.insert().values(at=utcnow()),
        {
            "by": fitting(by, 200),
            "action": action[:32],
            "subject": fitting(subject, 200),
            "before": before,
            "after": after,
        },
    )
