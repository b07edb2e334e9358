"""URLs that start jobs, and what a person gives who approves a step.

Revision: 0009
"""

import sqlalchemy as sa
from alembic import op

from jobfac.database.migrations.parts import BIG_ID, INSTANT, create_index, schema_name

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    schema = schema_name()
    op.add_column("visit", sa.Column("parameters", sa.Unicode(), nullable=True), schema=schema)
    op.create_table(
        "start_url",
        sa.Column("id", BIG_ID, sa.Identity(start=1), nullable=False),
        sa.Column("job", sa.Unicode(128), nullable=False),
        sa.Column("name", sa.Unicode(128), nullable=False),
        sa.Column("categories", sa.Unicode(), nullable=True),
        sa.Column("prefix", sa.String(16), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("created_by", sa.Unicode(128), nullable=False),
        sa.Column("revoked_at", INSTANT, nullable=True),
        sa.Column("revoked_by", sa.Unicode(128), nullable=True),
        sa.Column("used_at", INSTANT, nullable=True),
        sa.Column("window_at", INSTANT, nullable=True),
        sa.Column("starts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_start_url"),
        schema=schema,
        sqlite_autoincrement=True,
    )
    create_index("ix_start_url_prefix", "start_url", ["prefix"], unique=True)
    create_index("ix_start_url_job", "start_url", ["job"])
