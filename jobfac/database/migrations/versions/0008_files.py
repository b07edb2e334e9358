"""Starts by files that arrive, and steps that wait for a file or an address.

Revision: 0008
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mssql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime().with_variant(mssql.DATETIME2(precision=3), "mssql")
BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INDEXES = (
    ("ix_schedule_pool", "schedule", "pool", "pool IS NOT NULL"),
    ("ix_visit_pool", "visit", "pool", "pool IS NOT NULL AND result IS NULL"),
    ("ix_visit_look", "visit", "look_at", "look_at IS NOT NULL AND result IS NULL"),
)


def upgrade() -> None:
    schema = "jobfac" if op.get_context().dialect.name == "mssql" else None
    op.create_table(
        "arrived_file",
        sa.Column("job", sa.Unicode(128), nullable=False),
        sa.Column("file_key", sa.String(64), nullable=False),
        sa.Column("run_id", BIG_ID, nullable=False),
        sa.Column("seen_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("job", "file_key", name="pk_arrived_file"),
        schema=schema,
    )
    op.create_index("ix_arrived_file_seen", "arrived_file", ["seen_at"], unique=False, schema=schema)
    op.add_column("schedule", sa.Column("pool", sa.Unicode(128), nullable=True), schema=schema)
    op.add_column("visit", sa.Column("awaits", sa.Unicode(), nullable=True), schema=schema)
    op.add_column("visit", sa.Column("pool", sa.Unicode(128), nullable=True), schema=schema)
    op.add_column("visit", sa.Column("look_at", INSTANT, nullable=True), schema=schema)
    for name, table, column, condition in INDEXES:
        where = sa.text(condition)
        op.create_index(name, table, [column], schema=schema, mssql_where=where, sqlite_where=where)
    if schema:
        op.execute("ALTER TABLE jobfac.arrived_file SET (LOCK_ESCALATION = DISABLE)")
        op.execute("ALTER INDEX pk_arrived_file ON jobfac.arrived_file SET (ALLOW_PAGE_LOCKS = OFF)")
