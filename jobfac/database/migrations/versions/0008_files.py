"""Starts by files that arrive, and steps that wait for a file or an address.

Revision: 0008
"""

import sqlalchemy as sa
from alembic import op

from jobfac.database.migrations.parts import BIG_ID, INSTANT, create_index, schema_name

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    schema = schema_name()
    op.create_table(
        "arrived_file",
        sa.Column("job", sa.Unicode(128), nullable=False),
        sa.Column("file_key", sa.String(64), nullable=False),
        sa.Column("run_id", BIG_ID, nullable=False),
        sa.Column("seen_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("job", "file_key", name="pk_arrived_file"),
        schema=schema,
    )
    create_index("ix_arrived_file_seen", "arrived_file", ["seen_at"])
    op.add_column("schedule", sa.Column("pool", sa.Unicode(128), nullable=True), schema=schema)
    op.add_column("visit", sa.Column("awaits", sa.Unicode(), nullable=True), schema=schema)
    op.add_column("visit", sa.Column("pool", sa.Unicode(128), nullable=True), schema=schema)
    op.add_column("visit", sa.Column("look_at", INSTANT, nullable=True), schema=schema)
    create_index("ix_schedule_pool", "schedule", ["pool"], where="pool IS NOT NULL")
    create_index("ix_visit_pool", "visit", ["pool"], where="pool IS NOT NULL AND result IS NULL")
    create_index("ix_visit_look", "visit", ["look_at"], where="look_at IS NOT NULL AND result IS NULL")
    if schema:
        op.execute("ALTER TABLE jobfac.arrived_file SET (LOCK_ESCALATION = DISABLE)")
        op.execute("ALTER INDEX pk_arrived_file ON jobfac.arrived_file SET (ALLOW_PAGE_LOCKS = OFF)")
