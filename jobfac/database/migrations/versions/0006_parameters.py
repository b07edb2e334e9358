"""Typed parameters of runs, what started a run, and starts after other jobs.

Revision: 0006
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mssql

revision = "0006"
down_revision = "0003"
branch_labels = None
depends_on = None


INSTANT = sa.DateTime().with_variant(mssql.DATETIME2(precision=3), "mssql")
BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TABLES = ("upstream", "upstream_end")


def upgrade() -> None:
    schema = "jobfac" if op.get_context().dialect.name == "mssql" else None
    _parameters(schema)
    _upstream(schema)
    for table in TABLES if schema else ():
        op.execute(f"ALTER TABLE jobfac.{table} SET (LOCK_ESCALATION = DISABLE)")
        op.execute(f"ALTER INDEX pk_{table} ON jobfac.{table} SET (ALLOW_PAGE_LOCKS = OFF)")


def _parameters(schema: str | None) -> None:
    for name in ("parameters", "sensitive", "origin"):  # without a default: SQL Server then changes no row
        op.add_column("run", sa.Column(name, sa.Unicode(), nullable=True), schema=schema)


def _upstream(schema: str | None) -> None:
    op.create_table(
        "upstream",
        sa.Column("job", sa.Unicode(128), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("schedule_id", BIG_ID, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("job", "state", "schedule_id", name="pk_upstream"),
        schema=schema,
    )
    op.create_table(
        "upstream_end",
        sa.Column("schedule_id", BIG_ID, autoincrement=False, nullable=False),
        sa.Column("run_id", BIG_ID, autoincrement=False, nullable=False),
        sa.Column("job", sa.Unicode(128), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("ended_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("schedule_id", "run_id", name="pk_upstream_end"),
        schema=schema,
    )
