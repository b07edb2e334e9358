"""The running schedulers, for the page of the fleet, and the sessions of browsers that were logged out.

Revision: 0010
"""

import sqlalchemy as sa
from alembic import op

from jobfac.database.migrations.parts import INSTANT, schema_name

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    schema = schema_name()
    op.create_table(
        "scheduler",
        sa.Column("name", sa.Unicode(length=200), nullable=False),
        sa.Column("version", sa.String(length=32), nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("seen_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_scheduler")),
        schema=schema,
    )
    op.create_table(
        "session_end",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_session_end")),
        schema=schema,
    )
