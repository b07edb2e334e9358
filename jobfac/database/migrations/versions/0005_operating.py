"""Holds, notes and acknowledgement, expectations.

Revision: 0005
"""

import sqlalchemy as sa
from alembic import op

from jobfac.database.migrations.parts import BIG_ID, INSTANT, create_index, schema_name

revision = "0005"
down_revision = "0004"

UNACKNOWLEDGED = "state IN ('failed', 'lost', 'start_failed', 'timed_out') AND acknowledged_at IS NULL"


def upgrade() -> None:
    schema = schema_name()
    # Without defaults: SQL Server then changes no row, however many there are.
    op.add_column("run", sa.Column("acknowledged_at", INSTANT, nullable=True), schema=schema)
    op.add_column("run", sa.Column("acknowledged_by", sa.Unicode(128), nullable=True), schema=schema)
    create_index("ix_run_unacknowledged", "run", ["id"], where=UNACKNOWLEDGED, include=("job",))
    _holds(schema)
    op.create_table(
        "note",
        sa.Column("id", BIG_ID, sa.Identity(start=1), nullable=False),
        sa.Column("run_id", BIG_ID, nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("by", sa.Unicode(128), nullable=False),
        sa.Column("text", sa.Unicode(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_note"),
        schema=schema,
        sqlite_autoincrement=True,
    )
    create_index("ix_note_run", "note", ["run_id", "id"])
    op.create_table(
        "expectation",
        sa.Column("job", sa.Unicode(128), nullable=False),
        sa.Column("definition", sa.Unicode(), nullable=False),
        sa.Column("since", INSTANT, nullable=False),
        sa.Column("due_at", INSTANT, nullable=False),
        sa.Column("overdue_at", INSTANT, nullable=True),
        sa.Column("overdue_due_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("job", name="pk_expectation"),
        schema=schema,
    )
    create_index("ix_expectation_due", "expectation", ["due_at"])
    create_index("ix_expectation_overdue", "expectation", ["overdue_at"], where="overdue_at IS NOT NULL")
    if schema:
        for table in ("start_hold", "note", "expectation"):
            op.execute(f"ALTER TABLE jobfac.{table} SET (LOCK_ESCALATION = DISABLE)")
        # Claims pass over the rows of a hold that is just being made or released; locks of pages cannot be passed over.
        for index in ("pk_start_hold", "ix_start_hold_open"):
            op.execute(f"ALTER INDEX {index} ON jobfac.start_hold SET (ALLOW_PAGE_LOCKS = OFF)")


def _holds(schema: str | None) -> None:
    op.create_table(
        "start_hold",
        sa.Column("id", BIG_ID, sa.Identity(start=1), nullable=False),
        sa.Column("pool", sa.Unicode(128), nullable=True),
        sa.Column("category", sa.Unicode(128), nullable=True),
        sa.Column("job", sa.Unicode(128), nullable=True),
        sa.Column("reason", sa.Unicode(1000), nullable=False),
        sa.Column("until", INSTANT, nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("created_by", sa.Unicode(128), nullable=False),
        sa.Column("released_at", INSTANT, nullable=True),
        sa.Column("released_by", sa.Unicode(128), nullable=True),
        sa.Column("freed", sa.Boolean(), nullable=False, server_default=sa.text("0")),
        sa.PrimaryKeyConstraint("id", name="pk_start_hold"),
        sa.CheckConstraint(
            "CASE WHEN pool IS NULL THEN 0 ELSE 1 END + CASE WHEN category IS NULL THEN 0 ELSE 1 END"
            " + CASE WHEN job IS NULL THEN 0 ELSE 1 END <= 1",
            name=op.f("ck_start_hold_scope"),
        ),
        schema=schema,
        sqlite_autoincrement=True,
    )
    create_index("ix_start_hold_open", "start_hold", ["id"], where="freed = 0")
