"""Typed parameters of runs, what started a run, starts after other jobs, and steps that fan out or wait.

Revision: 0006
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from jobfac.database.migrations.parts import BIG_ID, INSTANT, create_index, schema_name

revision = "0006"
down_revision = "0005"


TABLES = ("upstream", "upstream_end")


def upgrade() -> None:
    schema = schema_name()
    _parameters(schema)
    _upstream(schema)
    _steps(schema)
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
    create_index("ix_upstream_schedule", "upstream", ["schedule_id"])
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


def _steps(schema: str | None) -> None:
    op.add_column("run", sa.Column("item", sa.Integer(), nullable=True), schema=schema)
    columns: list[sa.Column[Any]] = [
        sa.Column("children", sa.Integer(), nullable=True),
        sa.Column("at_most", sa.Integer(), nullable=True),
        sa.Column("for_each", sa.Unicode(), nullable=True),
        sa.Column("waits_for", sa.String(16), nullable=True),
        sa.Column("wake_at", INSTANT, nullable=True),
        sa.Column("decision", sa.String(16), nullable=True),
        sa.Column("decided_by", sa.Unicode(128), nullable=True),
    ]
    for column in columns:
        op.add_column("visit", column, schema=schema)
    create_index("ix_visit_wake", "visit", ["wake_at"], where="wake_at IS NOT NULL AND result IS NULL")
