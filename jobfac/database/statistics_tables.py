"""The tables of statistics by day, which outlive the runs."""

import sqlalchemy as sa

from jobfac.database.metadata import metadata
from jobfac.database.types import BigId, Name
from jobfac.states import FINAL, RunState

daily = sa.Table(
    "daily",  # what became of a job's runs, by the day (UTC) on which they ended; outlives them
    metadata,
    sa.Column("day", sa.DATE, primary_key=True),
    sa.Column("job", Name, primary_key=True),
    *(sa.Column(state, sa.Integer, nullable=False) for state in RunState if state in FINAL),
    sa.Column("attempts", sa.Integer, nullable=False),  # executions
    sa.Column("retries", sa.Integer, nullable=False),
    sa.Column("ran", sa.Integer, nullable=False),  # runs that were executed at all; the times are of their last attempt
    sa.Column("run_ms", sa.BigInteger, nullable=False),  # all together
    sa.Column("shortest_ms", sa.BigInteger),
    sa.Column("longest_ms", sa.BigInteger),
    sa.Column("longest_run", BigId),
    sa.Column("waited", sa.Integer, nullable=False),  # runs that came from the queue
    sa.Column("wait_ms", sa.BigInteger, nullable=False),  # from queued to started, all together
    sa.Column("late", sa.Integer, nullable=False),  # runs that began more than a minute after their time
    sa.Column("latest_ms", sa.BigInteger),
    sa.Column("latest_run", BigId),
    sa.Column("cpu_ms", sa.BigInteger),  # of the last attempts, all together; NULL: not known
    sa.Column("peak_memory", sa.BigInteger),  # the largest, in bytes
)

daily_worker = sa.Table(
    "daily_worker",  # what a worker did on a day (UTC)
    metadata,
    sa.Column("day", sa.DATE, primary_key=True),
    sa.Column("worker", sa.Unicode(200), primary_key=True),
    sa.Column("attempts", sa.Integer, nullable=False),  # executions that ended on this day
    sa.Column("busy_ms", sa.BigInteger, nullable=False),  # of executions, this day's share of each
    sa.Column("slot_ms", sa.BigInteger, nullable=False),  # slots times presence; of workers that are forgotten
)
