"""The tables of the workers and the schedulers. ``tables`` presents them with all others."""

import sqlalchemy as sa

from jobfac.database.metadata import metadata
from jobfac.database.types import BigId, Instant, Long, Word, identity, index, one_of
from jobfac.states import WorkerState

worker = sa.Table(
    "worker",
    metadata,
    identity(),
    sa.Column("name", sa.Unicode(200), nullable=False),
    sa.Column("host", sa.Unicode(200), nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("token", sa.String(64), nullable=False),  # marks this worker's processes on its machine
    sa.Column("version", sa.String(32), nullable=False),
    sa.Column("slots", sa.Integer, nullable=False),
    sa.Column("pools", Long, nullable=False),  # JSON array
    sa.Column("labels", Long, nullable=False),  # JSON object
    sa.Column("state", Word, nullable=False),
    sa.Column("started_at", Instant, nullable=False),
    sa.Column("ended_at", Instant),
    sa.Column("message", sa.Unicode(400)),  # why it claims nothing, such as `unhealthy: no space in /spool`
    one_of("state", WorkerState, "state"),
    sqlite_autoincrement=True,
)

worker_lease = sa.Table(
    "worker_lease",  # one row per worker; only the heartbeat writes it while the worker lives, and no turn locks it
    metadata,
    sa.Column("worker_id", BigId, primary_key=True, autoincrement=False),
    sa.Column("seen_at", Instant, nullable=False),  # the last heartbeat
    sa.Column("lease_until", Instant, nullable=False),
    sa.Column("ended", sa.Boolean, nullable=False, server_default=sa.text("0")),  # the worker deregistered or is dead
    sa.Column("cpu_pressure", sa.Float),  # percent of time in which work waited for a processor; NULL: not known
    sa.Column("free_memory", BigId),  # bytes that programs may still take on its machine; NULL: not known
    index("ix_worker_lease_until", "lease_until", where="ended = 0"),
)

scheduler = sa.Table(
    "scheduler",  # one row per running scheduler, which it writes once a minute; nothing depends on it
    metadata,
    sa.Column("name", sa.Unicode(200), primary_key=True),
    sa.Column("version", sa.String(32), nullable=False),
    sa.Column("started_at", Instant, nullable=False),
    sa.Column("seen_at", Instant, nullable=False),
)
