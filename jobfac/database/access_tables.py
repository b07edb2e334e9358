"""The tables of who may access the API and the pages."""

import sqlalchemy as sa

from jobfac.database.metadata import metadata
from jobfac.database.types import Instant, Long, Name, Word, identity, index, one_of

api_key = sa.Table(
    "api_key",
    metadata,
    identity(),
    sa.Column("name", Name, nullable=False),
    sa.Column("role", Word, nullable=False),
    sa.Column("categories", Long),  # JSON array; NULL: all
    sa.Column("prefix", sa.String(16), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("expires_at", Instant),
    sa.Column("revoked_at", Instant),
    one_of("role", ("viewer", "operator", "admin"), "role"),
    index("ix_api_key_prefix", "prefix", unique=True),
)

session_key = sa.Table(
    "session_key",  # one row: what signs the cookies of browsers
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("secret", sa.String(64), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
)
