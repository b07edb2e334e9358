"""What a worker says of its machine, and how many attempts of a run were lost with their worker.

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
    # Both without a default: SQL Server then changes no row, however many there are.
    op.add_column("worker", sa.Column("message", sa.Unicode(400), nullable=True), schema=schema)
    op.add_column("run", sa.Column("lost", sa.Integer(), nullable=True), schema=schema)
