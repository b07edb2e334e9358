"""An index of jobs by category: for searches of runs by category, and for callers who are limited to some categories.

Revision: 0011
"""

from jobfac.database.migrations.parts import create_index

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    create_index("ix_job_category", "job", ["category", "id"])
