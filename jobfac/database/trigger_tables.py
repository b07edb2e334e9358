"""The tables of starts that no clock causes."""

import sqlalchemy as sa

from jobfac.database.metadata import metadata
from jobfac.database.types import BigId, Instant, Name, Word

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
    "arrived_file",  # a file that has become a run of the job; forgotten when no worker has seen it for long
    metadata,
    sa.Column("job", Name, primary_key=True),
    sa.Column("file_key", sa.String(64), primary_key=True),  # SHA-256 of path, size and time of modification
    sa.Column("run_id", BigId, nullable=False),
    sa.Column("seen_at", Instant, nullable=False),  # when a worker saw it last, to within hours
    sa.Index("ix_arrived_file_seen", "seen_at"),
)
