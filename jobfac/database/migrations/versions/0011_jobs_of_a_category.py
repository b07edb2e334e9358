"""An index of jobs by category: for searches of runs by category, and for callers who are limited to some categories.

Revision: 0011
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    schema = "jobfac" if op.get_context().dialect.name == "mssql" else None
    op.create_index("ix_job_category", "job", ["category", "id"], unique=False, schema=schema)
