"""The tables, for both engines. On SQL Server ``schema_translate_map`` puts them into the schema ``jobfac``.

State names are literals in SQL, never parameters: neither engine uses a filtered index if its condition is a parameter.
"""

import sqlalchemy as sa

from jobfac.database.metadata import SCHEMA, metadata
from jobfac.database.operating_tables import api_key, audit, expectation, note, session_end, session_key, start_hold
from jobfac.database.sequence_tables import visit
from jobfac.database.statistics_tables import daily, daily_worker
from jobfac.database.trigger_tables import arrived_file, start_url, upstream, upstream_end
from jobfac.database.types import BigId, Blob, Instant, Long, Name, Word, identity, index, one_of, sql_literals
from jobfac.database.worker_tables import scheduler, worker, worker_lease
from jobfac.states import (
    ACTIVE,
    FAILURES,
    HELD,
    TO_ACKNOWLEDGE,
    Delivery,
    JobKind,
    RunState,
    Stop,
)

__all__ = [
    "KEY_LENGTH", "SCHEMA", "UNCOUNTED", "api_key", "arrived_file", "attempt", "audit", "category", "daily",
    "daily_worker", "expectation", "job", "job_version", "metadata", "note", "notification", "outbox_event", "queue",
    "run", "run_event", "run_output", "schedule", "scheduler", "session_end", "session_key", "start_hold", "start_url",
    "upstream", "upstream_end", "visit", "worker", "worker_lease",
]  # fmt: skip

KEY_LENGTH = 200
"""The maximum length of a start's key, in characters."""

UNCOUNTED = "ended_at IS NOT NULL AND counted = 0"
"""Condition on runs that have ended and are not in the table ``daily`` yet, exactly as in their filtered index."""

WATCHED = "pool IS NOT NULL"
"""Schedules for whose files workers watch: the condition of their filtered index, word for word."""

