"""How many slots a run takes, what it used, and what a worker says of its machine.

Revision: 0004
"""

import sqlalchemy as sa
from alembic import op

from jobfac.database.migrations.parts import BIG_ID, create_index, schema_name

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    schema = schema_name()
    # All without a default: SQL Server then changes no row, however many there are.
    for table in ("run", "queue"):
        op.add_column(table, sa.Column("slots", sa.Integer(), nullable=True), schema=schema)
    op.add_column("run", sa.Column("for_worker", sa.Unicode(200), nullable=True), schema=schema)
    for table in ("run", "attempt"):
        op.add_column(table, sa.Column("cpu_seconds", sa.Float(), nullable=True), schema=schema)
        op.add_column(table, sa.Column("peak_memory", BIG_ID, nullable=True), schema=schema)
    for name in ("cpu_ms", "peak_memory"):
        op.add_column("daily", sa.Column(name, sa.BigInteger(), nullable=True), schema=schema)
    op.add_column("worker_lease", sa.Column("cpu_pressure", sa.Float(), nullable=True), schema=schema)
    op.add_column("worker_lease", sa.Column("free_memory", BIG_ID, nullable=True), schema=schema)
    op.drop_index("ix_run_held", "run", schema=schema)
    create_index(
        "ix_run_held",
        "run",
        ["worker_id", "id"],
        where="state IN ('running', 'stopping')",
        include=("state", "attempt", "stop", "slots"),
    )
