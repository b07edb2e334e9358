"""Typed parameters of runs, and what started a run.

Revision: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    schema = "jobfac" if op.get_context().dialect.name == "mssql" else None
    for name in ("parameters", "sensitive", "origin"):  # without a default: SQL Server then changes no row
        op.add_column("run", sa.Column(name, sa.Unicode(), nullable=True), schema=schema)
