"""The first schema.

Revision: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mssql

from jobfac.database.migrations.parts import BIG_ID, INSTANT, create_index, schema_name

revision = "0001"
down_revision = None

BLOB = sa.LargeBinary().with_variant(mssql.VARBINARY("max"), "mssql")


def upgrade() -> None:
    schema = schema_name()
    op.create_table(
        "api_key",
        sa.Column("id", BIG_ID, sa.Identity(start=1), nullable=False),
        sa.Column("name", sa.Unicode(128), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("categories", sa.Unicode(), nullable=True),
        sa.Column("prefix", sa.String(16), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=True),
        sa.Column("revoked_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_key"),
        sa.CheckConstraint("role IN ('admin', 'operator', 'viewer')", name=op.f("ck_api_key_role")),
        schema=schema,
    )
    create_index("ix_api_key_prefix", "api_key", ["prefix"], unique=True)
    op.create_table(
        "attempt",
        sa.Column("run_id", BIG_ID, autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("worker_id", BIG_ID, nullable=False),
        sa.Column("worker", sa.Unicode(200), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=True),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("ended_at", INSTANT, nullable=True),
        sa.Column("state", sa.String(16), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("signal", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Unicode(1000), nullable=True),
        sa.Column("stdout_path", sa.Unicode(1000), nullable=True),
        sa.Column("stderr_path", sa.Unicode(1000), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "number", name="pk_attempt"),
        schema=schema,
    )
    op.create_table(
        "audit",
        sa.Column("id", BIG_ID, sa.Identity(start=1), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("by", sa.Unicode(200), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("subject", sa.Unicode(200), nullable=False),
        sa.Column("before", sa.Unicode(), nullable=True),
        sa.Column("after", sa.Unicode(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
        schema=schema,
    )
    create_index("ix_audit_at", "audit", ["at"])
    op.create_table(
        "category",
        sa.Column("name", sa.Unicode(128), nullable=False),
        sa.Column("definition", sa.Unicode(), nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.Column("updated_by", sa.Unicode(128), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_category"),
        schema=schema,
    )
    op.create_table(
        "daily",
        sa.Column("day", sa.DATE(), nullable=False),
        sa.Column("job", sa.Unicode(128), nullable=False),
        sa.Column("succeeded", sa.Integer(), nullable=False),
        sa.Column("mixed", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("stopped", sa.Integer(), nullable=False),
        sa.Column("timed_out", sa.Integer(), nullable=False),
        sa.Column("start_failed", sa.Integer(), nullable=False),
        sa.Column("lost", sa.Integer(), nullable=False),
        sa.Column("denied", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("retries", sa.Integer(), nullable=False),
        sa.Column("ran", sa.Integer(), nullable=False),
        sa.Column("run_ms", sa.BigInteger(), nullable=False),
        sa.Column("shortest_ms", sa.BigInteger(), nullable=True),
        sa.Column("longest_ms", sa.BigInteger(), nullable=True),
        sa.Column("longest_run", BIG_ID, nullable=True),
        sa.Column("waited", sa.Integer(), nullable=False),
        sa.Column("wait_ms", sa.BigInteger(), nullable=False),
        sa.Column("late", sa.Integer(), nullable=False),
        sa.Column("latest_ms", sa.BigInteger(), nullable=True),
        sa.Column("latest_run", BIG_ID, nullable=True),
        sa.PrimaryKeyConstraint("day", "job", name="pk_daily"),
        schema=schema,
    )
    op.create_table(
        "daily_worker",
        sa.Column("day", sa.DATE(), nullable=False),
        sa.Column("worker", sa.Unicode(200), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("busy_ms", sa.BigInteger(), nullable=False),
        sa.Column("slot_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", "worker", name="pk_daily_worker"),
        schema=schema,
    )
    op.create_table(
        "job",
        sa.Column("id", sa.Unicode(128), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("category", sa.Unicode(128), nullable=True),
        sa.Column("queue", sa.Unicode(400), nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.Column("updated_by", sa.Unicode(128), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_job"),
        sa.CheckConstraint("kind IN ('program', 'sequence')", name=op.f("ck_job_kind")),
        schema=schema,
    )
    op.create_table(
        "job_version",
        sa.Column("job", sa.Unicode(128), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("definition", sa.Unicode(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("created_by", sa.Unicode(128), nullable=False),
        sa.PrimaryKeyConstraint("job", "version", name="pk_job_version"),
        schema=schema,
    )
    op.create_table(
        "news",
        sa.Column("id", BIG_ID, sa.Identity(start=1), nullable=False),
        sa.Column("run_id", BIG_ID, nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("job", sa.Unicode(128), nullable=False),
        sa.Column("event", sa.String(32), nullable=False),
        sa.Column("detail", sa.Unicode(1000), nullable=True),
        sa.Column("body", sa.Unicode(), nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_news"),
        schema=schema,
        sqlite_autoincrement=True,
    )
    op.create_table(
        "notification",
        sa.Column("id", BIG_ID, sa.Identity(start=1), nullable=False),
        sa.Column("run_id", BIG_ID, nullable=True),
        sa.Column("job", sa.Unicode(128), nullable=False),
        sa.Column("event", sa.String(32), nullable=False),
        sa.Column("dedupe", sa.String(100), nullable=False),
        sa.Column("recipient", sa.Unicode(), nullable=False),
        sa.Column("body", sa.Unicode(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("due_at", INSTANT, nullable=False),
        sa.Column("error", sa.Unicode(1000), nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("delivered_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_notification"),
        sa.CheckConstraint("state IN ('dead', 'delivered', 'waiting')", name=op.f("ck_notification_state")),
        schema=schema,
        sqlite_autoincrement=True,
    )
    create_index("ix_notification_dedupe", "notification", ["dedupe"], unique=True)
    create_index("ix_notification_due", "notification", ["due_at"], where="state = 'waiting'")
    op.create_table(
        "queue",
        sa.Column("name", sa.Unicode(400), nullable=False),
        sa.Column("pool", sa.Unicode(128), nullable=False),
        sa.Column("labels", sa.Unicode(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_queue"),
        schema=schema,
    )
    op.create_table(
        "run",
        sa.Column("id", BIG_ID, sa.Identity(start=1), nullable=False),
        sa.Column("job", sa.Unicode(128), nullable=False),
        sa.Column("job_version", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("queue", sa.Unicode(400), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("failures", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("worker_id", BIG_ID, nullable=True),
        sa.Column("worker", sa.Unicode(200), nullable=True),
        sa.Column("arguments", sa.Unicode(), nullable=True),
        sa.Column("payload", sa.Unicode(), nullable=True),
        sa.Column("overrides", sa.Unicode(), nullable=True),
        sa.Column("notify", sa.String(200), nullable=True),
        sa.Column("notify_jobs", sa.String(200), nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("created_by", sa.Unicode(128), nullable=False),
        sa.Column("ready_at", INSTANT, nullable=True),
        sa.Column("queued_at", INSTANT, nullable=True),
        sa.Column("started_at", INSTANT, nullable=True),
        sa.Column("ended_at", INSTANT, nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("signal", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Unicode(1000), nullable=True),
        sa.Column("progress", sa.Float(), nullable=True),
        sa.Column("message", sa.Unicode(1000), nullable=True),
        sa.Column("exit_message", sa.Unicode(1000), nullable=True),
        sa.Column("outputs", sa.Unicode(), nullable=True),
        sa.Column("stop", sa.String(16), nullable=True),
        sa.Column("stop_by", sa.Unicode(128), nullable=True),
        sa.Column("restartable", sa.Boolean(), nullable=False),
        sa.Column("already_running", sa.String(16), nullable=False),
        sa.Column("concurrency_key", sa.Unicode(128), nullable=True),
        sa.Column("concurrency_limit", sa.Integer(), nullable=True),
        sa.Column("start_key", sa.Unicode(200), nullable=True),
        sa.Column("schedule_id", BIG_ID, nullable=True),
        sa.Column("due_at", INSTANT, nullable=True),
        sa.Column("sequence_run_id", BIG_ID, nullable=True),
        sa.Column("visit_id", BIG_ID, nullable=True),
        sa.Column("retry_of", BIG_ID, nullable=True),
        sa.Column("counted", sa.Boolean(), nullable=False, server_default=sa.text("0")),
        sa.PrimaryKeyConstraint("id", name="pk_run"),
        sa.CheckConstraint("kind IN ('program', 'sequence')", name=op.f("ck_run_kind")),
        sa.CheckConstraint(
            "state IN ('blocked', 'denied', 'failed', 'lost', 'mixed', 'queued', "
            "'running', 'scheduled', 'start_failed', 'stopped', 'stopping', 'succeeded', 'timed_out')",
            name=op.f("ck_run_state"),
        ),
        sa.CheckConstraint("stop IN ('now', 'polite')", name=op.f("ck_run_stop")),
        schema=schema,
        sqlite_autoincrement=True,
    )
    create_index(
        "ix_run_active",
        "run",
        ["job", "state"],
        where="state IN ('blocked', 'queued', 'running', 'scheduled', 'stopping')",
    )
    create_index("ix_run_blocked", "run", ["id"], where="state = 'blocked'")
    create_index("ix_run_claim", "run", ["queue", sa.text("priority DESC"), "id"], where="state = 'queued'")
    create_index("ix_run_concurrency", "run", ["concurrency_key", "state"], where="concurrency_key IS NOT NULL")
    create_index("ix_run_due", "run", ["schedule_id", "due_at"], unique=True, where="schedule_id IS NOT NULL")
    create_index("ix_run_ended", "run", ["ended_at"], where="ended_at IS NOT NULL")
    create_index(
        "ix_run_failed",
        "run",
        ["ended_at", "job", "state"],
        where="state IN ('denied', 'failed', 'lost', 'start_failed', 'timed_out')",
    )
    create_index("ix_run_held", "run", ["worker_id", "id"], where="state IN ('running', 'stopping')")
    create_index("ix_run_job", "run", ["job", "id"])
    create_index("ix_run_ready", "run", ["ready_at"], where="state = 'scheduled'")
    create_index("ix_run_sequence", "run", ["sequence_run_id", "state"], where="sequence_run_id IS NOT NULL")
    create_index("ix_run_start_key", "run", ["job", "start_key"], unique=True, where="start_key IS NOT NULL")
    create_index("ix_run_uncounted", "run", ["ended_at"], where="ended_at IS NOT NULL AND counted = 0")
    create_index("ix_run_visit", "run", ["visit_id"], where="visit_id IS NOT NULL")
    op.create_table(
        "run_event",
        sa.Column("id", BIG_ID, sa.Identity(start=1), nullable=False),
        sa.Column("run_id", BIG_ID, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("event", sa.String(32), nullable=False),
        sa.Column("by", sa.Unicode(200), nullable=False),
        sa.Column("detail", sa.Unicode(1000), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_run_event"),
        schema=schema,
        sqlite_autoincrement=True,
    )
    create_index("ix_run_event_run", "run_event", ["run_id", "id"])
    op.create_table(
        "run_output",
        sa.Column("run_id", BIG_ID, autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("stream", sa.String(16), nullable=False),
        sa.Column("offset", BIG_ID, autoincrement=False, nullable=False),
        sa.Column("data", BLOB, nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "attempt", "stream", "offset", name="pk_run_output"),
        schema=schema,
    )
    op.create_table(
        "schedule",
        sa.Column("id", BIG_ID, sa.Identity(start=1), nullable=False),
        sa.Column("job", sa.Unicode(128), nullable=False),
        sa.Column("name", sa.Unicode(128), nullable=False),
        sa.Column("definition", sa.Unicode(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("next_due_at", INSTANT, nullable=True),
        sa.Column("fire_at", INSTANT, nullable=True),
        sa.Column("last_due_at", INSTANT, nullable=True),
        sa.Column("resumed_at", INSTANT, nullable=True),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_schedule"),
        schema=schema,
    )
    create_index("ix_schedule_fire", "schedule", ["fire_at"], where="fire_at IS NOT NULL AND paused = 0")
    create_index("ix_schedule_job", "schedule", ["job", "name"], unique=True)
    op.create_table(
        "visit",
        sa.Column("id", BIG_ID, sa.Identity(start=1), nullable=False),
        sa.Column("run_id", BIG_ID, nullable=False),
        sa.Column("step", sa.Unicode(128), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("entered_at", INSTANT, nullable=False),
        sa.Column("start", sa.String(16), nullable=False),
        sa.Column("proceed", sa.String(16), nullable=False),
        sa.Column("refused", sa.Unicode(), nullable=True),
        sa.Column("result", sa.String(16), nullable=True),
        sa.Column("decided_at", INSTANT, nullable=True),
        sa.Column("goes_to", sa.String(16), nullable=True),
        sa.Column("next_step", sa.Unicode(128), nullable=True),
        sa.Column("reason", sa.Unicode(1000), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_visit"),
        sa.CheckConstraint(
            "result IN ('at_once', 'failure', 'mixed', 'skipped', 'success')", name=op.f("ck_visit_result")
        ),
        sa.CheckConstraint("start IN ('failed', 'skipped', 'started')", name=op.f("ck_visit_start")),
        schema=schema,
        sqlite_autoincrement=True,
    )
    create_index("ix_visit_run", "visit", ["run_id", "id"])
    create_index("ix_visit_step", "visit", ["run_id", "step", "number"], unique=True)
    op.create_table(
        "worker",
        sa.Column("id", BIG_ID, sa.Identity(start=1), nullable=False),
        sa.Column("name", sa.Unicode(200), nullable=False),
        sa.Column("host", sa.Unicode(200), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("token", sa.String(64), nullable=False),
        sa.Column("version", sa.String(32), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("pools", sa.Unicode(), nullable=False),
        sa.Column("labels", sa.Unicode(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("seen_at", INSTANT, nullable=False),
        sa.Column("lease_until", INSTANT, nullable=False),
        sa.Column("ended_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_worker"),
        sa.CheckConstraint("state IN ('active', 'dead', 'draining', 'stopped')", name=op.f("ck_worker_state")),
        schema=schema,
        sqlite_autoincrement=True,
    )
    create_index("ix_worker_lease", "worker", ["lease_until"], where="state IN ('active', 'draining')")

    if schema:
        _tune()


def _tune() -> None:
    """Set options of SQL Server. A lock on the whole table would block every claim, so escalation is disabled."""
    for table in ("run", "attempt", "run_event", "run_output", "worker"):
        op.execute(f"ALTER TABLE jobfac.{table} SET (LOCK_ESCALATION = DISABLE)")
    # READPAST does not skip page locks, so they are off on the indexes of the claim.
    op.execute("ALTER INDEX ix_run_claim ON jobfac.run SET (ALLOW_PAGE_LOCKS = OFF)")
    op.execute("ALTER INDEX pk_run ON jobfac.run SET (ALLOW_PAGE_LOCKS = OFF)")
    # Many sessions insert at the end of these tables at the same time. Servers before 2019 do not have the option.
    for table in ("run", "run_event"):
        op.execute(
            "IF CAST(PARSENAME(CAST(SERVERPROPERTY('ProductVersion') AS NVARCHAR(128)), 4) AS INT) >= 15 "
            f"EXEC(N'ALTER INDEX pk_{table} ON jobfac.{table} SET (OPTIMIZE_FOR_SEQUENTIAL_KEY = ON);')"
        )