job = sa.Table(
    "job",
    metadata,
    sa.Column("id", Name, primary_key=True),
    sa.Column("kind", Word, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("category", Name),
    sa.Column("queue", sa.Unicode(400), nullable=False),
    sa.Column("updated_at", Instant, nullable=False),
    sa.Column("updated_by", Name, nullable=False),
    one_of("kind", JobKind, "kind"),
    sa.Index("ix_job_category", "category", "id"),
)

job_version = sa.Table(
    "job_version",
    metadata,
    sa.Column("job", Name, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("definition", Long, nullable=False),  # JSON, canonical
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("created_by", Name, nullable=False),
)

queue = sa.Table(
    "queue",  # a pool, the labels that a worker must have to claim from this queue, and the slots of each of its runs
    metadata,
    sa.Column("name", sa.Unicode(400), primary_key=True),
    sa.Column("pool", Name, nullable=False),
    sa.Column("labels", Long, nullable=False),  # JSON object
    sa.Column("slots", sa.Integer),  # how many slots each run of the queue takes; NULL: one
)

schedule = sa.Table(
    "schedule",
    metadata,
    identity(),
    sa.Column("job", Name, nullable=False),
    sa.Column("name", Name, nullable=False),  # unique within its job
    sa.Column("definition", Long, nullable=False),  # JSON, canonical
    sa.Column("paused", sa.Boolean, nullable=False),
    sa.Column("next_due_at", Instant),  # the next due time; NULL: there is none
    sa.Column("fire_at", Instant),  # next_due_at plus jitter: when a scheduler acts
    sa.Column("last_due_at", Instant),
    sa.Column("resumed_at", Instant),  # end of the last pause: earlier due times that did not run count as missed
    sa.Column("updated_at", Instant, nullable=False),
    sa.Column("pool", Name),  # whose workers watch for its files; NULL: it has none, or is not enabled
    index("ix_schedule_job", "job", "name", unique=True),
    index("ix_schedule_pool", "pool", where=WATCHED),
    index("ix_schedule_fire", "fire_at", where="fire_at IS NOT NULL AND paused = 0"),
)

run = sa.Table(
    "run",
    metadata,
    identity(),
    sa.Column("job", Name, nullable=False),
    sa.Column("job_version", sa.Integer, nullable=False),
    sa.Column("kind", Word, nullable=False),
    sa.Column("state", Word, nullable=False),
    sa.Column("queue", sa.Unicode(400), nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False, server_default=sa.text("0")),  # the fence: grows with every claim
    sa.Column("failures", sa.Integer, nullable=False, server_default=sa.text("0")),  # attempts that used up a retry
    sa.Column("worker_id", BigId),
    sa.Column("worker", sa.Unicode(200)),
    sa.Column("arguments", Long),  # JSON array; NULL: the definition's
    sa.Column("payload", Long),
    sa.Column("parameters", Long),  # JSON object by name, sensitive values masked; NULL: the job has none
    sa.Column("sensitive", Long),  # JSON object: the values that are masked in `parameters`
    sa.Column("origin", Long),  # JSON object: what started it, for placeholders such as ${trigger.path}
    sa.Column("overrides", Long),  # JSON: arguments and payloads by job (of a sequence), notify of this start
    sa.Column("notify", sa.String(200)),  # subscribed events, separated by blanks, or `all`; NULL: no subscription
    sa.Column("notify_jobs", sa.String(200)),  # of a sequence: the same for the jobs in it
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("created_by", Name, nullable=False),
    sa.Column("ready_at", Instant),  # when a scheduled run may be queued
    sa.Column("queued_at", Instant),
    sa.Column("started_at", Instant),
    sa.Column("ended_at", Instant),
    sa.Column("exit_code", sa.Integer),
    sa.Column("signal", sa.Integer),
    sa.Column("reason", sa.Unicode(1000)),
    sa.Column("progress", sa.Float),
    sa.Column("message", sa.Unicode(1000)),
    sa.Column("exit_message", sa.Unicode(1000)),
    sa.Column("outputs", Long),  # JSON object
    sa.Column("stop", Word),
    sa.Column("stop_by", Name),
    sa.Column("restartable", sa.Boolean, nullable=False),
    sa.Column("already_running", Word, nullable=False),
    sa.Column("concurrency_key", Name),
    sa.Column("concurrency_limit", sa.Integer),
    sa.Column("start_key", sa.Unicode(KEY_LENGTH)),
    sa.Column("schedule_id", BigId),
    sa.Column("due_at", Instant),
    sa.Column("sequence_run_id", BigId),
    sa.Column("visit_id", BigId),
    sa.Column("item", sa.Integer),  # with for_each: its place among the runs of the visit, from 0
    sa.Column("retry_of", BigId),
    sa.Column("counted", sa.Boolean, nullable=False, server_default=sa.text("0")),  # included in the table daily
    sa.Column("lost", sa.Integer),  # attempts lost with their worker; NULL: none
    sa.Column("slots", sa.Integer),  # how many of its worker's slots it takes; NULL: one
    sa.Column("for_worker", sa.Unicode(200)),  # the name of the only worker that may claim it; NULL: any
    sa.Column("cpu_seconds", sa.Float),  # what its last attempt used (see the guide, operating)
    sa.Column("peak_memory", BigId),  # bytes
    sa.Column("acknowledged_at", Instant),  # a failure: when a person, or a later success of the job, acknowledged it
    sa.Column("acknowledged_by", Name),
    one_of("kind", JobKind, "kind"),
    one_of("state", RunState, "state"),
    one_of("stop", Stop, "stop"),
    # The columns of ix_run_claim are in the order of the claim. The claim reads no other index.
    index("ix_run_claim", "queue", sa.text("priority DESC"), "id", where=f"state = '{RunState.QUEUED}'"),
    index("ix_run_ready", "ready_at", where=f"state = '{RunState.SCHEDULED}'"),
    index(
        "ix_run_blocked",
        "job",
        sa.text("priority DESC"),
        "id",
        where=f"state = '{RunState.BLOCKED}'",
        include=("concurrency_key",),
    ),
    index("ix_run_active", "job", "state", where=f"state IN ({sql_literals(ACTIVE)})"),
    index(
        "ix_run_held",
        "worker_id",
        "id",
        where=f"state IN ({sql_literals(HELD)})",
        include=("state", "attempt", "stop", "slots"),
    ),
    index("ix_run_concurrency", "concurrency_key", "state", where="concurrency_key IS NOT NULL"),
    index("ix_run_job", "job", "id"),
    index("ix_run_ended", "ended_at", where="ended_at IS NOT NULL"),
    index("ix_run_uncounted", "ended_at", where=UNCOUNTED),
    index("ix_run_failed", "ended_at", "job", "state", where=f"state IN ({sql_literals(FAILURES)})"),
    index(
        "ix_run_unacknowledged",
        "id",
        where=f"state IN ({sql_literals(TO_ACKNOWLEDGE)}) AND acknowledged_at IS NULL",
        include=("job",),
    ),
    index("ix_run_sequence", "sequence_run_id", "state", where="sequence_run_id IS NOT NULL"),
    index("ix_run_visit", "visit_id", where="visit_id IS NOT NULL"),
    index("ix_run_start_key", "job", "start_key", where="start_key IS NOT NULL", unique=True),
    index("ix_run_due", "schedule_id", "due_at", where="schedule_id IS NOT NULL", unique=True),
    sqlite_autoincrement=True,
)

attempt = sa.Table(
    "attempt",  # one row per execution of a run
    metadata,
    sa.Column("run_id", BigId, primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("worker_id", BigId, nullable=False),
    sa.Column("worker", sa.Unicode(200), nullable=False),
    sa.Column("pid", sa.Integer),
    sa.Column("started_at", Instant, nullable=False),
    sa.Column("ended_at", Instant),
    sa.Column("state", Word),  # how it ended; NULL while it runs; `lost` if its worker died
    sa.Column("exit_code", sa.Integer),
    sa.Column("signal", sa.Integer),
    sa.Column("reason", sa.Unicode(1000)),
    sa.Column("stdout_path", sa.Unicode(1000)),  # the file to which the definition redirects the stream
    sa.Column("stderr_path", sa.Unicode(1000)),
    sa.Column("cpu_seconds", sa.Float),
    sa.Column("peak_memory", BigId),  # bytes
)

run_output = sa.Table(
    "run_output",  # chunks of output; a gap between two chunks was cut
    metadata,
    sa.Column("run_id", BigId, primary_key=True, autoincrement=False),
    sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("stream", Word, primary_key=True),
    sa.Column("offset", BigId, primary_key=True, autoincrement=False),  # bytes from the stream's start
    sa.Column("data", Blob, nullable=False),
    sa.Column("at", Instant, nullable=False),
)

run_event = sa.Table(
    "run_event",  # append-only: every transition of a run, its cause and reason
    metadata,
    identity(),
    sa.Column("run_id", BigId, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("event", sa.String(32), nullable=False),
    sa.Column("by", sa.Unicode(200), nullable=False),
    sa.Column("detail", sa.Unicode(1000)),
    index("ix_run_event_run", "run_id", "id"),
    sqlite_autoincrement=True,
)

category = sa.Table(
    "category",
    metadata,
    sa.Column("name", Name, primary_key=True),
    sa.Column("definition", Long, nullable=False),  # JSON, canonical: defaults of the category's jobs
    sa.Column("updated_at", Instant, nullable=False),
    sa.Column("updated_by", Name, nullable=False),
)

outbox_event = sa.Table(
    "news",  # the outbox: events with a subscription, deleted when their notifications are made. It keeps its old name,
    # because a worker of the former version that still runs writes to it in the transaction that ends a run
    metadata,
    identity(),
    sa.Column("run_id", BigId),  # NULL: an event without a run, such as a missed due time
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("job", Name, nullable=False),
    sa.Column("event", sa.String(32), nullable=False),
    sa.Column("detail", sa.Unicode(1000)),
    sa.Column("body", Long),  # JSON: the run at the time of the event; NULL: the run when the event is addressed
    sa.Column("created_at", Instant, nullable=False),
    sqlite_autoincrement=True,
)

notification = sa.Table(
    "notification",  # one message to one recipient
    metadata,
    identity(),
    sa.Column("run_id", BigId),
    sa.Column("job", Name, nullable=False),
    sa.Column("event", sa.String(32), nullable=False),
    sa.Column("dedupe", sa.String(100), nullable=False),  # deduplication key, sent with the message
    sa.Column("recipient", Long, nullable=False),  # JSON, as in a definition; secrets are references
    sa.Column("body", Long, nullable=False),  # JSON
    sa.Column("state", Word, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),  # number of tries; fences the result of each try
    sa.Column("due_at", Instant, nullable=False),  # when it may be taken; moved ahead while it is being delivered
    sa.Column("error", sa.Unicode(1000)),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("delivered_at", Instant),
    one_of("state", Delivery, "state"),
    index("ix_notification_due", "due_at", where=f"state = '{Delivery.WAITING}'"),
    index("ix_notification_dedupe", "dedupe", unique=True),
    index("ix_notification_run", "run_id", where="run_id IS NOT NULL"),
    sqlite_autoincrement=True,
)
