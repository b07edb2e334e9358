"""The tables of daily statistics. Their rows stay when the runs are purged."""

import sqlalchemy as sa

from jobfac.database.metadata import metadata
from jobfac.database.types import BigId, Name
from jobfac.states import FINAL, RunState

daily = sa.Table(
    "daily",  # totals of a job's runs by the day (UTC) on which they ended
    metadata,
    sa.Column("day", sa.DATE, primary_key=True),
    sa.Column("job", Name, primary_key=True),
    *(sa.Column(state, sa.Integer, nullable=False) for state in RunState if state in FINAL),
    sa.Column("attempts", sa.Integer, nullable=False),  # executions
    sa.Column("retries", sa.Integer, nullable=False),
    sa.Column("ran", sa.Integer, nullable=False),  # runs with at least one execution
    sa.Column("run_ms", sa.BigInteger, nullable=False),  # sum over these runs, from their first start
    sa.Column("shortest_ms", sa.BigInteger),
    sa.Column("longest_ms", sa.BigInteger),
    sa.Column("longest_run", BigId),
    sa.Column("waited", sa.Integer, nullable=False),  # runs that came from the queue
    sa.Column("wait_ms", sa.BigInteger, nullable=False),  # from queued to started, sum over the runs in ``waited``
    sa.Column("late", sa.Integer, nullable=False),  # runs that began more than a minute after they were due
    sa.Column("latest_ms", sa.BigInteger),
    sa.Column("latest_run", BigId),
    sa.Column("cpu_ms", sa.BigInteger),  # of the last attempts, all together; NULL: not known
    sa.Column("peak_memory", sa.BigInteger),  # the largest, in bytes
)

daily_worker = sa.Table(
    "daily_worker",  # the work of a worker on one day (UTC)
    metadata,
    sa.Column("day", sa.DATE, primary_key=True),
    sa.Column("worker", sa.Unicode(200), primary_key=True),
    sa.Column("attempts", sa.Integer, nullable=False),  # executions that ended on this day
    sa.Column("busy_ms", sa.BigInteger, nullable=False),  # time of executions on this day
    sa.Column("slot_ms", sa.BigInteger, nullable=False),  # presence times slots; added when the worker's row is removed
)
