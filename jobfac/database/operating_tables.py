"""The tables of operating: holds, notes, expectations, the audit and the keys of the API."""

import sqlalchemy as sa

from jobfac.database.metadata import metadata
from jobfac.database.types import BigId, Instant, Long, Name, Word, identity, index, one_of

start_hold = sa.Table(
    "start_hold",  # nothing new starts there: in a pool, in a category, of a job, or, without any of them, at all
    metadata,
    identity(),
    sa.Column("pool", Name),
    sa.Column("category", Name),
    sa.Column("job", Name),
    sa.Column("reason", sa.Unicode(1000), nullable=False),
    sa.Column("until", Instant),  # when it ends automatically; NULL: it is released
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("created_by", Name, nullable=False),
    sa.Column("released_at", Instant),
    sa.Column("released_by", Name),
    sa.Column("freed", sa.Boolean, nullable=False, server_default=sa.text("0")),  # ended, and all that it held moves on
    sa.CheckConstraint(
        "CASE WHEN pool IS NULL THEN 0 ELSE 1 END + CASE WHEN category IS NULL THEN 0 ELSE 1 END"
        " + CASE WHEN job IS NULL THEN 0 ELSE 1 END <= 1",
        name="scope",
    ),
    index("ix_start_hold_open", "id", where="freed = 0"),
    sqlite_autoincrement=True,
)

note = sa.Table(
    "note",  # what people write about a run
    metadata,
    identity(),
    sa.Column("run_id", BigId, nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("by", Name, nullable=False),
    sa.Column("text", Long, nullable=False),
    index("ix_note_run", "run_id", "id"),
    sqlite_autoincrement=True,
)

expectation = sa.Table(
    "expectation",  # one row for each job with `expect`
    metadata,
    sa.Column("job", Name, primary_key=True),
    sa.Column("definition", Long, nullable=False),  # JSON, canonical
    sa.Column("since", Instant, nullable=False),  # a success that ends later than this meets the expectation
    sa.Column("due_at", Instant, nullable=False),  # when it must have happened
    sa.Column("overdue_at", Instant),  # since when it is overdue; NULL: it is not
    sa.Column("overdue_due_at", Instant),  # the time that passed without a success
    index("ix_expectation_due", "due_at"),
    index("ix_expectation_overdue", "overdue_at", where="overdue_at IS NOT NULL"),
)

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

audit = sa.Table(
    "audit",  # every change of state: who, when, what, before and after
    metadata,
    identity(),
    sa.Column("at", Instant, nullable=False),
    sa.Column("by", sa.Unicode(200), nullable=False),
    sa.Column("action", sa.String(32), nullable=False),
    sa.Column("subject", sa.Unicode(200), nullable=False),
    sa.Column("before", Long),
    sa.Column("after", Long),
    index("ix_audit_at", "at"),
)

session_key = sa.Table(
    "session_key",  # one row: what signs the cookies of browsers
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("secret", sa.String(64), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
)

session_end = sa.Table(
    "session_end",  # sessions of browsers that were logged out before they expired
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("expires_at", Instant, nullable=False),  # from then on the row is not needed
)
