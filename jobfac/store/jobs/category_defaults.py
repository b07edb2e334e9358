"""The defaults of categories: what applies to each job of a category that says nothing else."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database import locks
from jobfac.database.dialects import utcnow
from jobfac.database.tables import category
from jobfac.store import audit

parsed = lru_cache(maxsize=200)(d.stored_defaults)
"""Return the defaults for a stored text; None: there are none."""


def load(conn: sa.Connection) -> dict[str, dict[str, Any]]:
    """Return the defaults of every category that has defaults, by name: canonical or, if unreadable, as stored."""
    rows = conn.execute(sa.select(category.c.name, category.c.definition).order_by(category.c.name))
    return {row.name: _body(row.definition) for row in rows}


def _body(text: str) -> dict[str, Any]:
    try:
        return d.canonical(parsed(text))
    except d.DefinitionError:
        return d.stored_body(text)


def of(conn: sa.Connection, name: str) -> d.Defaults:
    """Return the defaults of one category.

    Raises:
        DefinitionError: this version of jobfac cannot read them.
    """
    return parsed(_text(conn, name))


def exist(conn: sa.Connection, name: str) -> bool:
    """Whether a category has defaults."""
    return _text(conn, name) is not None


def body(conn: sa.Connection, name: str) -> dict[str, Any]:
    """Return the defaults of one category as they are stored, whether this version of jobfac can read them or not."""
    return d.stored_body(_text(conn, name) or "")


def _text(conn: sa.Connection, name: str) -> str | None:
    return conn.execute(sa.select(category.c.definition).where(category.c.name == name)).scalar()


def apply(conn: sa.Connection, plan: d.Plan, wanted: Mapping[str, d.Defaults], by: str) -> None:
    """Apply a plan for category defaults, as ``jobs.apply`` does for jobs."""
    locks.take(conn, {locks.DEFINITIONS})
    before = load(conn)
    for name in [*plan.remove, *plan.add, *plan.change]:
        old = json.dumps(before[name], ensure_ascii=False) if name in before else None
        new = json.dumps(d.canonical(wanted[name]), ensure_ascii=False) if name in wanted else None
        conn.execute(category.delete().where(category.c.name == name))
        if new is not None:
            values = {"name": name, "definition": new, "updated_by": by}
            conn.execute(category.insert().values(updated_at=utcnow()), values)
        audit.note(conn, by, "delete" if new is None else "apply", f"defaults of {name}", old, new)
