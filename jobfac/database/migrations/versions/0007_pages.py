"""The key that signs the sessions of browsers, and the index that finds the notifications of a run.

Revision: 0007
"""

import sqlalchemy as sa
from alembic import op

from jobfac.database.migrations.parts import INSTANT, create_index, schema_name

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    schema = schema_name()
    op.create_table(
        "session_key",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("secret", sa.String(length=64), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_session_key")),
        schema=schema,
    )
    create_index("ix_notification_run", "notification", ["run_id"], where="run_id IS NOT NULL")
