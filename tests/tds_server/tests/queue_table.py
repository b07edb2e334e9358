"""A small queue table for the server's tests, with identity, filtered index and check constraints."""

import sqlalchemy as sa
from sqlalchemy.dialects.mssql import DATETIME2

CREATED = DATETIME2(precision=3)

metadata = sa.MetaData(schema="jobfac")

run = sa.Table(
    "run",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("queue", sa.Unicode(100), nullable=False, server_default=sa.text("N'default'")),
    sa.Column("state", sa.Unicode(20), nullable=False, server_default=sa.text("N'queued'")),
    sa.Column("priority", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("attempt", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("worker", sa.Unicode(50)),
    sa.Column("key", sa.Unicode(50)),
    sa.Column("urgent", sa.Boolean, nullable=False, server_default=sa.text("0")),
    sa.Column("created_at", CREATED, nullable=False, server_default=sa.text("SYSUTCDATETIME()")),
    sa.CheckConstraint("state IN (N'queued', N'running', N'done')", name="ck_run_state"),
    sa.UniqueConstraint("worker", "key", name="uq_run_worker_key"),
)
sa.Index(
    "ix_run_claim",
    run.c.queue,
    run.c.priority.desc(),
    run.c.id,
    mssql_include=["attempt"],
    mssql_where=run.c.state == "queued",
)
sa.Index("ux_run_key", run.c.key, unique=True, mssql_where=run.c.key.is_not(None))

output = sa.Table(
    "output",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("run_id", sa.ForeignKey("jobfac.run.id"), nullable=False),
    sa.Column("text", sa.UnicodeText),
)

CLAIM = """\
WITH next AS (
    SELECT TOP (:n) * FROM jobfac.run WITH (ROWLOCK, UPDLOCK, READPAST)
    WHERE state = N'queued' AND queue = :queue ORDER BY priority DESC, id
)
UPDATE next SET state = N'running', attempt = attempt + 1, worker = :worker
OUTPUT inserted.id, deleted.attempt AS attempt_before, inserted.attempt"""


def create(engine: sa.Engine, rows: int = 0) -> None:
    """Create the schema and the tables, with this number of queued rows."""
    with engine.begin() as conn:
        conn.execute(sa.text("IF SCHEMA_ID(N'jobfac') IS NULL EXEC(N'CREATE SCHEMA jobfac')"))
        metadata.create_all(conn)
        if rows:
            conn.execute(run.insert(), [{"queue": "default"}] * rows)
