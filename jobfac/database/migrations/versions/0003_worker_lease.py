"""Move the lease to its own table, and let two indexes of runs cover their queries.

Revision: 0003
"""

import sqlalchemy as sa
from alembic import op

from jobfac.database.migrations.parts import BIG_ID, INSTANT, create_index, schema_name

revision = "0003"
down_revision = "0002"


VIEWS = ("v_health", "v_queue", "v_fleet")
"""Views that read the dropped columns. They are created again after the migrations."""


def upgrade() -> None:
    schema = schema_name()
    for view in VIEWS:
        op.execute(f"DROP VIEW IF EXISTS {'jobfac.' if schema else ''}{view}")
    _move_the_lease(schema)
    if schema:
        # Azure SQL Database (5) and Managed Instance (8) have the option, but report version 12.
        for table in ("run", "run_event"):
            op.execute(
                "IF CAST(SERVERPROPERTY('EngineEdition') AS INT) IN (5, 8) "
                f"EXEC(N'ALTER INDEX pk_{table} ON jobfac.{table} SET (OPTIMIZE_FOR_SEQUENTIAL_KEY = ON);')"
            )
    op.drop_index("ix_run_held", "run", schema=schema)
    create_index(
        "ix_run_held",
        "run",
        ["worker_id", "id"],
        where="state IN ('running', 'stopping')",
        include=("state", "attempt", "stop"),
    )
    op.drop_index("ix_run_blocked", "run", schema=schema)
    create_index(
        "ix_run_blocked",
        "run",
        ["job", sa.text("priority DESC"), "id"],
        where="state = 'blocked'",
        include=("concurrency_key",),
    )


def _move_the_lease(schema: str | None) -> None:
    prefix = "jobfac." if schema else ""
    op.create_table(
        "worker_lease",
        sa.Column("worker_id", BIG_ID, autoincrement=False, nullable=False),
        sa.Column("seen_at", INSTANT, nullable=False),
        sa.Column("lease_until", INSTANT, nullable=False),
        sa.Column("ended", sa.Boolean(), nullable=False, server_default=sa.text("0")),
        sa.PrimaryKeyConstraint("worker_id", name="pk_worker_lease"),
        schema=schema,
    )
    # EXEC, because SQL Server compiles a whole batch before it runs it, and in a script the columns may not exist.
    copy = (
        f"INSERT INTO {prefix}worker_lease (worker_id, seen_at, lease_until, ended) "
        f"SELECT id, seen_at, lease_until, CASE WHEN state IN ('active', 'draining') THEN 0 ELSE 1 END "
        f"FROM {prefix}worker"
    )
    op.execute(f"EXEC(N'{copy.replace(chr(39), chr(39) * 2)}')" if schema else copy)
    op.drop_index("ix_worker_lease", "worker", schema=schema)
    op.drop_column("worker", "seen_at", schema=schema)
    op.drop_column("worker", "lease_until", schema=schema)
    create_index("ix_worker_lease_until", "worker_lease", ["lease_until"], where="ended = 0")
    if schema:
        op.execute("ALTER TABLE jobfac.worker_lease SET (LOCK_ESCALATION = DISABLE)")
        for index in ("pk_worker_lease", "ix_worker_lease_until"):
            op.execute(f"ALTER INDEX {index} ON jobfac.worker_lease SET (ALLOW_PAGE_LOCKS = OFF)")
