"""The key that signs the sessions of browsers, and the sessions that were logged out. Both are in the database, so a
session survives a restart of the API and holds, or has ended, at every API process of the factory."""

import secrets

import sqlalchemy as sa

from jobfac.database.dialects import utcnow
from jobfac.database.tables import session_end, session_key

_CURRENT = sa.select(session_key.c.secret).where(session_key.c.id == 1)
_CREATE = session_key.insert().from_select(
    ["id", "secret", "created_at"],
    sa.select(
        sa.literal_column("1"), sa.bindparam("p_key", type_=session_key.c.secret.type), utcnow()
    ).where(~sa.exists().where(session_key.c.id == 1).select_from(session_key)),
    include_defaults=False,
)  # fmt: skip


def current(conn: sa.Connection) -> str | None:
    """Return the signing key, or None before ``create``."""
    return conn.execute(_CURRENT).scalar()


def create(conn: sa.Connection) -> None:
    """Create the signing key, unless there is one. Of two concurrent calls one may fail with a duplicate key."""
    conn.execute(_CREATE, {"p_key": secrets.token_hex(32)})


def end(conn: sa.Connection, session: str, seconds: float) -> None:
    """End a session that would expire in so many seconds. May be repeated. Sessions that have expired are forgotten."""
    conn.execute(session_end.delete().where((session_end.c.id == session) | (session_end.c.expires_at < utcnow())))
    conn.execute(session_end.insert().values(id=session, expires_at=utcnow(1000 * max(0.0, seconds))))
