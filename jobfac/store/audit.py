"""The audit: one row for every change of state, except for the changes that the events of runs record."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import LOCKED, utcnow
from jobfac.database.tables import audit
from jobfac.database.types import truncate_utf16
from jobfac.views.audit import AuditView
from jobfac.views.serialization import columns, from_row

SCAN = 5000
"""Entries that one search reads at most."""

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
    query = sa.select(audit.c.id).where(audit.c.id == receipt.id, *_matches(receipt))
    return conn.execute(query.with_hint(audit, LOCKED, "mssql")).first() is not None


def _matches(receipt: Receipt) -> tuple[sa.ColumnElement[bool], ...]:
    # SQLite reuses the id of a row that was rolled back, possibly for the row of another caller.
    return audit.c.by == receipt.by, audit.c.subject == receipt.subject


def note(
    conn: sa.Connection, by: str, action: str, subject: str, before: str | None = None, after: str | None = None
) -> None:
    """Record that ``by`` did ``action`` to ``subject``. ``before`` and ``after`` are optional texts."""
    by, subject = truncate_utf16(by, 200), truncate_utf16(subject, 200)
    values = {"by": by, "action": action[:32], "subject": subject, "before": before, "after": after}
    row_id = conn.execute(audit.insert().values(at=utcnow()).returning(audit.c.id), values).scalar_one()
    if (written := conn.info.get(_WRITTEN)) is not None:
        written.append(Receipt(int(row_id), by, subject))


_SHOWN = [audit.c[name] for name in columns(AuditView)]


class Found(NamedTuple):
    """Some entries, newest first. ``below``: where to continue, None: there are no more."""

    entries: list[AuditView]
    below: int | None


def find(
    conn: sa.Connection, limit: int, *, text: str | None = None, action: str | None = None, below: int | None = None
) -> Found:
    """Return up to ``limit`` entries among the newest ``SCAN``, newest first.

    Args:
        text: a part of the name or of the subject.
        action: only this action.
        below: only entries with lower ids, to continue after a page.
    """
    newest = sa.select(*_SHOWN).order_by(audit.c.id.desc()).limit(SCAN)
    if below is not None:
        newest = newest.where(audit.c.id < below)
    seen = newest.subquery("seen")
    query = sa.select(seen).order_by(seen.c.id.desc()).limit(limit + 1)
    if text:
        contains = seen.c.by.icontains(text, autoescape=True) | seen.c.subject.icontains(text, autoescape=True)
        query = query.where(contains)
    if action:
        query = query.where(seen.c.action == action)
    entries = [from_row(AuditView, row) for row in conn.execute(query).mappings()]
    if len(entries) > limit:
        return Found(entries[:limit], entries[limit - 1].id)
    ids = newest.with_only_columns(audit.c.id).subquery("ids")
    number, last = conn.execute(sa.select(sa.func.count(), sa.func.min(ids.c.id)).select_from(ids)).one()
    return Found(entries, last if number == SCAN else None)


def about(conn: sa.Connection, subjects: Sequence[str], limit: int) -> list[AuditView]:
    """Return the newest entries about exactly these subjects, newest first."""
    newest = sa.select(*_SHOWN).order_by(audit.c.id.desc()).limit(SCAN).subquery("seen")
    query = sa.select(newest).where(newest.c.subject.in_(subjects)).order_by(newest.c.id.desc()).limit(limit)
    return [from_row(AuditView, row) for row in conn.execute(query).mappings()]


def forget(conn: sa.Connection, age: float) -> bool:
    """Remove up to ``BATCH`` entries older than ``age`` seconds. Returns True if there may be more."""
    oldest = sa.select(audit.c.id, audit.c.at, utcnow(-age * 1000).label("limit")).order_by(audit.c.id).limit(BATCH)
    ids = [row.id for row in conn.execute(oldest) if row.at < row.limit]
    if ids:
        conn.execute(audit.delete().where(audit.c.id.in_(ids)))
    return len(ids) == BATCH
