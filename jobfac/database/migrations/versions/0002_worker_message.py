"""Add the health message of a worker, and the number of attempts of a run that were lost with their worker.

Revision: 0002
"""

import sqlalchemy as sa
from alembic import op

from jobfac.database.migrations.parts import schema_name

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    schema = schema_name()
    # Both are nullable and have no default, so SQL Server changes only metadata and no rows.
    op.add_column("worker", sa.Column("message", sa.Unicode(400), nullable=True), schema=schema)
    op.add_column("run", sa.Column("lost", sa.Integer(), nullable=True), schema=schema)
