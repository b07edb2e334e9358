"""API keys and their permissions. A key is shown once, when it is created; only its hash is stored.

A key has the form ``jf_<prefix>_<secret>``. The prefix finds its row. The secret has 256 random bits, so a fast hash
is enough.
"""

import hashlib
import json
import secrets
from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import lists, utcnow
from jobfac.database.tables import api_key, job, session_end
from jobfac.states import Role
from jobfac.store import audit
from jobfac.views.keys import KeyView
from jobfac.views.serialization import columns, from_row

__all__ = ["Caller", "Created", "Role", "check", "create", "digest", "list_keys", "of_session", "revoke"]


class Caller(NamedTuple):
    """The owner of a key, or a person. ``categories``: the only categories whose jobs and runs the key may access;
    None: all. ``key_id``: the key, None for a person."""

    name: str
    role: Role
    categories: tuple[str, ...] | None = None
    key_id: int | None = None

    @property
    def label(self) -> str:
        """What tells the caller from others, which names of keys do not: `3 ('viewer')`; of a person the name."""
        return f"'{self.name}'" if self.key_id is None else f"{self.key_id} ('{self.name}')"

    def sees(self, category: str | None) -> bool:
        """Whether the caller may access jobs of this category."""
        return self.categories is None or category in self.categories


class Created(NamedTuple):
    """A new key. ``key`` is its text, which cannot be shown again."""

    id: int
    key: str


def create(
    conn: sa.Connection,
    name: str,
    role: Role,
    by: str,
    categories: Sequence[str] | None = None,
    lifetime: float | None = None,
    what: str = "create key",
) -> Created:
    """Create a key. Events and the audit show ``name``.

    Args:
        by: the name that the audit records.
        categories: the only categories that the key may access; None: all.
        lifetime: seconds until the key expires; None: never.
        what: the action that the audit records.
    """
    key, stored = new_secret("jf", categories)
    expires_at = None if lifetime is None else utcnow(lifetime * 1000)
    insert = api_key.insert().values(name=name, role=role, expires_at=expires_at, **stored)
    key_id = int(conn.execute(insert.returning(api_key.c.id)).scalar_one())
    audit.note(conn, by, what, f"key {key_id}", after=f"{name}: {role}")
    return Created(key_id, key)


def check(conn: sa.Connection, key: str) -> Caller | None:
    """Return the owner of the key, or None if the key is unknown, revoked or expired."""
    row = find(conn, _VALID, "jf", key)
    return None if row is None else _caller(conn, row)


def of_session(conn: sa.Connection, key_id: int, session: str) -> Caller | None:
    """Return the owner of the key that opened a session; None: the key is revoked or expired, or it was logged out."""
    row = conn.execute(_OF_SESSION, {"p_id": key_id, "p_session": session}).mappings().first()
    return None if row is None else _caller(conn, row)


def _caller(conn: sa.Connection, row: sa.RowMapping) -> Caller:
    return Caller(row["name"], Role(row["role"]), read_categories(conn, row["categories"]), row["id"])


def read_categories(conn: sa.Connection, text: str | None) -> tuple[str, ...] | None:
    """Return stored names of categories, with those of jobs that the database treats as equal. None: all.

    Most databases ignore case. So a comparison with the result finds the same jobs here as in SQL.
    """
    if text is None:
        return None
    names = json.loads(text)
    spellings = sa.select(job.c.category).distinct().where(lists.among(job.c.category, names))
    return tuple(dict.fromkeys([*names, *sorted(conn.execute(spellings).scalars())]))


_IN_USE = sa.select(api_key.c.id, api_key.c.name, api_key.c.role, api_key.c.categories, api_key.c.hash).where(
    api_key.c.revoked_at.is_(None),
    sa.or_(api_key.c.expires_at.is_(None), api_key.c.expires_at > utcnow()),
)
_LIMITED = _IN_USE.where(api_key.c.categories.is_not(None)).limit(1)
_VALID = _IN_USE.where(api_key.c.prefix == sa.bindparam("p_prefix"))
_OF_SESSION = _IN_USE.where(
    api_key.c.id == sa.bindparam("p_id"),
    ~sa.exists().where(session_end.c.id == sa.bindparam("p_session")).select_from(session_end),
)


def revoke(conn: sa.Connection, key_id: int, by: str) -> bool:
    """Revoke a key immediately. Returns False if there is no such key or it was already revoked."""
    change = api_key.update().where(api_key.c.id == key_id, api_key.c.revoked_at.is_(None))
    revoked = conn.execute(change.values(revoked_at=utcnow())).rowcount == 1
    if revoked:
        audit.note(conn, by, "revoke key", f"key {key_id}")
    return revoked


def are_limited(conn: sa.Connection) -> bool:
    """Whether a key in use is limited to categories."""
    return conn.execute(_LIMITED).first() is not None


_SHOWN = [api_key.c[name] for name in columns(KeyView)]


def list_keys(conn: sa.Connection) -> list[KeyView]:
    """Return all keys, revoked and expired ones included, oldest first."""
    return [from_row(KeyView, row) for row in conn.execute(sa.select(*_SHOWN).order_by(api_key.c.id)).mappings()]


def new_secret(kind: str, categories: Sequence[str] | None) -> tuple[str, dict[str, Any]]:
    """Return a new key or token ``<kind>_<prefix>_<secret>`` and what is stored of it, with its ``categories``."""
    prefix = secrets.token_hex(6)
    text = f"{kind}_{prefix}_{secrets.token_urlsafe(32)}"
    names = None if categories is None else json.dumps(list(categories), ensure_ascii=False)
    return text, {"categories": names, "prefix": prefix, "hash": digest(text), "created_at": utcnow()}


def find(conn: sa.Connection, query: sa.Select[Any], kind: str, text: str) -> sa.RowMapping | None:
    """Return the row of a key or token, which ``query`` finds by its prefix; None: it is unknown."""
    prefix = text.split("_")[1] if text.startswith(f"{kind}_") else ""
    row = conn.execute(query, {"p_prefix": prefix}).mappings().first()
    return row if secrets.compare_digest(digest(text), row["hash"] if row else digest("")) else None


def digest(key: str) -> str:
    """Return what is stored of a key or a token."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()
