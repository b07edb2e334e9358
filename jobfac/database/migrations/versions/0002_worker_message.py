"""Add the health message of a worker, and the number of attempts of a run that were lost with their worker.

Revision: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    schema = "jobfac" if op.get_context().dialect.name == "mssql" else None
    # Both are nullable and have no default, so SQL Server changes only metadata and no rows.
    op.add_column("worker", sa.Column("message", sa.Unicode(400), nullable=True), schema=schema)
    op.add_column("run", sa.Column("lost", sa.Integer(), nullable=True), schema=schema)
