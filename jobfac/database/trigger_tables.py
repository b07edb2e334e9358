"""The tables of starts that no clock causes."""

import sqlalchemy as sa

from jobfac.database.metadata import metadata
from jobfac.database.types import BigId, Instant, Long, Name, Word, identity, index

upstream = sa.Table(
    "upstream",  # which ends of which job a schedule with `after` waits for; one row for each state
    metadata,
    sa.Column("job", Name, primary_key=True),
    sa.Column("state", Word, primary_key=True),
    sa.Column("schedule_id", BigId, primary_key=True, autoincrement=False),
    sa.Index("ix_upstream_schedule", "schedule_id"),
)

upstream_end = sa.Table(
    "upstream_end",  # a run that ended and starts others; written as it ends, gone as soon as it has become runs
    metadata,
    sa.Column("schedule_id", BigId, primary_key=True, autoincrement=False),
    sa.Column("run_id", BigId, primary_key=True, autoincrement=False),
    sa.Column("job", Name, nullable=False),
    sa.Column("state", Word, nullable=False),
    sa.Column("ended_at", Instant, nullable=False),
)

arrived_file = sa.Table(
    "arrived_file",  # a file that has become a run of the job, or a note that one has gone; forgotten when long unseen
    metadata,
    sa.Column("job", Name, primary_key=True),
    sa.Column("file_key", sa.String(64), primary_key=True),  # SHA-256 of path, size, time; of a note: also of the place
    sa.Column("run_id", BigId, nullable=False),
    sa.Column("seen_at", Instant, nullable=False),  # when a worker saw it last, to within hours
    sa.Index("ix_arrived_file_seen", "seen_at"),
)

start_url = sa.Table(
    "start_url",  # an address that starts one job; the token in it is stored as a hash only
    metadata,
    identity(),
    sa.Column("job", Name, nullable=False),
    sa.Column("name", Name, nullable=False),
    sa.Column("categories", Long),  # JSON array: those of the key that made it; NULL: all
    sa.Column("prefix", sa.String(16), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("created_by", Name, nullable=False),
    sa.Column("revoked_at", Instant),
    sa.Column("revoked_by", Name),
    sa.Column("used_at", Instant),  # the last start
    sa.Column("window_at", Instant),  # when the minute began whose starts are counted
    sa.Column("starts", sa.Integer, nullable=False, server_default=sa.text("0")),  # in that minute
    index("ix_start_url_prefix", "prefix", unique=True),
    index("ix_start_url_job", "job"),
    sqlite_autoincrement=True,
)
