"""Read the audit."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import lists
from jobfac.database.tables import audit
from jobfac.database.types import contains
from jobfac.views.serialization import columns, from_row

SCAN = 5000
"""The maximum number of entries that one search reads."""


class AuditView(NamedTuple):
    """Who did what, with the state before and after where there is one."""

    id: int
    at: datetime
    by: str
    action: str
    subject: str
    before: str | None
    after: str | None


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
        engine = conn.dialect.name
        query = query.where(contains(engine, seen.c.by, text) | contains(engine, seen.c.subject, text))
    if action:
        query = query.where(seen.c.action == action)
    return _found(conn, query, newest, limit)


def _found(conn: sa.Connection, query: sa.Select[Any], newest: sa.Select[Any], limit: int) -> Found:
    """Run a query of one entry more than ``limit`` among the entries ``newest``."""
    entries = [from_row(AuditView, row) for row in conn.execute(query).mappings()]
    if len(entries) > limit:
        return Found(entries[:limit], entries[limit - 1].id)
    ids = newest.with_only_columns(audit.c.id).subquery("ids")
    number, last = conn.execute(sa.select(sa.func.count(), sa.func.min(ids.c.id)).select_from(ids)).one()
    return Found(entries, last if number == SCAN else None)


def about(conn: sa.Connection, subjects: Sequence[str], limit: int) -> Found:
    """Return up to ``limit`` entries about exactly these subjects among the newest ``SCAN``, newest first."""
    newest = sa.select(*_SHOWN).order_by(audit.c.id.desc()).limit(SCAN)
    seen = newest.subquery("seen")
    query = sa.select(seen).where(lists.among(seen.c.subject, subjects)).order_by(seen.c.id.desc()).limit(limit + 1)
    return _found(conn, query, newest, limit)
