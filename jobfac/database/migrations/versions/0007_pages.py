"""The key that signs the sessions of browsers, and the index that finds the notifications of a run.

Revision: 0007
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mssql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime().with_variant(mssql.DATETIME2(precision=3), "mssql")


def upgrade() -> None:
    schema = "jobfac" if op.get_context().dialect.name == "mssql" else None
    op.create_table(
        "session_key",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("secret", sa.String(length=64), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_session_key")),
        schema=schema,
    )
    condition = sa.text("run_id IS NOT NULL")
    op.create_index(
        "ix_notification_run",
        "notification",
        ["run_id"],
        unique=False,
        schema=schema,
        mssql_where=condition,
        sqlite_where=condition,
    )
