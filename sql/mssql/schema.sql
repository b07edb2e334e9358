-- The whole schema of jobfac for SQL Server 2016 and newer and Azure SQL Database, as `jobfac db script` prints it.
-- Run it as db_owner with sqlcmd -b, which stops at the first error. If the tables exist already and are of this
-- version, it only creates or alters the views, procedures and roles.
SET QUOTED_IDENTIFIER ON;
SET ANSI_NULLS ON;
SET XACT_ABORT ON;
GO
IF OBJECT_ID(N'jobfac.alembic_version', N'U') IS NOT NULL
    SET NOEXEC ON;
GO

IF SCHEMA_ID(N'jobfac') IS NULL EXEC(N'CREATE SCHEMA jobfac AUTHORIZATION dbo');

GO

BEGIN TRANSACTION;

CREATE TABLE jobfac.alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

GO

-- Running upgrade  -> 0001

CREATE TABLE jobfac.api_key (
    id BIGINT NOT NULL IDENTITY(1,1),
    name NVARCHAR(128) NOT NULL,
    role VARCHAR(16) NOT NULL,
    categories NVARCHAR(max) NULL,
    prefix VARCHAR(16) NOT NULL,
    hash VARCHAR(64) NOT NULL,
    created_at DATETIME2(3) NOT NULL,
    expires_at DATETIME2(3) NULL,
    revoked_at DATETIME2(3) NULL,
    CONSTRAINT pk_api_key PRIMARY KEY (id),
    CONSTRAINT ck_api_key_role CHECK (role IN ('admin', 'operator', 'viewer'))
);

GO

CREATE UNIQUE INDEX ix_api_key_prefix ON jobfac.api_key (prefix);

GO

CREATE TABLE jobfac.attempt (
    run_id BIGINT NOT NULL,
    number INTEGER NOT NULL,
    worker_id BIGINT NOT NULL,
    worker NVARCHAR(200) NOT NULL,
    pid INTEGER NULL,
    started_at DATETIME2(3) NOT NULL,
    ended_at DATETIME2(3) NULL,
    state VARCHAR(16) NULL,
    exit_code INTEGER NULL,
    signal INTEGER NULL,
    reason NVARCHAR(1000) NULL,
    stdout_path NVARCHAR(1000) NULL,
    stderr_path NVARCHAR(1000) NULL,
    CONSTRAINT pk_attempt PRIMARY KEY (run_id, number)
);

GO

CREATE TABLE jobfac.audit (
    id BIGINT NOT NULL IDENTITY(1,1),
    at DATETIME2(3) NOT NULL,
    [by] NVARCHAR(200) NOT NULL,
    action VARCHAR(32) NOT NULL,
    subject NVARCHAR(200) NOT NULL,
    before NVARCHAR(max) NULL,
    after NVARCHAR(max) NULL,
    CONSTRAINT pk_audit PRIMARY KEY (id)
);

GO

CREATE INDEX ix_audit_at ON jobfac.audit (at);

GO

CREATE TABLE jobfac.category (
    name NVARCHAR(128) NOT NULL,
    definition NVARCHAR(max) NOT NULL,
    updated_at DATETIME2(3) NOT NULL,
    updated_by NVARCHAR(128) NOT NULL,
    CONSTRAINT pk_category PRIMARY KEY (name)
);

GO

CREATE TABLE jobfac.daily (
    day DATE NOT NULL,
    job NVARCHAR(128) NOT NULL,
    succeeded INTEGER NOT NULL,
    mixed INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    stopped INTEGER NOT NULL,
    timed_out INTEGER NOT NULL,
    start_failed INTEGER NOT NULL,
    lost INTEGER NOT NULL,
    denied INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    retries INTEGER NOT NULL,
    ran INTEGER NOT NULL,
    run_ms BIGINT NOT NULL,
    shortest_ms BIGINT NULL,
    longest_ms BIGINT NULL,
    longest_run BIGINT NULL,
    waited INTEGER NOT NULL,
    wait_ms BIGINT NOT NULL,
    late INTEGER NOT NULL,
    latest_ms BIGINT NULL,
    latest_run BIGINT NULL,
    CONSTRAINT pk_daily PRIMARY KEY (day, job)
);

GO

CREATE TABLE jobfac.daily_worker (
    day DATE NOT NULL,
    worker NVARCHAR(200) NOT NULL,
    attempts INTEGER NOT NULL,
    busy_ms BIGINT NOT NULL,
    slot_ms BIGINT NOT NULL,
    CONSTRAINT pk_daily_worker PRIMARY KEY (day, worker)
);

GO

CREATE TABLE jobfac.job (
    id NVARCHAR(128) NOT NULL,
    kind VARCHAR(16) NOT NULL,
    version INTEGER NOT NULL,
    enabled BIT NOT NULL,
    category NVARCHAR(128) NULL,
    queue NVARCHAR(400) NOT NULL,
    updated_at DATETIME2(3) NOT NULL,
    updated_by NVARCHAR(128) NOT NULL,
    CONSTRAINT pk_job PRIMARY KEY (id),
    CONSTRAINT ck_job_kind CHECK (kind IN ('program', 'sequence'))
);

GO

CREATE TABLE jobfac.job_version (
    job NVARCHAR(128) NOT NULL,
    version INTEGER NOT NULL,
    definition NVARCHAR(max) NOT NULL,
    created_at DATETIME2(3) NOT NULL,
    created_by NVARCHAR(128) NOT NULL,
    CONSTRAINT pk_job_version PRIMARY KEY (job, version)
);

GO

CREATE TABLE jobfac.news (
    id BIGINT NOT NULL IDENTITY(1,1),
    run_id BIGINT NULL,
    attempt INTEGER NOT NULL,
    job NVARCHAR(128) NOT NULL,
    event VARCHAR(32) NOT NULL,
    detail NVARCHAR(1000) NULL,
    body NVARCHAR(max) NULL,
    created_at DATETIME2(3) NOT NULL,
    CONSTRAINT pk_news PRIMARY KEY (id)
);

GO

CREATE TABLE jobfac.notification (
    id BIGINT NOT NULL IDENTITY(1,1),
    run_id BIGINT NULL,
    job NVARCHAR(128) NOT NULL,
    event VARCHAR(32) NOT NULL,
    dedupe VARCHAR(100) NOT NULL,
    recipient NVARCHAR(max) NOT NULL,
    body NVARCHAR(max) NOT NULL,
    state VARCHAR(16) NOT NULL,
    tries INTEGER NOT NULL,
    due_at DATETIME2(3) NOT NULL,
    error NVARCHAR(1000) NULL,
    created_at DATETIME2(3) NOT NULL,
    delivered_at DATETIME2(3) NULL,
    CONSTRAINT pk_notification PRIMARY KEY (id),
    CONSTRAINT ck_notification_state CHECK (state IN ('dead', 'delivered', 'waiting'))
);

GO

CREATE UNIQUE INDEX ix_notification_dedupe ON jobfac.notification (dedupe);

GO

CREATE INDEX ix_notification_due ON jobfac.notification (due_at) WHERE state = 'waiting';

GO

CREATE TABLE jobfac.queue (
    name NVARCHAR(400) NOT NULL,
    pool NVARCHAR(128) NOT NULL,
    labels NVARCHAR(max) NOT NULL,
    CONSTRAINT pk_queue PRIMARY KEY (name)
);

GO

CREATE TABLE jobfac.run (
    id BIGINT NOT NULL IDENTITY(1,1),
    job NVARCHAR(128) NOT NULL,
    job_version INTEGER NOT NULL,
    kind VARCHAR(16) NOT NULL,
    state VARCHAR(16) NOT NULL,
    queue NVARCHAR(400) NOT NULL,
    priority INTEGER NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    worker_id BIGINT NULL,
    worker NVARCHAR(200) NULL,
    arguments NVARCHAR(max) NULL,
    payload NVARCHAR(max) NULL,
    overrides NVARCHAR(max) NULL,
    notify VARCHAR(200) NULL,
    notify_jobs VARCHAR(200) NULL,
    created_at DATETIME2(3) NOT NULL,
    created_by NVARCHAR(128) NOT NULL,
    ready_at DATETIME2(3) NULL,
    queued_at DATETIME2(3) NULL,
    started_at DATETIME2(3) NULL,
    ended_at DATETIME2(3) NULL,
    exit_code INTEGER NULL,
    signal INTEGER NULL,
    reason NVARCHAR(1000) NULL,
    progress FLOAT NULL,
    message NVARCHAR(1000) NULL,
    exit_message NVARCHAR(1000) NULL,
    outputs NVARCHAR(max) NULL,
    stop VARCHAR(16) NULL,
    stop_by NVARCHAR(128) NULL,
    restartable BIT NOT NULL,
    already_running VARCHAR(16) NOT NULL,
    concurrency_key NVARCHAR(128) NULL,
    concurrency_limit INTEGER NULL,
    start_key NVARCHAR(200) NULL,
    schedule_id BIGINT NULL,
    due_at DATETIME2(3) NULL,
    sequence_run_id BIGINT NULL,
    visit_id BIGINT NULL,
    retry_of BIGINT NULL,
    counted BIT NOT NULL DEFAULT 0,
    CONSTRAINT pk_run PRIMARY KEY (id),
    CONSTRAINT ck_run_kind CHECK (kind IN ('program', 'sequence')),
    CONSTRAINT ck_run_state CHECK (state IN ('blocked', 'denied', 'failed', 'lost', 'mixed', 'queued', 'running', 'scheduled', 'start_failed', 'stopped', 'stopping', 'succeeded', 'timed_out')),
    CONSTRAINT ck_run_stop CHECK (stop IN ('now', 'polite'))
);

GO

CREATE INDEX ix_run_active ON jobfac.run (job, state) WHERE state IN ('blocked', 'queued', 'running', 'scheduled', 'stopping');

GO

CREATE INDEX ix_run_blocked ON jobfac.run (id) WHERE state = 'blocked';

GO

CREATE INDEX ix_run_claim ON jobfac.run (queue, priority DESC, id) WHERE state = 'queued';

GO

CREATE INDEX ix_run_concurrency ON jobfac.run (concurrency_key, state) WHERE concurrency_key IS NOT NULL;

GO

CREATE UNIQUE INDEX ix_run_due ON jobfac.run (schedule_id, due_at) WHERE schedule_id IS NOT NULL;

GO

CREATE INDEX ix_run_ended ON jobfac.run (ended_at) WHERE ended_at IS NOT NULL;

GO

CREATE INDEX ix_run_failed ON jobfac.run (ended_at, job, state) WHERE state IN ('denied', 'failed', 'lost', 'start_failed', 'timed_out');

GO

CREATE INDEX ix_run_held ON jobfac.run (worker_id, id) WHERE state IN ('running', 'stopping');

GO

CREATE INDEX ix_run_job ON jobfac.run (job, id);

GO

CREATE INDEX ix_run_ready ON jobfac.run (ready_at) WHERE state = 'scheduled';

GO

CREATE INDEX ix_run_sequence ON jobfac.run (sequence_run_id, state) WHERE sequence_run_id IS NOT NULL;

GO

CREATE UNIQUE INDEX ix_run_start_key ON jobfac.run (job, start_key) WHERE start_key IS NOT NULL;

GO

CREATE INDEX ix_run_uncounted ON jobfac.run (ended_at) WHERE ended_at IS NOT NULL AND counted = 0;

GO

CREATE INDEX ix_run_visit ON jobfac.run (visit_id) WHERE visit_id IS NOT NULL;

GO

CREATE TABLE jobfac.run_event (
    id BIGINT NOT NULL IDENTITY(1,1),
    run_id BIGINT NOT NULL,
    attempt INTEGER NOT NULL,
    at DATETIME2(3) NOT NULL,
    event VARCHAR(32) NOT NULL,
    [by] NVARCHAR(200) NOT NULL,
    detail NVARCHAR(1000) NULL,
    CONSTRAINT pk_run_event PRIMARY KEY (id)
);

GO

CREATE INDEX ix_run_event_run ON jobfac.run_event (run_id, id);

GO

CREATE TABLE jobfac.run_output (
    run_id BIGINT NOT NULL,
    attempt INTEGER NOT NULL,
    stream VARCHAR(16) NOT NULL,
    offset BIGINT NOT NULL,
    data VARBINARY(max) NOT NULL,
    at DATETIME2(3) NOT NULL,
    CONSTRAINT pk_run_output PRIMARY KEY (run_id, attempt, stream, offset)
);

GO

CREATE TABLE jobfac.schedule (
    id BIGINT NOT NULL IDENTITY(1,1),
    job NVARCHAR(128) NOT NULL,
    name NVARCHAR(128) NOT NULL,
    definition NVARCHAR(max) NOT NULL,
    paused BIT NOT NULL,
    next_due_at DATETIME2(3) NULL,
    fire_at DATETIME2(3) NULL,
    last_due_at DATETIME2(3) NULL,
    resumed_at DATETIME2(3) NULL,
    updated_at DATETIME2(3) NOT NULL,
    CONSTRAINT pk_schedule PRIMARY KEY (id)
);

GO

CREATE INDEX ix_schedule_fire ON jobfac.schedule (fire_at) WHERE fire_at IS NOT NULL AND paused = 0;

GO

CREATE UNIQUE INDEX ix_schedule_job ON jobfac.schedule (job, name);

GO

CREATE TABLE jobfac.visit (
    id BIGINT NOT NULL IDENTITY(1,1),
    run_id BIGINT NOT NULL,
    step NVARCHAR(128) NOT NULL,
    number INTEGER NOT NULL,
    entered_at DATETIME2(3) NOT NULL,
    start VARCHAR(16) NOT NULL,
    proceed VARCHAR(16) NOT NULL,
    refused NVARCHAR(max) NULL,
    result VARCHAR(16) NULL,
    decided_at DATETIME2(3) NULL,
    goes_to VARCHAR(16) NULL,
    next_step NVARCHAR(128) NULL,
    reason NVARCHAR(1000) NULL,
    CONSTRAINT pk_visit PRIMARY KEY (id),
    CONSTRAINT ck_visit_result CHECK (result IN ('at_once', 'failure', 'mixed', 'skipped', 'success')),
    CONSTRAINT ck_visit_start CHECK (start IN ('failed', 'skipped', 'started'))
);

GO

CREATE INDEX ix_visit_run ON jobfac.visit (run_id, id);

GO

CREATE UNIQUE INDEX ix_visit_step ON jobfac.visit (run_id, step, number);

GO

CREATE TABLE jobfac.worker (
    id BIGINT NOT NULL IDENTITY(1,1),
    name NVARCHAR(200) NOT NULL,
    host NVARCHAR(200) NOT NULL,
    pid INTEGER NOT NULL,
    token VARCHAR(64) NOT NULL,
    version VARCHAR(32) NOT NULL,
    slots INTEGER NOT NULL,
    pools NVARCHAR(max) NOT NULL,
    labels NVARCHAR(max) NOT NULL,
    state VARCHAR(16) NOT NULL,
    started_at DATETIME2(3) NOT NULL,
    seen_at DATETIME2(3) NOT NULL,
    lease_until DATETIME2(3) NOT NULL,
    ended_at DATETIME2(3) NULL,
    CONSTRAINT pk_worker PRIMARY KEY (id),
    CONSTRAINT ck_worker_state CHECK (state IN ('active', 'dead', 'draining', 'stopped'))
);

GO

CREATE INDEX ix_worker_lease ON jobfac.worker (lease_until) WHERE state IN ('active', 'draining');

GO

ALTER TABLE jobfac.run SET (LOCK_ESCALATION = DISABLE);

GO

ALTER TABLE jobfac.attempt SET (LOCK_ESCALATION = DISABLE);

GO

ALTER TABLE jobfac.run_event SET (LOCK_ESCALATION = DISABLE);

GO

ALTER TABLE jobfac.run_output SET (LOCK_ESCALATION = DISABLE);

GO

ALTER TABLE jobfac.worker SET (LOCK_ESCALATION = DISABLE);

GO

ALTER INDEX ix_run_claim ON jobfac.run SET (ALLOW_PAGE_LOCKS = OFF);

GO

ALTER INDEX pk_run ON jobfac.run SET (ALLOW_PAGE_LOCKS = OFF);

GO

IF CAST(PARSENAME(CAST(SERVERPROPERTY('ProductVersion') AS NVARCHAR(128)), 4) AS INT) >= 15 EXEC(N'ALTER INDEX pk_run ON jobfac.run SET (OPTIMIZE_FOR_SEQUENTIAL_KEY = ON);');

GO

IF CAST(PARSENAME(CAST(SERVERPROPERTY('ProductVersion') AS NVARCHAR(128)), 4) AS INT) >= 15 EXEC(N'ALTER INDEX pk_run_event ON jobfac.run_event SET (OPTIMIZE_FOR_SEQUENTIAL_KEY = ON);');

GO

INSERT INTO jobfac.alembic_version (version_num) OUTPUT inserted.version_num VALUES ('0001');

GO

COMMIT;

GO

BEGIN TRANSACTION;

-- Running upgrade 0001 -> 0002

ALTER TABLE jobfac.worker ADD message NVARCHAR(400) NULL;

GO

ALTER TABLE jobfac.run ADD lost INTEGER NULL;

GO

UPDATE jobfac.alembic_version SET version_num='0002' WHERE jobfac.alembic_version.version_num = '0001';

GO

COMMIT;

GO

BEGIN TRANSACTION;

-- Running upgrade 0002 -> 0003

DROP VIEW IF EXISTS jobfac.v_health;

GO

DROP VIEW IF EXISTS jobfac.v_queue;

GO

DROP VIEW IF EXISTS jobfac.v_fleet;

GO

CREATE TABLE jobfac.worker_lease (
    worker_id BIGINT NOT NULL,
    seen_at DATETIME2(3) NOT NULL,
    lease_until DATETIME2(3) NOT NULL,
    ended BIT NOT NULL DEFAULT 0,
    CONSTRAINT pk_worker_lease PRIMARY KEY (worker_id)
);

GO

EXEC(N'INSERT INTO jobfac.worker_lease (worker_id, seen_at, lease_until, ended) SELECT id, seen_at, lease_until, CASE WHEN state IN (''active'', ''draining'') THEN 0 ELSE 1 END FROM jobfac.worker');

GO

DROP INDEX ix_worker_lease ON jobfac.worker;

GO

ALTER TABLE jobfac.worker DROP COLUMN seen_at;

GO

ALTER TABLE jobfac.worker DROP COLUMN lease_until;

GO

CREATE INDEX ix_worker_lease_until ON jobfac.worker_lease (lease_until) WHERE ended = 0;

GO

ALTER TABLE jobfac.worker_lease SET (LOCK_ESCALATION = DISABLE);

GO

ALTER INDEX pk_worker_lease ON jobfac.worker_lease SET (ALLOW_PAGE_LOCKS = OFF);

GO

ALTER INDEX ix_worker_lease_until ON jobfac.worker_lease SET (ALLOW_PAGE_LOCKS = OFF);

GO

IF CAST(SERVERPROPERTY('EngineEdition') AS INT) IN (5, 8) EXEC(N'ALTER INDEX pk_run ON jobfac.run SET (OPTIMIZE_FOR_SEQUENTIAL_KEY = ON);');

GO

IF CAST(SERVERPROPERTY('EngineEdition') AS INT) IN (5, 8) EXEC(N'ALTER INDEX pk_run_event ON jobfac.run_event SET (OPTIMIZE_FOR_SEQUENTIAL_KEY = ON);');

GO

DROP INDEX ix_run_held ON jobfac.run;

GO

CREATE INDEX ix_run_held ON jobfac.run (worker_id, id) INCLUDE (state, attempt, stop) WHERE state IN ('running', 'stopping');

GO

DROP INDEX ix_run_blocked ON jobfac.run;

GO

CREATE INDEX ix_run_blocked ON jobfac.run (job, priority DESC, id) INCLUDE (concurrency_key) WHERE state = 'blocked';

GO

UPDATE jobfac.alembic_version SET version_num='0003' WHERE jobfac.alembic_version.version_num = '0002';

GO

COMMIT;

GO

BEGIN TRANSACTION;

-- Running upgrade 0003 -> 0004

ALTER TABLE jobfac.run ADD slots INTEGER NULL;

GO

ALTER TABLE jobfac.queue ADD slots INTEGER NULL;

GO

ALTER TABLE jobfac.run ADD for_worker NVARCHAR(200) NULL;

GO

ALTER TABLE jobfac.run ADD cpu_seconds FLOAT NULL;

GO

ALTER TABLE jobfac.run ADD peak_memory BIGINT NULL;

GO

ALTER TABLE jobfac.attempt ADD cpu_seconds FLOAT NULL;

GO

ALTER TABLE jobfac.attempt ADD peak_memory BIGINT NULL;

GO

ALTER TABLE jobfac.daily ADD cpu_ms BIGINT NULL;

GO

ALTER TABLE jobfac.daily ADD peak_memory BIGINT NULL;

GO

ALTER TABLE jobfac.worker_lease ADD cpu_pressure FLOAT NULL;

GO

ALTER TABLE jobfac.worker_lease ADD free_memory BIGINT NULL;

GO

DROP INDEX ix_run_held ON jobfac.run;

GO

CREATE INDEX ix_run_held ON jobfac.run (worker_id, id) INCLUDE (state, attempt, stop, slots) WHERE state IN ('running', 'stopping');

GO

UPDATE jobfac.alembic_version SET version_num='0004' WHERE jobfac.alembic_version.version_num = '0003';

GO

COMMIT;

GO

BEGIN TRANSACTION;

-- Running upgrade 0004 -> 0005

ALTER TABLE jobfac.run ADD acknowledged_at DATETIME2(3) NULL;

GO

ALTER TABLE jobfac.run ADD acknowledged_by NVARCHAR(128) NULL;

GO

CREATE INDEX ix_run_unacknowledged ON jobfac.run (id) INCLUDE (job) WHERE state IN ('failed', 'lost', 'start_failed', 'timed_out') AND acknowledged_at IS NULL;

GO

CREATE TABLE jobfac.start_hold (
    id BIGINT NOT NULL IDENTITY(1,1),
    pool NVARCHAR(128) NULL,
    category NVARCHAR(128) NULL,
    job NVARCHAR(128) NULL,
    reason NVARCHAR(1000) NOT NULL,
    until DATETIME2(3) NULL,
    created_at DATETIME2(3) NOT NULL,
    created_by NVARCHAR(128) NOT NULL,
    released_at DATETIME2(3) NULL,
    released_by NVARCHAR(128) NULL,
    freed BIT NOT NULL DEFAULT 0,
    CONSTRAINT pk_start_hold PRIMARY KEY (id),
    CONSTRAINT ck_start_hold_scope CHECK (CASE WHEN pool IS NULL THEN 0 ELSE 1 END + CASE WHEN category IS NULL THEN 0 ELSE 1 END + CASE WHEN job IS NULL THEN 0 ELSE 1 END <= 1)
);

GO

CREATE INDEX ix_start_hold_open ON jobfac.start_hold (id) WHERE freed = 0;

GO

CREATE TABLE jobfac.note (
    id BIGINT NOT NULL IDENTITY(1,1),
    run_id BIGINT NOT NULL,
    at DATETIME2(3) NOT NULL,
    [by] NVARCHAR(128) NOT NULL,
    text NVARCHAR(max) NOT NULL,
    CONSTRAINT pk_note PRIMARY KEY (id)
);

GO

CREATE INDEX ix_note_run ON jobfac.note (run_id, id);

GO

CREATE TABLE jobfac.expectation (
    job NVARCHAR(128) NOT NULL,
    definition NVARCHAR(max) NOT NULL,
    since DATETIME2(3) NOT NULL,
    due_at DATETIME2(3) NOT NULL,
    overdue_at DATETIME2(3) NULL,
    overdue_due_at DATETIME2(3) NULL,
    CONSTRAINT pk_expectation PRIMARY KEY (job)
);

GO

CREATE INDEX ix_expectation_due ON jobfac.expectation (due_at);

GO

CREATE INDEX ix_expectation_overdue ON jobfac.expectation (overdue_at) WHERE overdue_at IS NOT NULL;

GO

ALTER TABLE jobfac.start_hold SET (LOCK_ESCALATION = DISABLE);

GO

ALTER TABLE jobfac.note SET (LOCK_ESCALATION = DISABLE);

GO

ALTER TABLE jobfac.expectation SET (LOCK_ESCALATION = DISABLE);

GO

ALTER INDEX pk_start_hold ON jobfac.start_hold SET (ALLOW_PAGE_LOCKS = OFF);

GO

ALTER INDEX ix_start_hold_open ON jobfac.start_hold SET (ALLOW_PAGE_LOCKS = OFF);

GO

UPDATE jobfac.alembic_version SET version_num='0005' WHERE jobfac.alembic_version.version_num = '0004';

GO

COMMIT;

GO

BEGIN TRANSACTION;

-- Running upgrade 0005 -> 0006

ALTER TABLE jobfac.run ADD parameters NVARCHAR(max) NULL;

GO

ALTER TABLE jobfac.run ADD sensitive NVARCHAR(max) NULL;

GO

ALTER TABLE jobfac.run ADD origin NVARCHAR(max) NULL;

GO

CREATE TABLE jobfac.upstream (
    job NVARCHAR(128) NOT NULL,
    state VARCHAR(16) NOT NULL,
    schedule_id BIGINT NOT NULL,
    CONSTRAINT pk_upstream PRIMARY KEY (job, state, schedule_id)
);

GO

CREATE INDEX ix_upstream_schedule ON jobfac.upstream (schedule_id);

GO

CREATE TABLE jobfac.upstream_end (
    schedule_id BIGINT NOT NULL,
    run_id BIGINT NOT NULL,
    job NVARCHAR(128) NOT NULL,
    state VARCHAR(16) NOT NULL,
    ended_at DATETIME2(3) NOT NULL,
    CONSTRAINT pk_upstream_end PRIMARY KEY (schedule_id, run_id)
);

GO

ALTER TABLE jobfac.run ADD item INTEGER NULL;

GO

ALTER TABLE jobfac.visit ADD children INTEGER NULL;

GO

ALTER TABLE jobfac.visit ADD at_most INTEGER NULL;

GO

ALTER TABLE jobfac.visit ADD for_each NVARCHAR(max) NULL;

GO

ALTER TABLE jobfac.visit ADD waits_for VARCHAR(16) NULL;

GO

ALTER TABLE jobfac.visit ADD wake_at DATETIME2(3) NULL;

GO

ALTER TABLE jobfac.visit ADD decision VARCHAR(16) NULL;

GO

ALTER TABLE jobfac.visit ADD decided_by NVARCHAR(128) NULL;

GO

CREATE INDEX ix_visit_wake ON jobfac.visit (wake_at) WHERE wake_at IS NOT NULL AND result IS NULL;

GO

ALTER TABLE jobfac.upstream SET (LOCK_ESCALATION = DISABLE);

GO

ALTER INDEX pk_upstream ON jobfac.upstream SET (ALLOW_PAGE_LOCKS = OFF);

GO

ALTER TABLE jobfac.upstream_end SET (LOCK_ESCALATION = DISABLE);

GO

ALTER INDEX pk_upstream_end ON jobfac.upstream_end SET (ALLOW_PAGE_LOCKS = OFF);

GO

UPDATE jobfac.alembic_version SET version_num='0006' WHERE jobfac.alembic_version.version_num = '0005';

GO

COMMIT;

GO

BEGIN TRANSACTION;

-- Running upgrade 0006 -> 0007

CREATE TABLE jobfac.session_key (
    id INTEGER NOT NULL,
    secret VARCHAR(64) NOT NULL,
    created_at DATETIME2(3) NOT NULL,
    CONSTRAINT pk_session_key PRIMARY KEY (id)
);

GO

CREATE INDEX ix_notification_run ON jobfac.notification (run_id) WHERE run_id IS NOT NULL;

GO

UPDATE jobfac.alembic_version SET version_num='0007' WHERE jobfac.alembic_version.version_num = '0006';

GO

COMMIT;

GO

BEGIN TRANSACTION;

-- Running upgrade 0007 -> 0008

CREATE TABLE jobfac.arrived_file (
    job NVARCHAR(128) NOT NULL,
    file_key VARCHAR(64) NOT NULL,
    run_id BIGINT NOT NULL,
    seen_at DATETIME2(3) NOT NULL,
    CONSTRAINT pk_arrived_file PRIMARY KEY (job, file_key)
);

GO

CREATE INDEX ix_arrived_file_seen ON jobfac.arrived_file (seen_at);

GO

ALTER TABLE jobfac.schedule ADD pool NVARCHAR(128) NULL;

GO

ALTER TABLE jobfac.visit ADD awaits NVARCHAR(max) NULL;

GO

ALTER TABLE jobfac.visit ADD pool NVARCHAR(128) NULL;

GO

ALTER TABLE jobfac.visit ADD look_at DATETIME2(3) NULL;

GO

CREATE INDEX ix_schedule_pool ON jobfac.schedule (pool) WHERE pool IS NOT NULL;

GO

CREATE INDEX ix_visit_pool ON jobfac.visit (pool) WHERE pool IS NOT NULL AND result IS NULL;

GO

CREATE INDEX ix_visit_look ON jobfac.visit (look_at) WHERE look_at IS NOT NULL AND result IS NULL;

GO

ALTER TABLE jobfac.arrived_file SET (LOCK_ESCALATION = DISABLE);

GO

ALTER INDEX pk_arrived_file ON jobfac.arrived_file SET (ALLOW_PAGE_LOCKS = OFF);

GO

UPDATE jobfac.alembic_version SET version_num='0008' WHERE jobfac.alembic_version.version_num = '0007';

GO

COMMIT;

GO

BEGIN TRANSACTION;

-- Running upgrade 0008 -> 0009

ALTER TABLE jobfac.visit ADD parameters NVARCHAR(max) NULL;

GO

CREATE TABLE jobfac.start_url (
    id BIGINT NOT NULL IDENTITY(1,1),
    job NVARCHAR(128) NOT NULL,
    name NVARCHAR(128) NOT NULL,
    categories NVARCHAR(max) NULL,
    prefix VARCHAR(16) NOT NULL,
    hash VARCHAR(64) NOT NULL,
    created_at DATETIME2(3) NOT NULL,
    created_by NVARCHAR(128) NOT NULL,
    revoked_at DATETIME2(3) NULL,
    revoked_by NVARCHAR(128) NULL,
    used_at DATETIME2(3) NULL,
    window_at DATETIME2(3) NULL,
    starts INTEGER NOT NULL DEFAULT 0,
    CONSTRAINT pk_start_url PRIMARY KEY (id)
);

GO

CREATE UNIQUE INDEX ix_start_url_prefix ON jobfac.start_url (prefix);

GO

CREATE INDEX ix_start_url_job ON jobfac.start_url (job);

GO

UPDATE jobfac.alembic_version SET version_num='0009' WHERE jobfac.alembic_version.version_num = '0008';

GO

COMMIT;

GO

BEGIN TRANSACTION;

-- Running upgrade 0009 -> 0010

CREATE TABLE jobfac.scheduler (
    name NVARCHAR(200) NOT NULL,
    version VARCHAR(32) NOT NULL,
    started_at DATETIME2(3) NOT NULL,
    seen_at DATETIME2(3) NOT NULL,
    CONSTRAINT pk_scheduler PRIMARY KEY (name)
);

GO

CREATE TABLE jobfac.session_end (
    id VARCHAR(32) NOT NULL,
    expires_at DATETIME2(3) NOT NULL,
    CONSTRAINT pk_session_end PRIMARY KEY (id)
);

GO

UPDATE jobfac.alembic_version SET version_num='0010' WHERE jobfac.alembic_version.version_num = '0009';

GO

COMMIT;

GO

BEGIN TRANSACTION;

-- Running upgrade 0010 -> 0011

CREATE INDEX ix_job_category ON jobfac.job (category, id);

GO

UPDATE jobfac.alembic_version SET version_num='0011' WHERE jobfac.alembic_version.version_num = '0010';

GO

COMMIT;

GO

SET NOEXEC OFF;
GO
IF NOT EXISTS (SELECT 1 FROM jobfac.alembic_version WHERE version_num = '0011')
BEGIN
    RAISERROR(N'The schema of jobfac is not of version 0011; its views and procedures were not changed.', 16, 1);
    SET NOEXEC ON; -- a client may go on after an error
END;
GO

-- Views for reports. Times are UTC, seconds have three decimals, and states are those of the tables.
-- This file can be run again at any time; it replaces the existing objects.

CREATE OR ALTER VIEW jobfac.v_runs AS
-- All stored runs. run_seconds is the time from the first start to the end, wait_seconds the time in the queue before that
-- start. Both grow while the run waits or runs.
SELECT
    r.id,
    r.job,
    j.category,
    r.kind,
    r.state,
    r.attempt,
    r.failures,
    r.priority,
    r.queue,
    r.worker,
    r.arguments,
    r.payload,
    r.parameters,
    r.created_at,
    r.created_by,
    r.ready_at,
    r.queued_at,
    r.started_at,
    r.ended_at,
    CAST(CASE
        WHEN r.state = 'queued' THEN DATEDIFF_BIG(MILLISECOND, r.queued_at, SYSUTCDATETIME())
        WHEN r.started_at >= r.queued_at THEN DATEDIFF_BIG(MILLISECOND, r.queued_at, r.started_at)
    END / 1000.0 AS DECIMAL(18, 3)) AS wait_seconds,
    CAST(CASE
        WHEN r.state IN ('running', 'stopping') THEN DATEDIFF_BIG(MILLISECOND, r.started_at, SYSUTCDATETIME())
        ELSE DATEDIFF_BIG(MILLISECOND, r.started_at, r.ended_at)
    END / 1000.0 AS DECIMAL(18, 3)) AS run_seconds,
    r.for_worker,
    r.cpu_seconds,
    r.peak_memory,
    COALESCE(r.slots, 1) AS slots,
    r.exit_code,
    r.signal,
    r.reason,
    r.progress,
    r.message,
    r.exit_message,
    r.outputs,
    r.stop,
    r.stop_by,
    r.job_version,
    r.schedule_id,
    r.due_at,
    r.sequence_run_id,
    r.retry_of
FROM jobfac.run AS r
LEFT JOIN jobfac.job AS j ON j.id = r.job;
GO

CREATE OR ALTER VIEW jobfac.v_queue AS
-- All waiting runs, and what each waits for, in the words of the pages and of `jobfac runs list`. The run with place 1 is
-- claimed next from its queue. pool_workers: the workers that claim from the run's pool now and have its labels and slots,
-- or, for a run of a job with each_worker, the worker that it is for.
-- hold_id: the hold that the run waits for (v_holds); meanwhile it has no place.
SELECT
    r.id,
    r.job,
    r.kind,
    r.state,
    r.queue,
    CASE WHEN r.state = 'queued' AND h.id IS NULL
        THEN ROW_NUMBER() OVER (
            PARTITION BY r.state, r.queue, CASE WHEN h.id IS NULL THEN 0 ELSE 1 END ORDER BY r.priority DESC, r.id
        )
    END AS place,
    r.priority,
    r.attempt,
    CAST(DATEDIFF_BIG(
        MILLISECOND, CASE WHEN r.state = 'queued' THEN r.queued_at ELSE r.created_at END, SYSUTCDATETIME()
    ) / 1000.0 AS DECIMAL(18, 3)) AS waiting_seconds,
    CASE
        WHEN r.state = 'scheduled' THEN CONCAT(
            CASE WHEN r.attempt > 0 THEN N'its next attempt at ' ELSE N'scheduled until ' END,
            CONVERT(NVARCHAR(19), r.ready_at, 120), N' UTC'
        )
        WHEN h.id IS NOT NULL THEN CONCAT(N'hold ', h.id, N' of ', CASE
            WHEN h.pool IS NOT NULL THEN CONCAT(N'pool ', h.pool)
            WHEN h.category IS NOT NULL THEN CONCAT(N'category ', h.category)
            WHEN h.job IS NOT NULL THEN CONCAT(N'job ', h.job)
            ELSE N'everything'
        END, N': ', h.reason)
        WHEN r.state = 'blocked' AND r.already_running <> 'start' AND b.same IS NOT NULL
            THEN CONCAT(N'run ', b.same, N' of the job has not ended')
        WHEN r.state = 'blocked' AND r.concurrency_key IS NULL THEN N'another run of the job has not ended'
        WHEN r.state = 'blocked' THEN CONCAT(
            N'concurrency limit ', r.concurrency_limit, N' of ''', r.concurrency_key, N'''',
            CASE WHEN b.holders > 0 THEN CONCAT(N': run ', b.first_holder, N' of ', c.job) END,
            CASE WHEN b.holders > 1 THEN CONCAT(N' and ', b.holders - 1, N' more') END
        )
        WHEN r.kind = 'sequence' THEN N'a worker or scheduler begins it'
        WHEN r.reason = N'its workers died while it ran; it waits for a worker on which nothing else runs' AND 0 < CASE
            WHEN r.for_worker IS NULL THEN f.healthy
            ELSE (
                SELECT COUNT(*)
                FROM jobfac.worker AS w
                JOIN jobfac.worker_lease AS e WITH (NOLOCK) ON e.worker_id = w.id
                WHERE w.name = r.for_worker AND w.state = 'active' AND w.message IS NULL
                    AND e.lease_until > SYSUTCDATETIME()
            )
        END
            THEN N'a worker on which nothing else runs, on a machine without another such run, because its workers died while it ran'
        WHEN r.for_worker IS NOT NULL THEN CONCAT(N'worker ', r.for_worker, COALESCE(
            N' claims nothing: ' + REPLACE(p.message, N'claims nothing: ', N''), N', which alone may claim it'
        ))
        WHEN COALESCE(f.workers, 0) = 0 THEN CONCAT(N'no live worker serves ', f.needed)
        WHEN f.healthy = 0 THEN CONCAT(
            N'worker ', i.name, N' claims nothing: ', REPLACE(i.message, N'claims nothing: ', N'')
        )
        WHEN f.free < f.taken AND f.taken > 1 THEN CONCAT(f.taken, N' free slots of one worker of ', f.needed)
        WHEN f.free < 1 AND f.slots = 1 THEN CONCAT(N'the only slot of ', f.needed, N' is busy')
        WHEN f.free < 1 THEN CONCAT(N'all ', f.slots, N' slots of ', f.needed, N' are busy')
        ELSE N'its turn: a slot is free'
    END AS waits_for,
    CASE WHEN r.for_worker IS NULL THEN COALESCE(f.workers, 0) ELSE COALESCE(p.workers, 0) END AS pool_workers,
    COALESCE(r.slots, 1) AS slots,
    h.id AS hold_id,
    r.concurrency_key,
    r.concurrency_limit,
    r.created_at,
    r.created_by,
    r.ready_at,
    r.queued_at,
    r.sequence_run_id,
    r.schedule_id
FROM jobfac.run AS r
OUTER APPLY (
    SELECT
        (
            SELECT MIN(o.id) FROM (
                SELECT MIN(n.id) AS id FROM jobfac.run AS n
                WHERE r.state = 'blocked' AND n.state IN ('queued', 'running', 'stopping') AND n.job = r.job
                    AND n.id <> r.id AND n.state IN ('blocked', 'queued', 'running', 'scheduled', 'stopping')
                UNION ALL
                SELECT MIN(n.id) FROM jobfac.run AS n
                WHERE r.state = 'blocked' AND r.already_running = 'queue' AND r.attempt = 0
                    AND n.state = 'scheduled' AND n.attempt > 0 AND n.job = r.job
                    AND n.state IN ('blocked', 'queued', 'running', 'scheduled', 'stopping')
            ) AS o
        ) AS same,
        MIN(k.id) AS first_holder,
        COUNT(*) AS holders
    FROM jobfac.run AS k
    WHERE r.state = 'blocked' AND k.concurrency_key = r.concurrency_key
        AND k.state IN ('queued', 'running', 'stopping') AND k.id <> r.id
) AS b
LEFT JOIN jobfac.run AS c ON c.id = b.first_holder
LEFT JOIN (
    SELECT w.name, COUNT(*) AS workers, MAX(w.message) AS message
    FROM jobfac.worker AS w
    JOIN jobfac.worker_lease AS e WITH (NOLOCK) ON e.worker_id = w.id
    WHERE w.state = 'active' AND e.lease_until > SYSUTCDATETIME()
    GROUP BY w.name
) AS p ON p.name = r.for_worker
LEFT JOIN (
    SELECT
        q.name,
        q.pool,
        CONCAT(N'pool ''', q.pool, N'''', CASE
            WHEN q.labels <> N'{}' THEN CONCAT(N' (labels ', SUBSTRING(
                q.name,
                LEN(q.pool) + 2,
                LEN(q.name) - LEN(q.pool) - 2
                    - CASE WHEN q.slots > 1 THEN 1 + LEN(CAST(q.slots AS NVARCHAR(10))) ELSE 0 END
            ), N')')
        END, CASE WHEN q.slots > 1 THEN CONCAT(N' with ', q.slots, N' slots') END) AS needed,
        COALESCE(q.slots, 1) AS taken,
        COUNT(w.id) AS workers,
        SUM(CASE WHEN w.id IS NOT NULL AND w.message IS NULL THEN 1 ELSE 0 END) AS healthy,
        SUM(CASE WHEN w.message IS NULL THEN w.slots END) AS slots,
        MAX(CASE WHEN w.message IS NULL THEN w.slots - w.busy END) AS free,
        MAX(w.id) AS newest
    FROM jobfac.queue AS q
    LEFT JOIN (
        SELECT
            v.id,
            v.pools,
            v.labels,
            v.slots,
            v.message,
            COALESCE((
                SELECT SUM(COALESCE(h.slots, 1)) FROM jobfac.run AS h
                WHERE h.state IN ('running', 'stopping') AND h.worker_id = v.id
            ), 0) AS busy
        FROM jobfac.worker AS v
        JOIN jobfac.worker_lease AS e WITH (NOLOCK) ON e.worker_id = v.id
        WHERE v.state = 'active' AND e.lease_until > SYSUTCDATETIME()
    ) AS w
        ON (q.pool = N'@sequences' OR CHARINDEX(CONCAT(N'"', q.pool, N'"'), w.pools) > 0)
        AND (q.slots IS NULL OR w.slots >= q.slots)
        AND NOT EXISTS (
            SELECT 1 FROM OPENJSON(q.labels) AS n
            WHERE NOT EXISTS (
                SELECT 1 FROM OPENJSON(w.labels) AS m
                WHERE m.[key] COLLATE DATABASE_DEFAULT = n.[key] COLLATE DATABASE_DEFAULT AND m.[value] = n.[value]
            )
        )
    GROUP BY q.name, q.pool, q.labels, q.slots
) AS f ON f.name = r.queue
LEFT JOIN jobfac.worker AS i ON i.id = f.newest
LEFT JOIN jobfac.job AS j ON j.id = r.job
LEFT JOIN jobfac.start_hold AS h ON r.state <> 'scheduled' AND h.id = (
    SELECT MIN(x.id)
    FROM jobfac.start_hold AS x
    WHERE x.freed = 0 AND x.released_at IS NULL AND (x.until IS NULL OR x.until > SYSUTCDATETIME())
        AND (x.pool IS NULL OR x.pool = f.pool OR EXISTS (
            SELECT 1 FROM jobfac.worker AS v
            WHERE v.name = r.for_worker AND v.state = 'active' AND CHARINDEX(CONCAT(N'"', x.pool, N'"'), v.pools) > 0
        ))
        AND (x.category IS NULL OR x.category = j.category)
        AND (x.job IS NULL OR x.job = r.job)
)
WHERE r.state IN ('queued', 'scheduled', 'blocked');
GO

CREATE OR ALTER VIEW jobfac.v_fleet AS
-- All worker processes, including ended ones. alive: it renews its lease. busy: slots in use. message: why it claims
-- nothing. cpu_pressure: percent of time in which work waited for a processor. free_memory: bytes.
-- NOLOCK: a report in a long transaction must not block heartbeats.
SELECT
    w.id,
    w.name,
    w.host,
    w.pid,
    w.version,
    w.state,
    CAST(CASE WHEN w.state IN ('active', 'draining') AND e.lease_until > SYSUTCDATETIME() THEN 1 ELSE 0 END AS BIT)
        AS alive,
    w.slots,
    COALESCE(h.busy, 0) AS busy,
    w.pools,
    w.labels,
    w.started_at,
    e.seen_at,
    e.lease_until,
    w.ended_at,
    w.message,
    e.cpu_pressure,
    e.free_memory
FROM jobfac.worker AS w
JOIN jobfac.worker_lease AS e WITH (NOLOCK) ON e.worker_id = w.id
LEFT JOIN (
    SELECT r.worker_id, SUM(COALESCE(r.slots, 1)) AS busy
    FROM jobfac.run AS r
    WHERE r.state IN ('running', 'stopping')
    GROUP BY r.worker_id
) AS h ON h.worker_id = w.id;
GO

CREATE OR ALTER VIEW jobfac.v_job_statistics AS
-- All jobs with totals of their stored runs. failed: failed, timed_out, start_failed and lost. success_percent: the
-- share of succeeded runs among those that succeeded, were mixed or failed.
SELECT
    j.id AS job,
    j.category,
    j.kind,
    j.enabled,
    COALESCE(s.runs, 0) AS runs,
    COALESCE(s.waiting, 0) AS waiting,
    COALESCE(s.running, 0) AS running,
    COALESCE(s.succeeded, 0) AS succeeded,
    COALESCE(s.mixed, 0) AS mixed,
    COALESCE(s.failed, 0) AS failed,
    COALESCE(s.stopped, 0) AS stopped,
    COALESCE(s.denied, 0) AS denied,
    CAST(100.0 * s.succeeded / NULLIF(s.succeeded + s.mixed + s.failed, 0) AS DECIMAL(5, 1)) AS success_percent,
    CAST(s.average_ms / 1000.0 AS DECIMAL(18, 3)) AS average_seconds,
    CAST(s.maximum_ms / 1000.0 AS DECIMAL(18, 3)) AS maximum_seconds,
    CAST(s.average_wait_ms / 1000.0 AS DECIMAL(18, 3)) AS average_wait_seconds,
    s.last_started_at,
    s.last_success_at,
    s.last_failure_at,
    (SELECT TOP (1) l.state FROM jobfac.run AS l WHERE l.job = j.id ORDER BY l.id DESC) AS last_state
FROM jobfac.job AS j
LEFT JOIN (
    SELECT
        r.job,
        COUNT(*) AS runs,
        SUM(CASE WHEN r.state IN ('queued', 'scheduled', 'blocked') THEN 1 ELSE 0 END) AS waiting,
        SUM(CASE WHEN r.state IN ('running', 'stopping') THEN 1 ELSE 0 END) AS running,
        SUM(CASE WHEN r.state = 'succeeded' THEN 1 ELSE 0 END) AS succeeded,
        SUM(CASE WHEN r.state = 'mixed' THEN 1 ELSE 0 END) AS mixed,
        SUM(CASE WHEN r.state IN ('failed', 'timed_out', 'start_failed', 'lost') THEN 1 ELSE 0 END) AS failed,
        SUM(CASE WHEN r.state = 'stopped' THEN 1 ELSE 0 END) AS stopped,
        SUM(CASE WHEN r.state = 'denied' THEN 1 ELSE 0 END) AS denied,
        AVG(DATEDIFF_BIG(MILLISECOND, r.started_at, r.ended_at)) AS average_ms,
        MAX(DATEDIFF_BIG(MILLISECOND, r.started_at, r.ended_at)) AS maximum_ms,
        AVG(CASE WHEN r.started_at >= r.queued_at THEN DATEDIFF_BIG(MILLISECOND, r.queued_at, r.started_at) END)
            AS average_wait_ms,
        MAX(r.started_at) AS last_started_at,
        MAX(CASE WHEN r.state = 'succeeded' THEN r.ended_at END) AS last_success_at,
        MAX(CASE WHEN r.state IN ('failed', 'timed_out', 'start_failed', 'lost') THEN r.ended_at END) AS last_failure_at
    FROM jobfac.run AS r
    GROUP BY r.job
) AS s ON s.job = j.id;
GO

CREATE OR ALTER VIEW jobfac.v_schedule AS
-- All schedules: the next due time (NULL: none) and the state of the last run. seconds_until is negative while the
-- schedule is paused after its due time, or if no scheduler runs. hold_id: the hold that covers its job.
SELECT
    s.id,
    s.job,
    s.name,
    j.enabled AS job_enabled,
    s.paused,
    h.id AS hold_id,
    s.next_due_at,
    CAST(DATEDIFF_BIG(MILLISECOND, SYSUTCDATETIME(), s.fire_at) / 1000.0 AS DECIMAL(18, 3)) AS seconds_until,
    s.last_due_at,
    r.id AS last_run_id,
    r.state AS last_run_state,
    r.started_at AS last_run_started_at,
    r.ended_at AS last_run_ended_at,
    s.definition
FROM jobfac.schedule AS s
LEFT JOIN jobfac.job AS j ON j.id = s.job
LEFT JOIN jobfac.queue AS q ON q.name = j.queue
LEFT JOIN jobfac.start_hold AS h ON h.id = (
    SELECT MIN(x.id)
    FROM jobfac.start_hold AS x
    WHERE x.freed = 0 AND x.released_at IS NULL AND (x.until IS NULL OR x.until > SYSUTCDATETIME())
        AND (x.pool IS NULL OR x.pool = q.pool)
        AND (x.category IS NULL OR x.category = j.category)
        AND (x.job IS NULL OR x.job = s.job)
)
LEFT JOIN jobfac.run AS r ON r.id = (
    SELECT TOP (1) l.id FROM jobfac.run AS l WHERE l.schedule_id = s.id ORDER BY l.due_at DESC
);
GO

CREATE OR ALTER VIEW jobfac.v_sequence_runs AS
-- All runs of sequences: the current or last step, and the numbers of the runs that they started, by state.
SELECT
    p.id,
    p.job,
    p.state,
    p.created_at,
    p.created_by,
    p.started_at,
    p.ended_at,
    CAST(CASE
        WHEN p.state IN ('running', 'stopping') THEN DATEDIFF_BIG(MILLISECOND, p.started_at, SYSUTCDATETIME())
        ELSE DATEDIFF_BIG(MILLISECOND, p.started_at, p.ended_at)
    END / 1000.0 AS DECIMAL(18, 3)) AS run_seconds,
    (SELECT TOP (1) v.step FROM jobfac.visit AS v WHERE v.run_id = p.id ORDER BY v.id DESC) AS last_step,
    COALESCE(c.jobs, 0) AS jobs,
    COALESCE(c.active, 0) AS active,
    COALESCE(c.succeeded, 0) AS succeeded,
    COALESCE(c.mixed, 0) AS mixed,
    COALESCE(c.failed, 0) AS failed,
    COALESCE(c.stopped, 0) AS stopped,
    COALESCE(c.denied, 0) AS denied,
    p.reason,
    p.sequence_run_id,
    p.schedule_id,
    p.retry_of
FROM jobfac.run AS p
LEFT JOIN (
    SELECT
        r.sequence_run_id,
        COUNT(*) AS jobs,
        SUM(CASE WHEN r.ended_at IS NULL THEN 1 ELSE 0 END) AS active,
        SUM(CASE WHEN r.state = 'succeeded' THEN 1 ELSE 0 END) AS succeeded,
        SUM(CASE WHEN r.state = 'mixed' THEN 1 ELSE 0 END) AS mixed,
        SUM(CASE WHEN r.state IN ('failed', 'timed_out', 'start_failed', 'lost') THEN 1 ELSE 0 END) AS failed,
        SUM(CASE WHEN r.state = 'stopped' THEN 1 ELSE 0 END) AS stopped,
        SUM(CASE WHEN r.state = 'denied' THEN 1 ELSE 0 END) AS denied
    FROM jobfac.run AS r
    WHERE r.sequence_run_id IS NOT NULL
    GROUP BY r.sequence_run_id
) AS c ON c.sequence_run_id = p.id
WHERE p.kind = 'sequence';
GO

CREATE OR ALTER VIEW jobfac.v_failures AS
-- All failed runs: failed, timed_out, start_failed and lost. recovered_at: when a later run of the job first succeeded
-- after the failure and showed that it is over (jobfac help duty says which does). Of a failure that a person
-- acknowledged, the next 100 successes of the job are looked at. acknowledged_at and acknowledged_by: by a person, or by
-- that success. unacknowledged 1: neither has acknowledged it yet, so ORDER BY unacknowledged DESC, ended_at DESC shows
-- those first. last_note: the latest note.
SELECT
    r.id,
    r.job,
    j.category,
    r.kind,
    r.state,
    r.ended_at,
    r.attempt,
    r.worker,
    r.exit_code,
    r.signal,
    r.reason,
    r.exit_message,
    CAST(DATEDIFF_BIG(MILLISECOND, r.started_at, r.ended_at) / 1000.0 AS DECIMAL(18, 3)) AS run_seconds,
    u.ended_at AS recovered_at,
    COALESCE(r.acknowledged_at, u.ended_at) AS acknowledged_at,
    CASE
        WHEN r.acknowledged_at IS NOT NULL THEN r.acknowledged_by
        WHEN u.id IS NOT NULL THEN CONCAT(N'run ', u.id, N' succeeded')
    END AS acknowledged_by,
    CASE WHEN r.state <> 'denied' AND COALESCE(r.acknowledged_at, u.ended_at) IS NULL THEN 1 ELSE 0 END
        AS unacknowledged,
    (SELECT TOP (1) t.text FROM jobfac.note AS t WHERE t.run_id = r.id ORDER BY t.id DESC) AS last_note,
    r.created_at,
    r.created_by,
    r.schedule_id,
    r.sequence_run_id
FROM jobfac.run AS r
LEFT JOIN jobfac.job AS j ON j.id = r.job
LEFT JOIN jobfac.run AS u ON u.id = CASE
    WHEN r.acknowledged_by LIKE 'run % succeeded'
        THEN TRY_CAST(SUBSTRING(r.acknowledged_by, 5, LEN(r.acknowledged_by) - 14) AS BIGINT)
    ELSE (
        SELECT TOP (1) s.id
        FROM (
            SELECT c.id
            FROM jobfac.run AS c
            WHERE r.acknowledged_at IS NULL AND c.ended_at IS NOT NULL AND c.counted = 0
                AND c.job = r.job AND c.id > r.id AND c.state = 'succeeded' AND c.ended_at >= r.ended_at
            UNION ALL
            SELECT n.id
            FROM (
                SELECT TOP (100) a.id
                FROM jobfac.run AS a
                WHERE r.acknowledged_at IS NOT NULL
                    AND a.job = r.job AND a.id > r.id AND a.state = 'succeeded' AND a.ended_at >= r.ended_at
                ORDER BY a.id
            ) AS n
        ) AS one
        JOIN jobfac.run AS s ON s.id = one.id
        WHERE (r.for_worker IS NULL OR s.for_worker = r.for_worker)
            AND (r.visit_id IS NULL OR s.visit_id IS NULL OR s.visit_id <> r.visit_id)
            AND (
                s.retry_of = r.id
                OR JSON_VALUE(s.origin, '$.first') =
                    COALESCE(JSON_VALUE(r.origin, '$.first'), CAST(r.id AS NVARCHAR(20)))
                OR (
                    (
                        JSON_VALUE(s.origin, '$.given') = JSON_VALUE(r.origin, '$.given')
                        OR (
                            (
                                s.parameters = r.parameters COLLATE Latin1_General_BIN2
                                OR (s.parameters IS NULL AND r.parameters IS NULL)
                            )
                            AND (
                                s.arguments = r.arguments COLLATE Latin1_General_BIN2
                                OR (s.arguments IS NULL AND r.arguments IS NULL)
                            )
                            AND COALESCE(JSON_QUERY(s.overrides, '$.arguments'), JSON_QUERY(s.overrides, '$.payloads')) IS NULL
                            AND COALESCE(JSON_QUERY(r.overrides, '$.arguments'), JSON_QUERY(r.overrides, '$.payloads')) IS NULL
                            AND s.payload IS NULL AND r.payload IS NULL
                        )
                    )
                    AND COALESCE(JSON_VALUE(s.origin, '$.path'), '') = COALESCE(JSON_VALUE(r.origin, '$.path'), '')
                    AND (
                        JSON_VALUE(s.origin, '$.due_utc') IS NULL
                        OR JSON_VALUE(r.origin, '$.due_utc') IS NULL
                        OR JSON_VALUE(s.origin, '$.due_utc') >= JSON_VALUE(r.origin, '$.due_utc')
                    )
                    AND (
                        JSON_VALUE(r.origin, '$.backfill') IS NULL
                        OR JSON_VALUE(s.origin, '$.due_utc') = JSON_VALUE(r.origin, '$.due_utc')
                    )
                )
            )
            AND (r.kind <> 'sequence' OR NOT EXISTS (
                SELECT 1
                FROM jobfac.visit AS f
                JOIN jobfac.visit AS k ON k.run_id = s.id AND k.step = f.step AND k.start = 'skipped'
                WHERE f.run_id = r.id AND f.result IN ('failure', 'mixed')
                    AND NOT EXISTS (
                        SELECT 1 FROM jobfac.visit AS d
                        WHERE d.run_id = s.id AND d.step = f.step AND d.start = 'started'
                    )
            ))
            AND (s.kind <> 'sequence' OR EXISTS (
                SELECT 1 FROM jobfac.visit AS v WHERE v.run_id = s.id AND v.start <> 'skipped'
            ))
        ORDER BY s.id
    )
END
WHERE r.state IN ('failed', 'timed_out', 'start_failed', 'lost');
GO

CREATE OR ALTER VIEW jobfac.v_daily_statistics AS
-- Totals by job and day (UTC) on which the runs ended. They include a run about a minute after its end, and stay when
-- it is purged. failed: failed, timed_out, start_failed and lost. late: began more than a minute after it was due or
-- requested; a backfill is never late.
SELECT
    d.day,
    d.job,
    j.category,
    d.succeeded + d.mixed + d.failed + d.timed_out + d.start_failed + d.lost + d.stopped + d.denied AS runs,
    d.succeeded,
    d.mixed,
    d.failed + d.timed_out + d.start_failed + d.lost AS failed,
    d.stopped,
    d.denied,
    CAST(
        100.0 * d.succeeded / NULLIF(d.succeeded + d.mixed + d.failed + d.timed_out + d.start_failed + d.lost, 0)
        AS DECIMAL(5, 1)
    ) AS success_percent,
    d.attempts,
    d.retries,
    CAST(d.run_ms / 1000.0 AS DECIMAL(18, 3)) AS run_seconds,
    CAST(d.run_ms / 1000.0 / NULLIF(d.ran, 0) AS DECIMAL(18, 3)) AS average_seconds,
    CAST(d.shortest_ms / 1000.0 AS DECIMAL(18, 3)) AS minimum_seconds,
    CAST(d.longest_ms / 1000.0 AS DECIMAL(18, 3)) AS maximum_seconds,
    d.longest_run,
    CAST(d.wait_ms / 1000.0 / NULLIF(d.waited, 0) AS DECIMAL(18, 3)) AS average_wait_seconds,
    d.late,
    CAST(d.latest_ms / 1000.0 AS DECIMAL(18, 3)) AS latest_seconds,
    d.latest_run,
    CAST(d.cpu_ms / 1000.0 AS DECIMAL(18, 3)) AS cpu_seconds,
    d.peak_memory
FROM jobfac.daily AS d
LEFT JOIN jobfac.job AS j ON j.id = d.job;
GO

CREATE OR ALTER VIEW jobfac.v_daily_workers AS
-- The work of each worker by day (UTC): the executions that ended on that day, and the sum of the times that its slots
-- were busy on that day with executions that have ended.
SELECT
    d.day,
    d.worker,
    d.attempts AS executions,
    CAST(d.busy_ms / 1000.0 AS DECIMAL(18, 3)) AS busy_seconds
FROM jobfac.daily_worker AS d;
GO

-- Views for details: the events and the output of a run, the steps of a sequence, and current problems.
-- This file can be run again at any time; it replaces the existing objects.

CREATE OR ALTER VIEW jobfac.v_events AS
-- The events of a run, in the order of id: every change of its state, its cause and reason.
SELECT
    e.id,
    e.run_id,
    r.job,
    e.attempt,
    e.at,
    e.event,
    e.[by] AS who,
    e.detail
FROM jobfac.run_event AS e
LEFT JOIN jobfac.run AS r ON r.id = e.run_id;
GO

CREATE OR ALTER VIEW jobfac.v_output AS
-- The output of a run, in the order of position (bytes from the stream's beginning). The text is decoded with the
-- database's code page: characters outside ASCII are correct only if its collation is a UTF-8 one.
SELECT
    o.run_id,
    r.job,
    o.attempt,
    o.stream,
    o.offset AS position,
    o.at,
    CAST(o.data AS VARCHAR(MAX)) AS text
FROM jobfac.run_output AS o
LEFT JOIN jobfac.run AS r ON r.id = o.run_id;
GO

CREATE OR ALTER VIEW jobfac.v_steps AS
-- The step history of each sequence run, in the order of id: one row for each visit of a step. refused: the jobs that
-- it did not start, each with the reason or, in a retry from the failed step, the id of the run whose success counts.
SELECT
    v.id,
    v.run_id,
    r.job,
    v.step,
    v.number,
    v.entered_at,
    v.start,
    v.result,
    v.decided_at,
    v.goes_to,
    v.next_step,
    v.reason,
    v.refused,
    v.children,
    v.waits_for,
    v.wake_at,
    v.decision,
    v.decided_by,
    v.awaits,
    v.pool,
    v.parameters
FROM jobfac.visit AS v
LEFT JOIN jobfac.run AS r ON r.id = v.run_id;
GO

CREATE OR ALTER VIEW jobfac.v_health AS
-- Current problems, one row each. No row: there is no problem.
SELECT
    N'lease expired' AS problem,
    CONCAT(N'worker ', w.name) AS subject,
    e.lease_until AS since,
    N'Start a worker or a scheduler, which requeues its runs. If one is running, its log says what it waits for.' AS remedy
FROM jobfac.worker AS w
JOIN jobfac.worker_lease AS e WITH (NOLOCK) ON e.worker_id = w.id
WHERE w.state IN ('active', 'draining') AND e.lease_until < DATEADD(SECOND, -30, SYSUTCDATETIME())
UNION ALL
SELECT
    N'no worker',
    CONCAT(N'queue ', q.queue),
    MIN(q.queued_at),
    CASE
        WHEN MAX(q.kind) = 'sequence' THEN N'No process begins these sequences: start a worker or a scheduler.'
        ELSE N'No active worker takes from this pool: start one, or correct it in the jobs, then stop and retry these runs.'
    END
FROM jobfac.v_queue AS q
WHERE q.state = 'queued' AND q.pool_workers = 0 AND q.hold_id IS NULL
    -- A scheduler begins a sequence, too.
    AND (q.kind = 'program' OR q.queued_at < DATEADD(SECOND, -60, SYSUTCDATETIME()))
GROUP BY q.queue
UNION ALL
SELECT
    N'long queue',
    CONCAT(N'queue ', q.queue),
    MIN(q.queued_at),
    N'Runs wait for more than five minutes: add workers or slots, or check the labels that the jobs ask for.'
FROM jobfac.v_queue AS q
WHERE q.state = 'queued' AND q.pool_workers > 0 AND q.hold_id IS NULL
GROUP BY q.queue
HAVING MIN(q.queued_at) < DATEADD(MINUTE, -5, SYSUTCDATETIME())
UNION ALL
SELECT
    N'not promoted',
    CONCAT(N'run ', r.id),
    r.ready_at,
    N'It is due, but no process queues it: start a worker or a scheduler.'
FROM jobfac.run AS r
WHERE r.state = 'scheduled' AND r.ready_at < DATEADD(SECOND, -60, SYSUTCDATETIME())
UNION ALL
SELECT
    N'start refused',
    CONCAT(N'run ', r.id, N' of job ', r.job),
    r.started_at,
    N'Its start as its user is refused and tried again: see `reason` in jobfac.v_runs, such as a limit of that user.'
FROM jobfac.run AS r
WHERE r.state = 'scheduled'
    AND r.ready_at < DATEADD(MINUTE, 6, SYSUTCDATETIME())
    AND r.started_at < DATEADD(MINUTE, -5, SYSUTCDATETIME())
    AND r.reason LIKE N'not started: %'
UNION ALL
SELECT
    N'schedule overdue',
    CONCAT(N'schedule ', s.name, N' of job ', s.job),
    s.fire_at,
    N'Start a scheduler. If one is running, its log says what the schedule waits for.'
FROM jobfac.schedule AS s
WHERE s.fire_at IS NOT NULL AND s.paused = 0 AND s.fire_at < DATEADD(SECOND, -60, SYSUTCDATETIME())
UNION ALL
SELECT
    N'stop not obeyed',
    CONCAT(N'run ', s.id, N' of job ', s.job),
    s.asked_at,
    N'Stop it at once (EXEC jobfac.stop_run @now = 1), and look at the log of its worker.'
FROM (
    SELECT
        r.id,
        r.job,
        (SELECT MAX(e.at) FROM jobfac.run_event AS e WHERE e.run_id = r.id AND e.event = 'stopping') AS asked_at
    FROM jobfac.run AS r
    WHERE r.state IN ('running', 'stopping') AND r.state = 'stopping' AND r.kind = 'program'
) AS s
WHERE s.asked_at < DATEADD(MINUTE, -10, SYSUTCDATETIME())
UNION ALL
SELECT
    N'notification dead',
    CONCAT(N'job ', n.job, N', ', COUNT(*), N' of the event ', n.event),
    MIN(n.created_at),
    N'Delivery was given up: see `error` in jobfac.v_notifications, mend it, then run `jobfac notify requeue --all-dead`.'
FROM jobfac.notification AS n
WHERE n.state = 'dead'
GROUP BY n.job, n.event
UNION ALL
SELECT
    N'keeps failing',
    CONCAT(N'job ', j.id, N', ', COUNT(*), N' times since its last success'),
    MIN(r.ended_at),
    N'See its last failures in jobfac.v_failures, and disable it until it is mended.'
FROM jobfac.job AS j
JOIN jobfac.run AS r ON r.job = j.id AND r.state IN ('failed', 'timed_out', 'start_failed', 'lost')
WHERE j.enabled = 1
    AND r.id > COALESCE((SELECT MAX(s.id) FROM jobfac.run AS s WHERE s.job = j.id AND s.state = 'succeeded'), 0)
GROUP BY j.id
HAVING COUNT(*) >= 3
UNION ALL
SELECT
    N'overdue',
    CONCAT(N'job ', e.job),
    e.overdue_due_at,
    N'It has not succeeded in time, as its `expect` says: see its runs in jobfac.v_runs, and what it waits for in v_queue.'
FROM jobfac.expectation AS e
WHERE e.overdue_at IS NOT NULL;
GO

CREATE OR ALTER VIEW jobfac.v_holds AS
-- Every hold: nothing new starts in its pool, in its category or of its job; all three NULL: nothing at all.
-- active 1: it holds now. waiting: the runs that wait for it and for no earlier one.
SELECT
    h.id,
    h.pool,
    h.category,
    h.job,
    h.reason,
    h.until,
    CAST(CASE WHEN h.released_at IS NULL AND (h.until IS NULL OR h.until > SYSUTCDATETIME()) THEN 1 ELSE 0 END AS BIT)
        AS active,
    (SELECT COUNT(*) FROM jobfac.v_queue AS q WHERE q.hold_id = h.id) AS waiting,
    h.created_at,
    h.created_by,
    h.released_at,
    h.released_by
FROM jobfac.start_hold AS h;
GO

CREATE OR ALTER VIEW jobfac.v_notes AS
-- What people wrote about runs, in the order of id.
SELECT
    n.id,
    n.run_id,
    r.job,
    r.state,
    n.at,
    n.[by] AS who,
    n.text
FROM jobfac.note AS n
LEFT JOIN jobfac.run AS r ON r.id = n.run_id;
GO

CREATE OR ALTER VIEW jobfac.v_overdue AS
-- Every job that has not succeeded in time, as its `expect` says. due_at: when it should have. since: its success had
-- to be later than this. last_success_at: of the runs that are kept.
SELECT
    e.job,
    j.category,
    e.overdue_due_at AS due_at,
    e.overdue_at,
    CAST(DATEDIFF_BIG(MILLISECOND, e.overdue_due_at, SYSUTCDATETIME()) / 1000.0 AS DECIMAL(18, 3)) AS overdue_seconds,
    e.since,
    (SELECT MAX(r.ended_at) FROM jobfac.run AS r WHERE r.job = e.job AND r.state = 'succeeded') AS last_success_at,
    e.definition
FROM jobfac.expectation AS e
LEFT JOIN jobfac.job AS j ON j.id = e.job
WHERE e.overdue_at IS NOT NULL;
GO

-- Views of what administrators ask for: the jobs, the audit and the notifications.
-- Run this file again at any time: it replaces what is there.

CREATE OR ALTER VIEW jobfac.v_jobs AS
-- Every job with its definition in force, its schedules and its last run. next_due_at: of the schedules not paused.
SELECT
    j.id AS job,
    j.kind,
    j.category,
    j.queue,
    j.enabled,
    j.version,
    v.created_at AS defined_at,
    v.created_by AS defined_by,
    j.updated_at,
    j.updated_by,
    (SELECT COUNT(*) FROM jobfac.schedule AS s WHERE s.job = j.id) AS schedules,
    (SELECT COUNT(*) FROM jobfac.schedule AS s WHERE s.job = j.id AND s.paused = 1) AS paused_schedules,
    (SELECT MIN(s.next_due_at) FROM jobfac.schedule AS s WHERE s.job = j.id AND s.paused = 0) AS next_due_at,
    r.id AS last_run_id,
    r.state AS last_run_state,
    r.created_at AS last_run_at,
    v.definition
FROM jobfac.job AS j
JOIN jobfac.job_version AS v ON v.job = j.id AND v.version = j.version
LEFT JOIN jobfac.run AS r ON r.id = (SELECT MAX(l.id) FROM jobfac.run AS l WHERE l.job = j.id);
GO

CREATE OR ALTER VIEW jobfac.v_audit AS
-- Who changed what, in the order of id. was and is_now: the text before and after, where there is one.
SELECT
    a.id,
    a.at,
    a.[by] AS who,
    a.action,
    a.subject,
    a.[before] AS was,
    a.[after] AS is_now
FROM jobfac.audit AS a;
GO

CREATE OR ALTER VIEW jobfac.v_notifications AS
-- Every message to one recipient. The recipient itself is not shown, since its address may hold a secret:
-- `jobfac notify list` shows it without. due_at: when a waiting one may be delivered.
SELECT
    n.id,
    n.run_id,
    n.job,
    n.event,
    n.state,
    n.tries,
    n.created_at,
    n.due_at,
    n.delivered_at,
    n.error
FROM jobfac.notification AS n;
GO

-- Steps of the procedures in the next files: a refusal, and the check that a start with a key that was used before is
-- the same start. Nobody needs a right to them.
-- Run this file again at any time: it replaces what is there.

-- Filtered indexes need both in every session that writes, and a procedure keeps what held when it was created.
SET QUOTED_IDENTIFIER ON;
SET ANSI_NULLS ON;
GO

CREATE OR ALTER PROCEDURE jobfac.refuse
    @number INT,
    @sentence NVARCHAR(2000)
AS
-- Throw an error with a sentence that holds names. THROW reads a % as the beginning of a placeholder: where it is not
-- doubled, the message is blank, or misses characters.
BEGIN
    SET NOCOUNT ON;
    DECLARE @message NVARCHAR(2048) = REPLACE(@sentence, N'%', N'%%');
    THROW @number, @message, 1;
END;
GO

CREATE OR ALTER PROCEDURE jobfac.check_repeated_parameters
    @run BIGINT,
    @parameters NVARCHAR(MAX),
    @differs NVARCHAR(100) OUTPUT
AS
-- Compare the parameters of a start with those of the run. A worker writes the values of a run in their canonical form,
-- with the defaults, so values are compared as their type says. Durations are not compared: they have too many forms.
BEGIN
    SET NOCOUNT ON;
    DECLARE @definition NVARCHAR(MAX), @shown NVARCHAR(MAX), @sensitive NVARCHAR(MAX);
    DECLARE @wanted TABLE (
        name NVARCHAR(400) NOT NULL, place NVARCHAR(40) NOT NULL, kind NVARCHAR(20) NULL, said NVARCHAR(MAX) NULL,
        is_given BIT NOT NULL
    );
    DECLARE @stored TABLE (name NVARCHAR(400) NOT NULL, place NVARCHAR(40) NOT NULL, said NVARCHAR(MAX) NULL);
    SELECT @definition = v.definition, @shown = r.parameters, @sensitive = r.sensitive
    FROM jobfac.run AS r
    JOIN jobfac.job_version AS v ON v.job = r.job AND v.version = r.job_version
    WHERE r.id = @run;
    -- What is no JSON object could not have started the run.
    IF @parameters IS NOT NULL AND ISJSON(@parameters) = 0
        SET @differs = N'parameters';
    IF @differs IS NULL AND @parameters IS NOT NULL AND LEFT(LTRIM(@parameters), 1) <> N'{'
        SET @differs = N'parameters';
    IF @differs IS NOT NULL
        RETURN;
    INSERT INTO @wanted (name, place, kind, said, is_given)
    SELECT LEFT(g.[key], 400), N'0', JSON_VALUE(p.[value], '$.type'), g.[value], 1
    FROM OPENJSON(@parameters) AS g
    LEFT JOIN OPENJSON(@definition, '$.parameters') AS p ON p.[key] = g.[key]
    WHERE g.[type] NOT IN (0, 4);
    INSERT INTO @wanted (name, place, kind, said, is_given)
    SELECT LEFT(g.[key], 400), e.[key], JSON_VALUE(p.[value], '$.type'), e.[value], 1
    FROM OPENJSON(@parameters) AS g
    LEFT JOIN OPENJSON(@definition, '$.parameters') AS p ON p.[key] = g.[key]
    CROSS APPLY OPENJSON(CASE WHEN g.[type] = 4 THEN g.[value] END) AS e;
    -- A default that depends on the time does not count.
    INSERT INTO @wanted (name, place, kind, said, is_given)
    SELECT LEFT(p.[key], 400), N'0', JSON_VALUE(p.[value], '$.type'), d.[value], 0
    FROM OPENJSON(@definition, '$.parameters') AS p
    CROSS APPLY OPENJSON(p.[value]) AS d
    WHERE d.[key] = N'default' AND d.[type] NOT IN (0, 4) AND CHARINDEX(N'${', d.[value]) = 0
        AND NOT EXISTS (SELECT 1 FROM OPENJSON(@parameters) AS g WHERE g.[key] = p.[key] AND g.[type] <> 0);
    INSERT INTO @wanted (name, place, kind, said, is_given)
    SELECT LEFT(p.[key], 400), e.[key], JSON_VALUE(p.[value], '$.type'), e.[value], 0
    FROM OPENJSON(@definition, '$.parameters') AS p
    CROSS APPLY OPENJSON(p.[value]) AS d
    CROSS APPLY OPENJSON(CASE WHEN d.[type] = 4 THEN d.[value] END) AS e
    WHERE d.[key] = N'default' AND d.[type] = 4 AND CHARINDEX(N'${', d.[value]) = 0
        AND NOT EXISTS (SELECT 1 FROM OPENJSON(@parameters) AS g WHERE g.[key] = p.[key] AND g.[type] <> 0);
    INSERT INTO @stored (name, place, said)
    SELECT LEFT(g.[key], 400), N'0', g.[value] FROM OPENJSON(@shown) AS g WHERE g.[type] NOT IN (0, 4);
    INSERT INTO @stored (name, place, said)
    SELECT LEFT(g.[key], 400), e.[key], e.[value]
    FROM OPENJSON(@shown) AS g CROSS APPLY OPENJSON(CASE WHEN g.[type] = 4 THEN g.[value] END) AS e;
    INSERT INTO @stored (name, place, said)
    SELECT LEFT(g.[key], 400), N'0', g.[value] FROM OPENJSON(@sensitive) AS g WHERE g.[type] NOT IN (0, 4);
    INSERT INTO @stored (name, place, said)
    SELECT LEFT(g.[key], 400), e.[key], e.[value]
    FROM OPENJSON(@sensitive) AS g CROSS APPLY OPENJSON(CASE WHEN g.[type] = 4 THEN g.[value] END) AS e;
    IF EXISTS (
        SELECT 1 FROM @wanted AS w
        WHERE (w.is_given = 1 OR EXISTS (SELECT 1 FROM @stored AS k WHERE k.name = w.name))
            AND NOT EXISTS (
                SELECT 1 FROM @stored AS s
                WHERE s.name = w.name AND s.place = w.place
                    AND (
                        (s.said COLLATE Latin1_General_BIN2 = w.said AND DATALENGTH(s.said) = DATALENGTH(w.said))
                        OR (w.kind = N'integer' AND TRY_CAST(s.said AS BIGINT) = TRY_CAST(w.said AS BIGINT))
                        OR (w.kind = N'number' AND TRY_CAST(s.said AS FLOAT) = TRY_CAST(w.said AS FLOAT))
                        OR (w.kind = N'date' AND TRY_CAST(s.said AS DATE) = TRY_CAST(w.said AS DATE))
                        OR (w.kind = N'boolean' AND LOWER(LTRIM(RTRIM(s.said))) = LOWER(LTRIM(RTRIM(w.said))))
                        OR (
                            w.kind = N'datetime'
                            AND TRY_CAST(s.said AS DATETIMEOFFSET) = TRY_CAST(w.said AS DATETIMEOFFSET)
                        )
                        OR w.kind = N'duration'
                    )
            )
    )
        SET @differs = N'parameters';
    IF @differs IS NULL AND EXISTS (
        SELECT 1 FROM @stored AS s
        WHERE EXISTS (SELECT 1 FROM @wanted AS w WHERE w.name = s.name)
            AND NOT EXISTS (SELECT 1 FROM @wanted AS w WHERE w.name = s.name AND w.place = s.place)
    )
        SET @differs = N'parameters';
    -- What this start has no value of, or an empty list, may be a default that depends on the time, and nothing else.
    IF @differs IS NULL AND EXISTS (
        SELECT 1 FROM @stored AS s
        WHERE NOT EXISTS (SELECT 1 FROM @wanted AS w WHERE w.name = s.name)
            AND (
                EXISTS (
                    SELECT 1 FROM OPENJSON(@parameters) AS g
                    WHERE g.[key] COLLATE DATABASE_DEFAULT = s.name AND g.[type] <> 0
                )
                OR NOT EXISTS (
                    SELECT 1 FROM OPENJSON(@definition, '$.parameters') AS p CROSS APPLY OPENJSON(p.[value]) AS d
                    WHERE p.[key] COLLATE DATABASE_DEFAULT = s.name AND d.[key] = N'default'
                        AND CHARINDEX(N'${', d.[value]) > 0
                )
            )
    )
        SET @differs = N'parameters';
END;
GO

CREATE OR ALTER PROCEDURE jobfac.check_repeat
    @run BIGINT, -- the run that the key gave
    @key NVARCHAR(200),
    @arguments NVARCHAR(MAX),
    @payload NVARCHAR(MAX),
    @priority INT,
    @delay_seconds INT,
    @parameters NVARCHAR(MAX) = NULL
AS
-- Refuse a start that differs in arguments, payload, priority, time or parameters from the run that its key gave, or in
-- its key, which the collation takes for the same.
BEGIN
    SET NOCOUNT ON;
    DECLARE @kind VARCHAR(16), @was_arguments NVARCHAR(MAX), @was_payload NVARCHAR(MAX), @overrides NVARCHAR(MAX);
    DECLARE @was_priority INT, @attempt INT, @created_at DATETIME2(3), @ready_at DATETIME2(3);
    DECLARE @differs NVARCHAR(100), @sentence NVARCHAR(2000), @delay INT = COALESCE(@delay_seconds, 0);
    DECLARE @was_key NVARCHAR(200);
    SELECT
        @kind = r.kind,
        @was_key = r.start_key,
        @was_arguments = r.arguments,
        @was_payload = r.payload,
        @overrides = r.overrides,
        @was_priority = r.priority,
        @attempt = r.attempt,
        @created_at = r.created_at,
        @ready_at = r.ready_at
    FROM jobfac.run AS r
    WHERE r.id = @run;
    -- Most collations ignore case, which distinguishes two keys. They all ignore blanks at the end, and so does this.
    IF RTRIM(@key) COLLATE Latin1_General_BIN2 <> RTRIM(@was_key)
        SET @differs = N'the spelling of its key';
    IF @kind = 'sequence'
        SELECT
            @was_arguments = JSON_QUERY(@overrides, '$.arguments'),
            @was_payload = JSON_QUERY(@overrides, '$.payloads'),
            @arguments = COALESCE(@arguments, CASE WHEN @overrides IS NOT NULL THEN N'{}' END),
            @payload = COALESCE(@payload, CASE WHEN @overrides IS NOT NULL THEN N'{}' END);
    IF @differs IS NULL AND (ISJSON(@arguments) = 0 OR (@kind = 'sequence' AND ISJSON(@payload) = 0))
        SET @differs = N'arguments or payload';
    -- A first start of a sequence may have been without one of the two.
    IF @kind = 'sequence'
        SELECT @was_arguments = COALESCE(@was_arguments, N'{}'), @was_payload = COALESCE(@was_payload, N'{}'),
            @arguments = COALESCE(@arguments, N'{}'), @payload = COALESCE(@payload, N'{}');
    DECLARE @asked TABLE (place NVARCHAR(400) NOT NULL, said NVARCHAR(MAX) NOT NULL);
    DECLARE @stored TABLE (place NVARCHAR(400) NOT NULL, said NVARCHAR(MAX) NOT NULL);
    IF @differs IS NULL AND @kind = 'program'
    BEGIN
        INSERT INTO @asked (place, said) SELECT a.[key], a.[value] FROM OPENJSON(@arguments) AS a;
        INSERT INTO @stored (place, said) SELECT a.[key], a.[value] FROM OPENJSON(@was_arguments) AS a;
        IF COALESCE(ISJSON(@arguments), -1) <> COALESCE(ISJSON(@was_arguments), -1)
            SET @differs = N'arguments';
        IF DATALENGTH(COALESCE(@payload, N'')) <> DATALENGTH(COALESCE(@was_payload, N''))
            OR COALESCE(@payload, N'') COLLATE Latin1_General_BIN2 <> COALESCE(@was_payload, N'')
            OR (@payload IS NULL AND @was_payload IS NOT NULL)
            OR (@payload IS NOT NULL AND @was_payload IS NULL)
            SET @differs = N'payload';
    END;
    IF @differs IS NULL AND @kind = 'sequence'
    BEGIN
        INSERT INTO @asked (place, said)
        SELECT CONCAT(a.[key], N'/', t.[key]), t.[value]
        FROM OPENJSON(@arguments) AS a CROSS APPLY OPENJSON(a.[value]) AS t;
        INSERT INTO @stored (place, said)
        SELECT CONCAT(a.[key], N'/', t.[key]), t.[value]
        FROM OPENJSON(@was_arguments) AS a CROSS APPLY OPENJSON(a.[value]) AS t;
        INSERT INTO @asked (place, said) SELECT CONCAT(N'payload/', p.[key]), p.[value] FROM OPENJSON(@payload) AS p;
        INSERT INTO @stored (place, said)
        SELECT CONCAT(N'payload/', p.[key]), p.[value] FROM OPENJSON(@was_payload) AS p;
    END;
    IF @differs IS NULL
        AND (
            (SELECT COUNT(*) FROM @asked) <> (SELECT COUNT(*) FROM @stored)
            OR EXISTS (
                SELECT 1 FROM @asked AS a
                WHERE NOT EXISTS (
                    SELECT 1 FROM @stored AS s
                    WHERE s.place = a.place
                        AND s.said COLLATE Latin1_General_BIN2 = a.said
                        AND DATALENGTH(s.said) = DATALENGTH(a.said)
                )
            )
        )
        SET @differs = CASE WHEN @kind = 'sequence' THEN N'arguments or payload' ELSE N'arguments' END;
    IF @differs IS NULL AND @priority <> @was_priority
        SET @differs = N'priority';
    -- A retry may have changed the time of a run that has been executed.
    IF @differs IS NULL AND @delay > 0 AND @ready_at IS NULL
        SET @differs = N'time';
    IF @differs IS NULL AND @ready_at IS NOT NULL AND @attempt = 0
        AND (@delay = 0 OR ABS(DATEDIFF_BIG(MILLISECOND, DATEADD(SECOND, @delay, @created_at), @ready_at)) > 1000)
        SET @differs = N'time';
    IF @differs IS NULL
        EXEC jobfac.check_repeated_parameters @run = @run, @parameters = @parameters, @differs = @differs OUTPUT;
    IF @differs IS NOT NULL
    BEGIN
        SET @sentence = CONCAT(
            N'The key ''', @key, N''' was used for run ', @run, N', which differs in ', @differs,
            N'; give each start a key of its own.'
        );
        EXEC jobfac.refuse @number = 50007, @sentence = @sentence;
    END;
END;
GO

-- Checks of the parameters of a start, called by the procedures in the next files. No role needs permission to them.
-- This file can be run again at any time; it replaces the existing objects.

-- Writes to tables with filtered indexes need both settings. A procedure keeps the settings of its creation.
SET QUOTED_IDENTIFIER ON;
SET ANSI_NULLS ON;
GO

CREATE OR ALTER PROCEDURE jobfac.check_text
    @text NVARCHAR(MAX) -- one or several texts
AS
-- Refuse half of a character (a lone surrogate), such as a text has that was cut in the middle of an emoji. The drivers
-- cannot read it, so no worker could claim from a queue with such a run, and no list could show it.
BEGIN
    SET NOCOUNT ON;
    DECLARE @first NVARCHAR(5) = CONCAT(NCHAR(55296), N'-', NCHAR(56319)); -- the ranges of the two halves
    DECLARE @second NVARCHAR(5) = CONCAT(NCHAR(56320), N'-', NCHAR(57343));
    DECLARE @framed NVARCHAR(MAX) = CONCAT(N'.', @text, N'.');
    IF @framed COLLATE Latin1_General_BIN2 LIKE N'%[' + @first + N'][^' + @second + N']%'
        OR @framed COLLATE Latin1_General_BIN2 LIKE N'%[^' + @first + N'][' + @second + N']%'
        THROW 50007, N'A text has half of a character (a lone surrogate); do not cut it in the middle of one.', 1;
END;
GO

CREATE OR ALTER PROCEDURE jobfac.cut_text
    @text NVARCHAR(MAX) OUTPUT,
    @most INT
AS
-- Cut a text to a column's length, but not in the middle of a character. In a database whose collation knows
-- supplementary characters (_SC, _140), LEFT would count one as one, and a column counts it as two.
BEGIN
    SET NOCOUNT ON;
    IF @text IS NULL OR DATALENGTH(@text) <= 2 * @most
        RETURN;
    SET @text = LEFT(@text COLLATE Latin1_General_BIN2, @most);
    DECLARE @first NVARCHAR(5) = CONCAT(N'[', NCHAR(55296), N'-', NCHAR(56319), N']');
    IF RIGHT(@text COLLATE Latin1_General_BIN2, 1) LIKE @first
        SET @text = LEFT(@text COLLATE Latin1_General_BIN2, @most - 1);
END;
GO

CREATE OR ALTER PROCEDURE jobfac.check_by
    @by NVARCHAR(129)
AS
-- Refuse a name that is blank or would be cut: events and the audit say with it who did something.
BEGIN
    SET NOCOUNT ON;
    IF LTRIM(RTRIM(@by)) = N''
        THROW 50007, N'@by must not be blank; leave it out for the name of the login.', 1;
    IF DATALENGTH(@by) > 256
        THROW 50007, N'@by has more than 128 characters; give a shorter name.', 1;
    EXEC jobfac.check_text @text = @by;
END;
GO

CREATE OR ALTER PROCEDURE jobfac.check_reason
    @reason NVARCHAR(1001)
AS
-- Refuse a reason that would be cut.
BEGIN
    SET NOCOUNT ON;
    IF DATALENGTH(@reason) > 2000
        THROW 50007, N'@reason has more than 1,000 characters; write less.', 1;
    EXEC jobfac.check_text @text = @reason;
END;
GO

CREATE OR ALTER PROCEDURE jobfac.check_inside
    @sequence NVARCHAR(128),
    @arguments NVARCHAR(MAX),
    @payload NVARCHAR(MAX)
AS
-- Refuse arguments and payloads for what is no program in the sequence or in a nested sequence. The programs find
-- the values of a job by its exact id: with another spelling, which the collation takes for the same, none would be used.
BEGIN
    SET NOCOUNT ON;
    DECLARE @inside TABLE (job NVARCHAR(128) NOT NULL PRIMARY KEY);
    DECLARE @found INT = 1, @stray NVARCHAR(4000), @sentence NVARCHAR(2000);
    INSERT INTO @inside (job) VALUES (@sequence);
    WHILE @found > 0
    BEGIN
        INSERT INTO @inside (job)
        SELECT DISTINCT LEFT(c.[value] COLLATE DATABASE_DEFAULT, 128)
        FROM @inside AS i
        JOIN jobfac.job AS j ON j.id = i.job
        JOIN jobfac.job_version AS v ON v.job = j.id AND v.version = j.version
        CROSS APPLY OPENJSON(v.definition, '$.steps') AS s
        CROSS APPLY OPENJSON(s.[value], '$.jobs') AS c
        WHERE NOT EXISTS (SELECT 1 FROM @inside AS k WHERE k.job = c.[value] COLLATE DATABASE_DEFAULT);
        SET @found = @@ROWCOUNT;
    END;
    -- A sequence inside passes nothing to its jobs. (A job that does not exist is refused by the start.)
    DELETE FROM @inside WHERE job IN (SELECT j.id FROM jobfac.job AS j WHERE j.kind = 'sequence');
    SET @stray = (
        SELECT MIN(g.[key]) FROM OPENJSON(@arguments) AS g
        WHERE g.[key] COLLATE DATABASE_DEFAULT = @sequence
            OR NOT EXISTS (
                SELECT 1 FROM @inside AS i
                WHERE i.job COLLATE Latin1_General_BIN2 = g.[key] AND DATALENGTH(i.job) = DATALENGTH(g.[key])
            )
    );
    SET @sentence = N'@arguments';
    IF @stray IS NULL
        SELECT
            @sentence = N'@payload',
            @stray = (
                SELECT MIN(g.[key]) FROM OPENJSON(@payload) AS g
                WHERE g.[key] COLLATE DATABASE_DEFAULT = @sequence
                    OR NOT EXISTS (
                        SELECT 1 FROM @inside AS i
                        WHERE i.job COLLATE Latin1_General_BIN2 = g.[key] AND DATALENGTH(i.job) = DATALENGTH(g.[key])
                    )
            );
    IF @stray IS NOT NULL
    BEGIN
        SET @sentence = CONCAT(
            @sentence, N' of a sequence must be by the ids of its jobs; job ''', @sequence, N''' has no job ''',
            LEFT(@stray, 128), N''' inside.'
        );
        EXEC jobfac.refuse @number = 50007, @sentence = @sentence;
    END;
    -- A job in the sequence must accept these values from its own start, too.
    DECLARE @closed NVARCHAR(128) = (
        SELECT MIN(j.id)
        FROM OPENJSON(@arguments) AS g
        JOIN jobfac.job AS j ON j.id = g.[key] COLLATE DATABASE_DEFAULT
        JOIN jobfac.job_version AS v ON v.job = j.id AND v.version = j.version
        WHERE JSON_VALUE(v.definition, '$.replace_arguments') = 'false'
            OR JSON_VALUE(v.definition, '$.on_demand') = 'false'
    );
    IF @closed IS NULL
        SET @closed = (
            SELECT MIN(j.id)
            FROM OPENJSON(@payload) AS g
            JOIN jobfac.job AS j ON j.id = g.[key] COLLATE DATABASE_DEFAULT
            JOIN jobfac.job_version AS v ON v.job = j.id AND v.version = j.version
            WHERE JSON_VALUE(v.definition, '$.on_demand') = 'false'
        );
    IF @closed IS NOT NULL
    BEGIN
        SET @sentence = CONCAT(
            N'Job ''', @closed, N''' takes none of it from a start by hand: its definition says ',
            N'on_demand: false or replace_arguments: false.'
        );
        EXEC jobfac.refuse @number = 50002, @sentence = @sentence;
    END;
END;
GO

CREATE OR ALTER PROCEDURE jobfac.check_skipped
    @run BIGINT, -- began with a later step of its sequence
    @job NVARCHAR(128) -- the sequence
AS
-- Refuse a retry that would perhaps skip an approval, of the sequence or of one inside it, as its run did: only the
-- programs find out who may.
BEGIN
    SET NOCOUNT ON;
    DECLARE @inside TABLE (job NVARCHAR(128) NOT NULL PRIMARY KEY);
    DECLARE @found INT = 1, @sentence NVARCHAR(2000);
    INSERT INTO @inside (job) VALUES (@job);
    WHILE @found > 0
    BEGIN
        INSERT INTO @inside (job)
        SELECT DISTINCT LEFT(c.[value] COLLATE DATABASE_DEFAULT, 128)
        FROM @inside AS i
        JOIN jobfac.job AS j ON j.id = i.job
        JOIN jobfac.job_version AS v ON v.job = j.id AND v.version = j.version
        CROSS APPLY OPENJSON(v.definition, '$.steps') AS s
        CROSS APPLY OPENJSON(s.[value], '$.jobs') AS c
        WHERE NOT EXISTS (SELECT 1 FROM @inside AS k WHERE k.job = c.[value] COLLATE DATABASE_DEFAULT);
        SET @found = @@ROWCOUNT;
    END;
    IF EXISTS (
        SELECT 1
        FROM @inside AS i
        JOIN jobfac.job AS j ON j.id = i.job
        JOIN jobfac.job_version AS v ON v.job = j.id AND v.version = j.version
        CROSS APPLY OPENJSON(v.definition, '$.steps') AS s
        WHERE JSON_QUERY(s.[value], '$.approve') IS NOT NULL
    )
    BEGIN
        SET @sentence = CONCAT(
            N'Run ', @run, N' began behind a step that waits for an approval; retry it with jobfac or over HTTP, ',
            N'which find out whether you may skip that.'
        );
        EXEC jobfac.refuse @number = 50010, @sentence = @sentence;
    END;
END;
GO

CREATE OR ALTER PROCEDURE jobfac.check_request
    @job NVARCHAR(128),
    @kind VARCHAR(16),
    @arguments NVARCHAR(MAX),
    @payload NVARCHAR(MAX),
    @delay_seconds INT
AS
-- Refuse arguments with which no program can be started.
BEGIN
    SET NOCOUNT ON;
    -- Nested IFs: SQL Server may evaluate both sides of an AND, and OPENJSON fails on invalid JSON.
    IF @kind = 'program'
    BEGIN
        IF @arguments IS NOT NULL AND (ISJSON(@arguments) = 0 OR LEFT(LTRIM(@arguments), 1) <> N'[')
            THROW 50007, N'@arguments must be a JSON array of texts, such as ["--full", "2027"].', 1;
        IF EXISTS (SELECT 1 FROM OPENJSON(@arguments) AS a WHERE a.[type] <> 1)
            THROW 50007, N'@arguments must hold texts only, such as ["--full", "2027"].', 1;
    END
    ELSE
    BEGIN
        IF @arguments IS NOT NULL AND (ISJSON(@arguments) = 0 OR LEFT(LTRIM(@arguments), 1) <> N'{')
            THROW 50007, N'@arguments of a sequence must be a JSON object such as {"extract": ["--full"]}.', 1;
        IF @payload IS NOT NULL AND (ISJSON(@payload) = 0 OR LEFT(LTRIM(@payload), 1) <> N'{')
            THROW 50007, N'@payload of a sequence must be a JSON object such as {"extract": "2027"}.', 1;
        IF EXISTS (SELECT 1 FROM OPENJSON(@arguments) AS a WHERE a.[type] <> 4)
            THROW 50007, N'@arguments of a sequence must hold arrays of texts, such as {"extract": ["--full"]}.', 1;
        IF EXISTS (
            SELECT 1 FROM OPENJSON(@arguments) AS a CROSS APPLY OPENJSON(a.[value]) AS t WHERE t.[type] <> 1
        )
            THROW 50007, N'@arguments of a sequence must hold arrays of texts, such as {"extract": ["--full"]}.', 1;
        IF EXISTS (SELECT 1 FROM OPENJSON(@payload) AS p WHERE p.[type] <> 1)
            THROW 50007, N'@payload of a sequence must hold texts only, such as {"extract": "2027"}.', 1;
        IF COALESCE(@arguments, @payload) IS NOT NULL
            EXEC jobfac.check_inside @sequence = @job, @arguments = @arguments, @payload = @payload;
    END;
    IF DATALENGTH(@payload) > 8388608
        THROW 50007, N'The payload has more than 4,194,304 characters; keep it elsewhere and pass its place.', 1;
    -- A worker that claims the run reads all of it.
    IF DATALENGTH(@arguments) > 8388608
        THROW 50007, N'@arguments has more than 4,194,304 characters; keep them elsewhere and pass their place.', 1;
    IF @delay_seconds < 0
        THROW 50007, N'@delay_seconds must not be negative.', 1;
END;
GO

CREATE OR ALTER PROCEDURE jobfac.check_hold
    @pool NVARCHAR(128),
    @category NVARCHAR(128),
    @job NVARCHAR(128),
    @until DATETIME2(3),
    @reason NVARCHAR(1000)
AS
-- Refuse a hold of what is not there, or without a reason.
BEGIN
    SET NOCOUNT ON;
    DECLARE @sentence NVARCHAR(2000);
    DECLARE @scopes INT = CASE WHEN @pool IS NULL THEN 0 ELSE 1 END + CASE WHEN @category IS NULL THEN 0 ELSE 1 END
        + CASE WHEN @job IS NULL THEN 0 ELSE 1 END;
    IF @scopes > 1
        THROW 50007, N'A hold applies to one pool, one category or one job; place several holds for more.', 1;
    IF COALESCE(LTRIM(RTRIM(@reason)), N'') = N''
        THROW 50007, N'A hold needs a reason, which everybody sees who waits for it; give @reason.', 1;
    IF @until <= SYSUTCDATETIME()
        THROW 50007, N'The hold would have ended already; give a later @until, in UTC.', 1;
    IF @job IS NOT NULL AND NOT EXISTS (SELECT 1 FROM jobfac.job AS j WHERE j.id = @job)
    BEGIN
        SET @sentence = CONCAT(N'There is no job ''', @job, N'''; jobfac.v_job_statistics shows what there is.');
        EXEC jobfac.refuse @number = 50001, @sentence = @sentence;
    END;
    IF @category IS NOT NULL AND NOT EXISTS (SELECT 1 FROM jobfac.job AS j WHERE j.category = @category)
    BEGIN
        SET @sentence = CONCAT(N'No job has the category ''', @category, N'''; jobfac.v_job_statistics shows them.');
        EXEC jobfac.refuse @number = 50001, @sentence = @sentence;
    END;
    IF @pool IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM jobfac.queue AS q WHERE q.pool = @pool AND q.pool <> N'@sequences')
    BEGIN
        SET @sentence = CONCAT(N'No job has the pool ''', @pool, N'''; jobfac.v_queue shows where runs wait.');
        EXEC jobfac.refuse @number = 50001, @sentence = @sentence;
    END;
END;
GO

CREATE OR ALTER PROCEDURE jobfac.check_parameters
    @subject NVARCHAR(200), -- what takes them: the job or a step, in words
    @definition NVARCHAR(MAX),
    @parameters NVARCHAR(MAX)
AS
-- Refuse parameters that the job or the step cannot take. The program that goes on with it checks all of it, patterns
-- and lists too, and fills in the defaults. A run with a wrong value ends there as start_failed, and a step with a wrong
-- value waits for an approval again.
BEGIN
    SET NOCOUNT ON;
    DECLARE @name NVARCHAR(4000), @sentence NVARCHAR(2000);
    IF DATALENGTH(@parameters) > 2097152
        THROW 50007, N'@parameters has more than 1,048,576 characters; put them into a payload or a file.', 1;
    -- One IF after the other: SQL Server may look at both sides of an AND, and OPENJSON fails on what is no JSON.
    IF @parameters IS NOT NULL AND ISJSON(@parameters) = 0
        THROW 50007, N'@parameters must be a JSON object such as {"day": "2027-01-31"}.', 1;
    IF @parameters IS NOT NULL AND LEFT(LTRIM(@parameters), 1) <> N'{'
        THROW 50007, N'@parameters must be a JSON object such as {"day": "2027-01-31"}.', 1;
    SET @name = (
        SELECT MIN(g.[key]) FROM OPENJSON(@parameters) AS g
        WHERE NOT EXISTS (SELECT 1 FROM OPENJSON(@definition, '$.parameters') AS p WHERE p.[key] = g.[key])
    );
    IF @name IS NOT NULL
    BEGIN
        SET @sentence = CONCAT(@subject, N' has no parameter ''', LEFT(@name, 128), N'''; see its definition.');
        EXEC jobfac.refuse @number = 50007, @sentence = @sentence;
    END;
    SET @name = (
        SELECT MIN(p.[key]) FROM OPENJSON(@definition, '$.parameters') AS p
        WHERE JSON_VALUE(p.[value], '$.required') = 'true'
            AND NOT EXISTS (SELECT 1 FROM OPENJSON(@parameters) AS g WHERE g.[key] = p.[key] AND g.[type] <> 0)
    );
    IF @name IS NOT NULL
    BEGIN
        SET @sentence = CONCAT(@subject, N' needs the parameter ''', @name, N'''; give it in @parameters.');
        EXEC jobfac.refuse @number = 50007, @sentence = @sentence;
    END;
    SELECT TOP (1) @name = g.[key]
    FROM OPENJSON(@parameters) AS g
    JOIN OPENJSON(@definition, '$.parameters') AS p ON p.[key] = g.[key]
    WHERE g.[type] <> 0
        AND JSON_VALUE(p.[value], '$.many') IS NULL
        AND (
            g.[type] IN (4, 5)
            OR (JSON_VALUE(p.[value], '$.type') = 'integer' AND TRY_CAST(g.[value] AS BIGINT) IS NULL)
            OR (JSON_VALUE(p.[value], '$.type') = 'number' AND TRY_CAST(g.[value] AS FLOAT) IS NULL)
            OR (JSON_VALUE(p.[value], '$.type') = 'date' AND TRY_CAST(g.[value] AS DATE) IS NULL)
            OR (JSON_VALUE(p.[value], '$.type') = 'boolean' AND g.[value] NOT IN (N'true', N'false'))
            OR (
                JSON_VALUE(p.[value], '$.type') = 'choice'
                AND NOT EXISTS (SELECT 1 FROM OPENJSON(p.[value], '$.choices') AS c WHERE c.[value] = g.[value])
            )
        )
    ORDER BY g.[key];
    IF @name IS NOT NULL
    BEGIN
        SET @sentence = CONCAT(
            @subject, N' has the parameter ''', @name, N''', which cannot have this value; see its definition.'
        );
        EXEC jobfac.refuse @number = 50007, @sentence = @sentence;
    END;
END;
GO

CREATE OR ALTER PROCEDURE jobfac.check_former
    @former BIGINT, -- the run that a retry repeats
    @definition NVARCHAR(MAX) -- of the job as it is now
AS
-- Refuse a retry if a parameter of the run may have been renamed since: with the default of the new one the retry would
-- do other work. A value that is the default of its time does not count. Refuse it, too, if a parameter is not sensitive
-- any more: its value would be shown. (One that nobody has claimed has all values among the sensitive ones.)
BEGIN
    SET NOCOUNT ON;
    DECLARE @job NVARCHAR(128), @shown NVARCHAR(MAX), @sensitive NVARCHAR(MAX), @was NVARCHAR(MAX);
    DECLARE @old NVARCHAR(128), @new NVARCHAR(128), @bare NVARCHAR(128), @sentence NVARCHAR(2000);
    SELECT @job = r.job, @shown = r.parameters, @sensitive = r.sensitive, @was = v.definition
    FROM jobfac.run AS r
    LEFT JOIN jobfac.job_version AS v ON v.job = r.job AND v.version = r.job_version
    WHERE r.id = @former;
    SELECT @old = MIN(LEFT(g.name, 128))
    FROM (
        SELECT s.[key] AS name, s.[value] AS said
        FROM OPENJSON(@shown) AS s
        WHERE s.[type] <> 0 AND NOT EXISTS (SELECT 1 FROM OPENJSON(@sensitive) AS h WHERE h.[key] = s.[key])
        UNION ALL
        SELECT s.[key], s.[value] FROM OPENJSON(@sensitive) AS s WHERE s.[type] <> 0
    ) AS g
    WHERE NOT EXISTS (SELECT 1 FROM OPENJSON(@definition, '$.parameters') AS p WHERE p.[key] = g.name)
        AND NOT EXISTS (
            SELECT 1
            FROM OPENJSON(@was, '$.parameters') AS p
            CROSS APPLY OPENJSON(p.[value]) AS d
            WHERE p.[key] = g.name AND d.[key] = N'default'
                AND (CHARINDEX(N'${', d.[value]) > 0 OR d.[value] COLLATE Latin1_General_BIN2 = g.said)
        );
    SELECT @new = MIN(LEFT(p.[key], 128))
    FROM OPENJSON(@definition, '$.parameters') AS p
    WHERE NOT EXISTS (SELECT 1 FROM OPENJSON(@was, '$.parameters') AS w WHERE w.[key] = p.[key])
        AND NOT EXISTS (SELECT 1 FROM OPENJSON(@shown) AS s WHERE s.[key] = p.[key])
        AND NOT EXISTS (SELECT 1 FROM OPENJSON(@sensitive) AS s WHERE s.[key] = p.[key]);
    IF @old IS NOT NULL AND @new IS NOT NULL
    BEGIN
        SET @sentence = CONCAT(
            N'Run ', @former, N' has a value of ''', @old, N''', which job ''', @job, N''' no longer has, and none of ',
            N'its new parameter ''', @new, N'''; retry it with jobfac or over HTTP and give it a value of that, or ',
            N'start the job.'
        );
        EXEC jobfac.refuse @number = 50002, @sentence = @sentence;
    END;
    SELECT @bare = MIN(LEFT(s.[key], 128))
    FROM OPENJSON(@sensitive) AS s
    JOIN OPENJSON(@definition, '$.parameters') AS p ON p.[key] = s.[key]
    JOIN OPENJSON(@was, '$.parameters') AS b ON b.[key] = s.[key]
    WHERE JSON_VALUE(b.[value], '$.sensitive') = 'true'
        AND COALESCE(JSON_VALUE(p.[value], '$.sensitive'), 'false') <> 'true';
    IF @bare IS NOT NULL
    BEGIN
        SET @sentence = CONCAT(
            N'Run ', @former, N' has a sensitive value of ''', @bare, N''', which is not sensitive in job ''', @job,
            N''' now, so lists would show it; start the job.'
        );
        EXEC jobfac.refuse @number = 50002, @sentence = @sentence;
    END;
END;
GO

-- Steps of the procedures in the next file. They run in the caller's transaction. No role needs permission to them.
-- This file can be run again at any time; it replaces the existing objects.

-- Writes to tables with filtered indexes need both settings. A procedure keeps the settings of its creation.
SET QUOTED_IDENTIFIER ON;
SET ANSI_NULLS ON;
GO

CREATE OR ALTER PROCEDURE jobfac.record_end
    @run BIGINT
AS
-- Record the end of a run for the schedules that start something after it, in the transaction that ends it.
BEGIN
    SET NOCOUNT ON;
    INSERT INTO jobfac.upstream_end (schedule_id, run_id, job, state, ended_at)
    SELECT u.schedule_id, r.id, r.job, r.state, r.ended_at
    FROM jobfac.run AS r
    JOIN jobfac.upstream AS u ON u.job = r.job AND u.state = r.state
    WHERE r.id = @run;
END;
GO

CREATE OR ALTER PROCEDURE jobfac.request_stop
    @run BIGINT,
    @now BIT,
    @by NVARCHAR(128),
    @before VARCHAR(16) = NULL OUTPUT,
    @after VARCHAR(16) = NULL OUTPUT
AS
-- Stop a run: end a waiting run at once, request the stop of a running one. A sequence is stopped with all its runs.
BEGIN
    SET NOCOUNT ON;
    DECLARE @attempt INT, @stop VARCHAR(16), @kind VARCHAR(16), @sentence NVARCHAR(2000);
    DECLARE @job NVARCHAR(128), @notify VARCHAR(200);
    DECLARE @how VARCHAR(16) = CASE WHEN @now = 1 THEN 'now' ELSE 'polite' END;
    DECLARE @reason NVARCHAR(1000);
    SELECT
        @before = r.state,
        @attempt = r.attempt,
        @stop = r.stop,
        @kind = r.kind,
        @job = r.job,
        @notify = r.notify
    FROM jobfac.run AS r WITH (ROWLOCK, UPDLOCK, FORCESEEK)
    WHERE r.id = @run;
    IF @@ROWCOUNT = 0
    BEGIN
        SET @sentence = CONCAT(N'There is no run ', @run, N'; jobfac.v_runs shows what there is.');
        EXEC jobfac.refuse @number = 50003, @sentence = @sentence;
    END;
    SET @after = CASE
        WHEN @before IN ('scheduled', 'blocked', 'queued') THEN 'stopped'
        WHEN @before IN ('running', 'stopping') THEN 'stopping'
        ELSE @before
    END;
    IF @after = @before AND (@before <> 'stopping' OR @stop IN (@how, 'now'))
        RETURN;
    SET @reason = CONCAT(
        N'stopped by ', @by, N' before ', CASE WHEN @attempt > 0 THEN N'its next attempt' ELSE N'it began' END
    );
    IF @after = 'stopped'
        UPDATE jobfac.run
        SET
            state = 'stopped',
            stop = @how,
            stop_by = @by,
            ended_at = SYSUTCDATETIME(),
            reason = @reason
        WHERE id = @run;
    ELSE
        UPDATE jobfac.run SET state = 'stopping', stop = @how, stop_by = @by WHERE id = @run;
    INSERT INTO jobfac.run_event (run_id, attempt, at, event, [by], detail)
    VALUES (@run, @attempt, SYSUTCDATETIME(), @after, @by, CASE WHEN @now = 1 THEN N'at once' END);
    IF @after = 'stopped'
        EXEC jobfac.record_end @run = @run;
    IF @after = 'stopped' AND @notify IS NOT NULL
        INSERT INTO jobfac.news (run_id, attempt, job, event, created_at)
        VALUES (@run, @attempt, @job, @after, SYSUTCDATETIME());
    IF @kind <> 'sequence'
        RETURN;
    -- Read once: a search for the next one after each stop would read the thousands of a large sequence each time.
    DECLARE @children TABLE (id BIGINT NOT NULL PRIMARY KEY);
    INSERT INTO @children (id)
    SELECT r.id FROM jobfac.run AS r WHERE r.sequence_run_id = @run AND r.ended_at IS NULL;
    DECLARE @child BIGINT = (SELECT MIN(c.id) FROM @children AS c);
    WHILE @child IS NOT NULL
    BEGIN
        EXEC jobfac.request_stop @run = @child, @now = @now, @by = @by;
        SET @child = (SELECT MIN(c.id) FROM @children AS c WHERE c.id > @child);
    END;
END;
GO

CREATE OR ALTER PROCEDURE jobfac.lock_rule
    @resource NVARCHAR(255)
AS
-- All decisions about one job or one concurrency key are made under its named lock, here and in the programs.
BEGIN
    SET NOCOUNT ON;
    DECLARE @taken INT;
    EXEC @taken = sp_getapplock
        @Resource = @resource, @LockMode = N'Exclusive', @LockOwner = N'Transaction', @LockTimeout = 20000;
    IF @taken < 0
        THROW 51222, N'The lock could not be had in time; try again.', 1;
END;
GO

CREATE OR ALTER PROCEDURE jobfac.insert_run
    @job NVARCHAR(128),
    @manual BIT, -- a manual start, which the definition may forbid
    @arguments NVARCHAR(MAX) = NULL,
    @payload NVARCHAR(MAX) = NULL,
    @parameters NVARCHAR(MAX) = NULL, -- a JSON object: values by name
    @former BIGINT = NULL, -- a run whose parameters this one has, too
    @overrides NVARCHAR(MAX) = NULL,
    @priority INT = NULL,
    @delay_seconds INT = NULL,
    @key NVARCHAR(200) = NULL,
    @retry_of BIGINT = NULL,
    @by NVARCHAR(128),
    @run_id BIGINT OUTPUT
AS
-- Insert a new run from a definition and a start request, in the state that admission allows.
BEGIN
    SET NOCOUNT ON;
    DECLARE @sentence NVARCHAR(2000), @kind VARCHAR(16), @version INT, @enabled BIT, @queue NVARCHAR(400);
    DECLARE @definition NVARCHAR(MAX), @category NVARCHAR(128), @notify VARCHAR(200);
    DECLARE @asked NVARCHAR(128) = @job;
    SELECT
        @job = j.id,
        @kind = j.kind,
        @version = j.version,
        @enabled = j.enabled,
        @queue = j.queue,
        @category = j.category,
        @definition = v.definition
    FROM jobfac.job AS j
    JOIN jobfac.job_version AS v ON v.job = j.id AND v.version = j.version
    WHERE j.id = @asked;
    IF @version IS NULL
    BEGIN
        SET @sentence = CONCAT(N'There is no job ''', @asked, N'''; jobfac.v_job_statistics shows what there is.');
        EXEC jobfac.refuse @number = 50001, @sentence = @sentence;
    END;
    IF @enabled = 0
        SET @sentence = CONCAT(N'Job ''', @job, N''' is disabled; EXEC jobfac.enable_job allows it again.');
    -- A definition omits default values, so a missing key means the default.
    IF @enabled = 1 AND @manual = 1 AND JSON_VALUE(@definition, '$.on_demand') = 'false'
        SET @sentence = CONCAT(
            N'Job ''', @job, N''' may not be started by hand: its definition says on_demand: false.'
        );
    IF @enabled = 1 AND @manual = 1 AND @arguments IS NOT NULL
        AND JSON_VALUE(@definition, '$.replace_arguments') = 'false'
        SET @sentence = CONCAT(
            N'Job ''', @job, N''' takes no other arguments: its definition says replace_arguments: false.'
        );
    IF @enabled = 1 AND JSON_VALUE(@definition, '$.each_worker') = 'true'
        SET @sentence = CONCAT(
            N'Job ''', @job, N''' makes one run for each worker, which T-SQL cannot do; use jobfac ',
            CASE WHEN @retry_of IS NULL THEN N'start' ELSE N'retry' END, N' or HTTP.'
        );
    -- `$${` is plain text, and a placeholder may hold spaces.
    DECLARE @texts NVARCHAR(MAX) = CONCAT(
        JSON_QUERY(@definition, '$.command'), JSON_QUERY(@definition, '$.environment'),
        JSON_VALUE(@definition, '$.directory'), JSON_QUERY(@definition, '$.output'),
        CASE WHEN @arguments IS NULL THEN JSON_QUERY(@definition, '$.arguments') END
    );
    IF @sentence IS NULL AND @manual = 1
        AND CHARINDEX(N'${trigger.', REPLACE(REPLACE(@texts, N'$${', N''), N' ', N'')) > 0
        SET @sentence = CONCAT(
            N'Job ''', @job, N''' cannot be started by hand: it refers to what only a trigger has, such as ',
            N'${trigger.path}; declare a parameter with that default, refer to that, and give it a value.'
        );
    IF @sentence IS NOT NULL
        EXEC jobfac.refuse @number = 50002, @sentence = @sentence;
    EXEC jobfac.check_request
        @job = @job, @kind = @kind, @arguments = @arguments, @payload = @payload, @delay_seconds = @delay_seconds;
    DECLARE @shown NVARCHAR(MAX) = @parameters, @sensitive NVARCHAR(MAX), @origin NVARCHAR(MAX);
    IF @former IS NULL
    BEGIN
        DECLARE @subject NVARCHAR(200) = CONCAT(N'Job ''', @job, N'''');
        EXEC jobfac.check_parameters @subject = @subject, @definition = @definition, @parameters = @parameters;
        -- With a sensitive one among them, none is shown until the worker has told them apart.
        IF EXISTS (
            SELECT 1 FROM OPENJSON(@definition, '$.parameters') AS p
            WHERE JSON_VALUE(p.[value], '$.sensitive') = 'true'
        )
            SELECT @shown = NULL, @sensitive = @parameters;
    END
    ELSE
    BEGIN
        EXEC jobfac.check_former @former = @former, @definition = @definition;
        -- A retry stands for the same due time as the run that it repeats. The Z says that no zone is chosen yet. That of
        -- a schedule's run is chosen: its origin names the zone, unless it is UTC.
        DECLARE @due_at DATETIME2(3), @due NVARCHAR(30);
        SELECT
            @due_at = r.due_at,
            @due = CONCAT(
                CONVERT(NVARCHAR(30), COALESCE(r.due_at, r.created_at), 126),
                CASE WHEN r.due_at IS NULL THEN N'Z' ELSE N'+00:00' END
            ),
            @shown = r.parameters,
            @sensitive = r.sensitive,
            @origin = r.origin
        FROM jobfac.run AS r
        WHERE r.id = @former;
        IF @origin IS NULL
            SET @origin = CONCAT(N'{"due": "', @due, N'"}');
        IF JSON_VALUE(@origin, '$.due') IS NULL
            SET @origin = CONCAT(N'{"due": "', @due, N'", ', SUBSTRING(@origin, 2, LEN(@origin)));
        IF @due_at IS NOT NULL AND JSON_VALUE(@origin, '$.scheduled') IS NULL
            SET @origin = CONCAT(N'{"scheduled": true, ', SUBSTRING(@origin, 2, LEN(@origin)));
    END;
    IF @kind = 'sequence' AND @overrides IS NULL AND COALESCE(@arguments, @payload) IS NOT NULL
        SET @overrides = CONCAT(
            N'{"arguments": ', COALESCE(@arguments, N'{}'), N', "payloads": ', COALESCE(@payload, N'{}'), N'}'
        );
    IF @kind = 'sequence'
        SELECT @arguments = NULL, @payload = NULL;

    -- Whether there is a subscription. Which events are subscribed is determined when an event occurs.
    IF JSON_QUERY(@definition, '$.notify') IS NOT NULL OR JSON_QUERY(@overrides, '$.notify') IS NOT NULL
        OR EXISTS (SELECT 1 FROM jobfac.category AS c WHERE c.name = @category)
        SET @notify = 'all';

    DECLARE @rule VARCHAR(16) = COALESCE(JSON_VALUE(@definition, '$.already_running'), 'start');
    DECLARE @shared NVARCHAR(128) = JSON_VALUE(@definition, '$.concurrency.key');
    DECLARE @limit INT;
    IF @shared IS NOT NULL
        SET @limit = COALESCE(CAST(JSON_VALUE(@definition, '$.concurrency.limit') AS INT), 1);
    IF @former IS NOT NULL
    BEGIN
        -- A retry of a run that queued, as those of a backfill, queues, too, and counts against the same limit.
        DECLARE @caught_up NVARCHAR(128) = LEFT(CONCAT(N'backfill ', @job), 128), @most INT;
        SELECT
            @rule = CASE WHEN @rule <> 'start' AND r.already_running = 'queue' THEN 'queue' ELSE @rule END,
            @most = CASE WHEN r.concurrency_key = @caught_up THEN r.concurrency_limit END
        FROM jobfac.run AS r
        WHERE r.id = @former;
        IF @most IS NOT NULL
            SELECT
                @limit = CASE WHEN @limit < @most THEN @limit ELSE @most END,
                @shared = COALESCE(@shared, @caught_up);
    END;
    DECLARE @state VARCHAR(16) = 'queued';
    -- All named locks come before the first row, in the order of their names.
    DECLARE @resource NVARCHAR(255), @keyed NVARCHAR(400), @others INT, @other BIGINT = 0;
    DECLARE @first BIGINT, @chain BIGINT, @before BIGINT = @retry_of;
    DECLARE @lineage TABLE (resource VARCHAR(40) COLLATE Latin1_General_BIN2 NOT NULL PRIMARY KEY);
    IF @delay_seconds > 0
        SET @state = 'scheduled';
    ELSE
    BEGIN
        IF @rule <> 'start'
        BEGIN
            SET @resource = CONCAT(N'jobfac:job:', @job);
            EXEC jobfac.lock_rule @resource = @resource;
        END;
        IF @shared IS NOT NULL
        BEGIN
            -- Names of locks are compared byte by byte, but most databases compare keys without regard to case.
            SET @resource = CONCAT(N'jobfac:key:', RTRIM(LOWER(@shared COLLATE Latin1_General_BIN2)));
            EXEC jobfac.lock_rule @resource = @resource;
        END;
    END;
    IF @retry_of IS NOT NULL
    BEGIN
        -- The locks of the first one of the retries that led to it, and of those of the sequences around that: a retry of
        -- one of these repeats the run, too.
        WHILE @before IS NOT NULL
        BEGIN
            WHILE @before IS NOT NULL
            BEGIN
                SET @first = @before;
                SET @before = (
                    SELECT COALESCE(CAST(JSON_VALUE(r.origin, '$.first') AS BIGINT), r.retry_of)
                    FROM jobfac.run AS r
                    WHERE r.id = @first AND r.retry_of IS NOT NULL
                );
            END;
            -- A success of any later run of these retries shows that the failures of all of them are over.
            IF @chain IS NULL
                SET @chain = @first;
            INSERT INTO @lineage (resource) VALUES (CONCAT('jobfac:retry:', @first));
            SET @before = (SELECT r.sequence_run_id FROM jobfac.run AS r WHERE r.id = @first);
        END;
        IF JSON_VALUE(@origin, '$.first') IS NULL
            SET @origin = CONCAT(N'{"first": ', @chain, N', ', SUBSTRING(@origin, 2, LEN(@origin)));
        SET @resource = (SELECT MIN(l.resource) FROM @lineage AS l);
        WHILE @resource IS NOT NULL
        BEGIN
            EXEC jobfac.lock_rule @resource = @resource;
            SET @resource = (SELECT MIN(l.resource) FROM @lineage AS l WHERE l.resource > @resource);
        END;
    END;
    IF @key IS NOT NULL
    BEGIN
        -- Two with the same key: the second waits here for the first. (A lock on the index would be one on the gap into
        -- which all new keys of the job may fall.)
        SET @keyed = CONCAT(
            LOWER(@job COLLATE Latin1_General_BIN2), N'/', RTRIM(LOWER(@key COLLATE Latin1_General_BIN2))
        );
        SET @resource = CONCAT(N'jobfac:start:', CONVERT(VARCHAR(64), HASHBYTES('SHA2_256', @keyed), 2));
        EXEC jobfac.lock_rule @resource = @resource;
        SELECT @run_id = r.id
        FROM jobfac.run AS r
        WHERE r.job = @job AND r.start_key = @key;
        IF @run_id IS NOT NULL
            RETURN;
    END;
    IF @state <> 'scheduled'
    BEGIN
        -- A delayed start does not count, because it is not under way.
        WHILE @rule = 'replace' AND @other IS NOT NULL
        BEGIN
            SET @other = (
                SELECT MIN(r.id) FROM jobfac.run AS r
                WHERE r.state IN ('blocked', 'queued', 'running', 'scheduled', 'stopping')
                    AND r.job = @job AND (r.state <> 'scheduled' OR r.attempt > 0) AND r.id > @other
                    AND r.already_running <> 'queue'
            );
            IF @other IS NOT NULL
            BEGIN
                DECLARE @starter NVARCHAR(MAX) = @by;
                EXEC jobfac.cut_text @text = @starter OUTPUT, @most = 117;
                DECLARE @replaced NVARCHAR(128) = CONCAT(@starter, N' (replaced)');
                EXEC jobfac.request_stop @run = @other, @now = 0, @by = @replaced;
            END;
        END;
        IF @shared IS NOT NULL
        BEGIN
            SELECT @others = COUNT(*)
            FROM jobfac.run AS r
            WHERE r.concurrency_key = @shared AND r.state IN ('queued', 'running', 'stopping');
            IF @others >= @limit
                SET @state = 'blocked';
        END;
        IF @rule <> 'start'
        BEGIN
            -- A run that queues also waits for one between two attempts.
            SELECT @others = COUNT(*)
            FROM jobfac.run AS r
            WHERE r.state IN ('blocked', 'queued', 'running', 'scheduled', 'stopping')
                AND r.job = @job AND (
                    r.state IN ('queued', 'running', 'stopping')
                    OR (@rule = 'queue' AND r.state = 'scheduled' AND r.attempt > 0)
                );
            IF @others > 0
                SET @state = 'blocked';
        END;
        -- Behind blocked runs of the job that nothing keeps any more, as when their hold has just ended. The scheduler
        -- admits the first of them.
        IF @rule = 'queue' AND @state = 'queued' AND EXISTS (
            SELECT 1
            FROM jobfac.run AS r
            WHERE r.state IN ('blocked', 'queued', 'running', 'scheduled', 'stopping')
                AND r.job = @job AND r.state = 'blocked'
        )
            SET @state = 'blocked';
        IF @rule = 'deny'
        BEGIN
            -- A run between two attempts counts as under way. Runs that queue, as those that catch up, do not count.
            SELECT @others = COUNT(*)
            FROM jobfac.run AS r
            WHERE r.state IN ('blocked', 'queued', 'running', 'scheduled', 'stopping')
                AND r.job = @job AND (r.state <> 'scheduled' OR r.attempt > 0) AND r.already_running <> 'queue';
            IF @others > 0
                SET @state = 'denied';
        END;
    END;

    DECLARE @at DATETIME2(3) = SYSUTCDATETIME();
    INSERT INTO jobfac.run (
        job, job_version, kind, state, queue, priority, arguments, payload, parameters, sensitive, origin, overrides,
        notify, notify_jobs, created_at, created_by, ready_at, queued_at, ended_at, reason, restartable,
        already_running, concurrency_key, concurrency_limit, start_key, retry_of, slots
    )
    VALUES (
        @job,
        @version,
        @kind,
        @state,
        @queue,
        COALESCE(@priority, CAST(JSON_VALUE(@definition, '$.priority') AS INT), 0),
        @arguments,
        @payload,
        @shown,
        @sensitive,
        @origin,
        @overrides,
        @notify,
        CASE WHEN @kind = 'sequence' THEN @notify END,
        @at,
        @by,
        CASE WHEN @state = 'scheduled' THEN DATEADD(SECOND, @delay_seconds, @at) END,
        CASE WHEN @state = 'queued' THEN @at END,
        CASE WHEN @state = 'denied' THEN @at END,
        CASE WHEN @state = 'denied' THEN N'another run of the job is still active' END,
        CASE WHEN JSON_VALUE(@definition, '$.restartable') = 'false' THEN 0 ELSE 1 END,
        @rule,
        @shared,
        @limit,
        @key,
        @retry_of,
        CAST(JSON_VALUE(@definition, '$.slots') AS INT)
    );
    SET @run_id = CAST(SCOPE_IDENTITY() AS BIGINT);
    -- The login, too, if @by names somebody else: nobody approves what their own login has started.
    INSERT INTO jobfac.run_event (run_id, attempt, at, event, [by], detail)
    VALUES (
        @run_id, 0, SYSUTCDATETIME(), @state, @by,
        CASE WHEN @by <> ORIGINAL_LOGIN() THEN CONCAT(N'login ', ORIGINAL_LOGIN()) END
    );
    IF @state = 'denied'
        EXEC jobfac.record_end @run = @run_id;
    IF @state = 'denied' AND @notify IS NOT NULL
        INSERT INTO jobfac.news (run_id, attempt, job, event, created_at)
        VALUES (@run_id, 0, @job, @state, SYSUTCDATETIME());
END;
GO

CREATE OR ALTER PROCEDURE jobfac.set_enabled
    @job NVARCHAR(128),
    @enabled BIT,
    @by NVARCHAR(129)
AS
BEGIN
    SET NOCOUNT ON;
    DECLARE @sentence NVARCHAR(2000), @who NVARCHAR(128) = COALESCE(@by, ORIGINAL_LOGIN());
    EXEC jobfac.check_by @by = @by;
    IF NOT EXISTS (SELECT 1 FROM jobfac.job AS j WHERE j.id = @job)
    BEGIN
        SET @sentence = CONCAT(N'There is no job ''', @job, N'''; jobfac.v_job_statistics shows what there is.');
        EXEC jobfac.refuse @number = 50001, @sentence = @sentence;
    END;
    SET XACT_ABORT ON;
    BEGIN TRANSACTION;
    UPDATE jobfac.job
    SET enabled = @enabled, updated_at = SYSUTCDATETIME(), updated_by = @who
    WHERE id = @job AND enabled <> @enabled;
    IF @@ROWCOUNT > 0
        INSERT INTO jobfac.audit (at, [by], action, subject)
        VALUES (SYSUTCDATETIME(), @who, CASE WHEN @enabled = 1 THEN 'enable' ELSE 'disable' END, @job);
    COMMIT TRANSACTION;
END;
GO

CREATE OR ALTER PROCEDURE jobfac.set_paused
    @job NVARCHAR(128),
    @schedule NVARCHAR(128),
    @paused BIT,
    @by NVARCHAR(129)
AS
BEGIN
    SET NOCOUNT ON;
    DECLARE @sentence NVARCHAR(2000), @who NVARCHAR(128) = COALESCE(@by, ORIGINAL_LOGIN());
    EXEC jobfac.check_by @by = @by;
    -- A variable without a value must not resume what was paused on purpose.
    IF @schedule IS NULL
        THROW 50007, N'@schedule is NULL; leave it out for every schedule of the job.', 1;
    SET @schedule = NULLIF(@schedule, N'*');
    IF NOT EXISTS (SELECT 1 FROM jobfac.schedule AS s WHERE s.job = @job AND s.name = COALESCE(@schedule, s.name))
    BEGIN
        SET @sentence = CONCAT(
            N'Job ''', @job, N''' has no schedule', N' ''' + @schedule + N'''',
            N'; jobfac.v_schedule shows what there is.'
        );
        EXEC jobfac.refuse @number = 50005, @sentence = @sentence;
    END;
    SET XACT_ABORT ON;
    BEGIN TRANSACTION;
    INSERT INTO jobfac.audit (at, [by], action, subject)
    SELECT
        SYSUTCDATETIME(), @who, CASE WHEN @paused = 1 THEN 'pause' ELSE 'resume' END,
        LEFT(CONCAT(s.job, N'/', s.name), 200)
    FROM jobfac.schedule AS s WITH (ROWLOCK, UPDLOCK)
    WHERE s.job = @job AND s.name = COALESCE(@schedule, s.name) AND s.paused <> @paused;
    UPDATE jobfac.schedule
    SET
        paused = @paused,
        resumed_at = CASE WHEN @paused = 0 THEN SYSUTCDATETIME() ELSE resumed_at END,
        updated_at = SYSUTCDATETIME()
    WHERE job = @job AND name = COALESCE(@schedule, name) AND paused <> @paused;
    COMMIT TRANSACTION;
END;
GO

-- The procedures for operators. Each joins the caller's transaction, or uses its own if there is none. A refusal
-- (THROW) leaves the caller's transaction unchanged.
--
-- Errors: 50001 there is no such job; 50002 the job does not allow it; 50003 there is no such run; 50004 the run has
-- not ended, or its retry has not; 50005 there is no such schedule; 50006 there is no such worker alive; 50007 an argument cannot be used;
-- 50008 there is no such hold; 50009 the step does not wait for an approval; 50010 somebody else must approve it;
-- 51222 a lock was not free in time (retry).
--
-- ROWCOUNT: a session that calls may have it, as a query window of SSMS may by its options, and it limits the statements
-- inside procedures, too. At the end of a procedure the session has it again.
--
-- XACT_ABORT: a client that gives up, by its timeout or a cancel, ends a procedure without its CATCH. With XACT_ABORT ON
-- the server then rolls back the procedure's own transaction. Without, it would stay open with its locks, and the next
-- start of the session would join it and never be committed. In the caller's transaction the caller's setting applies.
--
-- This file can be run again at any time; it replaces the existing objects.

-- Writes to tables with filtered indexes need both settings. A procedure keeps the settings of its creation.
SET QUOTED_IDENTIFIER ON;
SET ANSI_NULLS ON;
GO

CREATE OR ALTER PROCEDURE jobfac.start_job
    @job NVARCHAR(128),
    @arguments NVARCHAR(MAX) = NULL, -- a JSON array of texts; for a sequence an object of such arrays by job
    @payload NVARCHAR(MAX) = NULL, -- any text; for a sequence a JSON object of texts by job
    @priority INT = NULL, -- from -1000 to 1000, higher values first; NULL: the definition's
    @delay_seconds INT = NULL,
    @key NVARCHAR(MAX) = NULL, -- at most 200 characters; the same key of the same job always gives the same run
    @by NVARCHAR(129) = NULL, -- at most 128 characters; NULL: the login
    @run_id BIGINT = NULL OUTPUT,
    @parameters NVARCHAR(MAX) = NULL -- a JSON object: values for the job's parameters, by name
AS
-- Start a job. Check the run's state: the already-running policy may have made it `denied` or `blocked`.
BEGIN
    SET NOCOUNT ON;
    SET ROWCOUNT 0;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    DECLARE @who NVARCHAR(128) = COALESCE(@by, ORIGINAL_LOGIN());
    -- A parameter of 200 would truncate longer keys silently, and two keys that differ after that would give one run.
    IF DATALENGTH(@key) > 400
        THROW 50007, N'@key has more than 200 characters; give a shorter one.', 1;
    IF @priority NOT BETWEEN -1000 AND 1000
        THROW 50007, N'@priority must be between -1000 and 1000; NULL takes that of the definition.', 1;
    IF LTRIM(RTRIM(@key)) = N''
        THROW 50007, N'@key must not be blank: all starts with a blank key would give the same run.', 1;
    DECLARE @said NVARCHAR(MAX) = CONCAT(@arguments, N'|', @payload, N'|', @key, N'|', @parameters);
    EXEC jobfac.check_text @text = @said;
    EXEC jobfac.check_by @by = @by;
    DECLARE @start_key NVARCHAR(200) = @key;
    DECLARE @outer INT = @@TRANCOUNT;
    IF @outer = 0
    BEGIN
        SET XACT_ABORT ON;
        BEGIN TRANSACTION;
    END
    ELSE
        SAVE TRANSACTION jobfac_start;
    BEGIN TRY
        SET @run_id = NULL;
        IF @start_key IS NOT NULL
            SELECT @run_id = r.id
            FROM jobfac.run AS r
            WHERE r.job = @job AND r.start_key = @start_key;
        IF @run_id IS NULL -- insert_run checks again under the key's lock
            EXEC jobfac.insert_run
                @job = @job,
                @manual = 1,
                @arguments = @arguments,
                @payload = @payload,
                @parameters = @parameters,
                @priority = @priority,
                @delay_seconds = @delay_seconds,
                @key = @start_key,
                @by = @who,
                @run_id = @run_id OUTPUT;
        IF @start_key IS NOT NULL
            EXEC jobfac.check_repeat
                @run = @run_id,
                @key = @start_key,
                @arguments = @arguments,
                @payload = @payload,
                @priority = @priority,
                @delay_seconds = @delay_seconds,
                @parameters = @parameters;
        IF @outer = 0
            COMMIT TRANSACTION;
    END TRY
    BEGIN CATCH
        IF @outer = 0 AND XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        IF @outer > 0 AND XACT_STATE() = 1
            ROLLBACK TRANSACTION jobfac_start;
        THROW;
    END CATCH;
END;
GO

CREATE OR ALTER PROCEDURE jobfac.retry_run
    @run BIGINT,
    @by NVARCHAR(129) = NULL,
    @run_id BIGINT = NULL OUTPUT
AS
-- Start a new run with the arguments, payload and parameters of a finished run and the job's current definition.
BEGIN
    SET NOCOUNT ON;
    SET ROWCOUNT 0;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    DECLARE @who NVARCHAR(128) = COALESCE(@by, ORIGINAL_LOGIN());
    DECLARE @job NVARCHAR(128), @state VARCHAR(16), @priority INT, @sentence NVARCHAR(2000);
    DECLARE @arguments NVARCHAR(MAX), @payload NVARCHAR(MAX), @overrides NVARCHAR(MAX);
    EXEC jobfac.check_by @by = @by;
    DECLARE @outer INT = @@TRANCOUNT;
    IF @outer = 0
    BEGIN
        SET XACT_ABORT ON;
        BEGIN TRANSACTION;
    END
    ELSE
        SAVE TRANSACTION jobfac_retry;
    BEGIN TRY
        SET @run_id = NULL;
        SELECT
            @job = r.job,
            @state = r.state,
            @priority = r.priority,
            @arguments = r.arguments,
            @payload = r.payload,
            @overrides = r.overrides
        FROM jobfac.run AS r
        WHERE r.id = @run;
        IF @state IS NULL
        BEGIN
            SET @sentence = CONCAT(N'There is no run ', @run, N'; jobfac.v_runs shows what there is.');
            EXEC jobfac.refuse @number = 50003, @sentence = @sentence;
        END;
        IF @state IN ('scheduled', 'blocked', 'queued', 'running', 'stopping')
        BEGIN
            SET @sentence = CONCAT(N'Run ', @run, N' is still ', @state, N'; stop it first, or wait for its end.');
            EXEC jobfac.refuse @number = 50004, @sentence = @sentence;
        END;
        IF JSON_VALUE(@overrides, '$.first_step') IS NOT NULL
            EXEC jobfac.check_skipped @run = @run, @job = @job;
        EXEC jobfac.insert_run
            @job = @job,
            @manual = 0,
            @arguments = @arguments,
            @payload = @payload,
            @overrides = @overrides,
            @former = @run,
            @priority = @priority,
            @retry_of = @run,
            @by = @who,
            @run_id = @run_id OUTPUT;
        -- The new run holds the lock that all retries of the run take.
        -- Others are those that retry this run, a run that this one retries, or a retry of one of them; a sequence around
        -- the first one of these; or a job inside it. First, collect the jobs that they can belong to.
        DECLARE @other BIGINT, @other_state VARCHAR(16), @depth INT = 0, @rows INT = 1, @first BIGINT = @run;
        DECLARE @jobs TABLE (job NVARCHAR(128) NOT NULL);
        DECLARE @line TABLE (depth INT NOT NULL PRIMARY KEY, id BIGINT NOT NULL);
        DECLARE @inside TABLE (id BIGINT NOT NULL PRIMARY KEY, depth INT NOT NULL);
        DECLARE @within TABLE (id BIGINT NOT NULL PRIMARY KEY);
        DECLARE @around BIGINT = @run, @outside BIGINT, @is_same BIT;
        WHILE @around IS NOT NULL
        BEGIN
            WHILE @around IS NOT NULL
            BEGIN
                SET @first = @around;
                SET @around = (
                    SELECT COALESCE(CAST(JSON_VALUE(r.origin, '$.first') AS BIGINT), r.retry_of)
                    FROM jobfac.run AS r
                    WHERE r.id = @first AND r.retry_of IS NOT NULL
                );
            END;
            INSERT INTO @line (depth, id) VALUES (@depth, @first);
            INSERT INTO @jobs (job) SELECT r.job FROM jobfac.run AS r WHERE r.id IN (@first, @run);
            SET @depth = @depth + 1;
            SET @around = (SELECT r.sequence_run_id FROM jobfac.run AS r WHERE r.id = @first);
        END;
        -- What the retries of the sequences around it did in its place: the runs of the same step, outermost first. Those
        -- with other values, as of for_each or of several visits, are another place; alone in their last visits they may
        -- have other outputs of earlier steps.
        DECLARE @places TABLE (depth INT NOT NULL, id BIGINT NOT NULL, PRIMARY KEY (depth, id));
        DECLARE @inner BIGINT;
        INSERT INTO @places (depth, id)
        SELECT TOP (1) l.depth, l.id FROM @line AS l ORDER BY l.depth DESC;
        SELECT @depth = p.depth FROM @places AS p;
        WHILE @depth > 0
        BEGIN
            SELECT @inner = l.id FROM @line AS l WHERE l.depth = @depth - 1;
            INSERT INTO @places (depth, id)
            SELECT @depth, r.id
            FROM jobfac.run AS i
            JOIN jobfac.run AS o ON o.id = i.sequence_run_id
            JOIN jobfac.run AS r ON r.job = o.job
            WHERE i.id = @inner AND r.id > (SELECT MIN(p.id) FROM @places AS p WHERE p.depth = @depth)
                AND r.retry_of IS NOT NULL AND COALESCE(CAST(JSON_VALUE(r.origin, '$.first') AS BIGINT), r.retry_of)
                    IN (SELECT p.id FROM @places AS p WHERE p.depth = @depth);
            INSERT INTO @places (depth, id) VALUES (@depth - 1, @inner);
            INSERT INTO @places (depth, id)
            SELECT @depth - 1, c.id
            FROM @places AS p
            JOIN jobfac.run AS c ON c.sequence_run_id = p.id
            JOIN jobfac.visit AS v ON v.id = c.visit_id
            JOIN jobfac.run AS i ON i.id = @inner AND i.job = c.job
            JOIN jobfac.visit AS w ON w.id = i.visit_id AND w.step = v.step
            WHERE p.depth = @depth AND p.id <> i.sequence_run_id
                AND COALESCE(c.for_worker, N'') = COALESCE(i.for_worker, N'')
                AND (
                    (
                        COALESCE(c.parameters, N'') = COALESCE(i.parameters, N'') COLLATE Latin1_General_BIN2
                        AND COALESCE(c.sensitive, N'') = COALESCE(i.sensitive, N'') COLLATE Latin1_General_BIN2
                        AND COALESCE(c.arguments, N'') = COALESCE(i.arguments, N'') COLLATE Latin1_General_BIN2
                        AND COALESCE(c.payload, N'') = COALESCE(i.payload, N'') COLLATE Latin1_General_BIN2
                    )
                    OR (
                        c.item IS NULL AND i.item IS NULL
                        AND JSON_VALUE(c.origin, '$.given') = JSON_VALUE(i.origin, '$.given')
                        AND NOT EXISTS (
                            SELECT 1 FROM jobfac.visit AS n
                            WHERE n.run_id = v.run_id AND n.step = v.step AND n.id > v.id
                        )
                        AND NOT EXISTS (
                            SELECT 1 FROM jobfac.visit AS n
                            WHERE n.run_id = w.run_id AND n.step = w.step AND n.id > w.id
                        )
                    )
                );
            SET @depth = @depth - 1;
        END;
        INSERT INTO @inside (id, depth)
        SELECT r.id, 0
        FROM jobfac.run AS r
        WHERE r.job = @job AND r.kind = 'sequence' AND (
            r.id IN (SELECT p.id FROM @places AS p WHERE p.depth = 0)
            OR (
                r.id > (SELECT MIN(p.id) FROM @places AS p WHERE p.depth = 0) AND r.retry_of IS NOT NULL
                AND COALESCE(CAST(JSON_VALUE(r.origin, '$.first') AS BIGINT), r.retry_of)
                    IN (SELECT p.id FROM @places AS p WHERE p.depth = 0)
            )
        );
        WHILE @rows > 0
        BEGIN
            INSERT INTO @jobs (job)
            SELECT DISTINCT i.job
            FROM @inside AS s
            JOIN jobfac.run AS i ON i.sequence_run_id = s.id
            WHERE s.depth = @depth;
            INSERT INTO @inside (id, depth)
            SELECT i.id, @depth + 1
            FROM @inside AS s
            JOIN jobfac.run AS i ON i.sequence_run_id = s.id
            WHERE s.depth = @depth AND i.kind = 'sequence';
            SET @rows = @@ROWCOUNT;
            SET @depth = @depth + 1;
        END;
        -- A sequence that is a retry itself and started the first run has not repeated it.
        SET @outside = (
            SELECT r.sequence_run_id FROM @line AS l JOIN jobfac.run AS r ON r.id = l.id WHERE l.depth = 0
        );
        WHILE @outside IS NOT NULL
        BEGIN
            INSERT INTO @within (id) VALUES (@outside);
            SET @outside = (SELECT r.sequence_run_id FROM jobfac.run AS r WHERE r.id = @outside);
        END;
        -- The lineage of each: the first run of its chain, and those of the sequences around that.
        DECLARE @lines TABLE (
            retry BIGINT NOT NULL, depth INT NOT NULL, first_run BIGINT NOT NULL, PRIMARY KEY (retry, depth)
        );
        INSERT INTO @lines (retry, depth, first_run)
        SELECT r.id, 0, r.retry_of
        FROM jobfac.run AS r
        WHERE r.job IN (SELECT j.job FROM @jobs AS j)
            AND r.state IN ('blocked', 'queued', 'running', 'scheduled', 'stopping') AND r.retry_of IS NOT NULL;
        SET @rows = @@ROWCOUNT;
        SET @depth = 0;
        WHILE @rows > 0
        BEGIN
            WHILE @rows > 0
            BEGIN
                UPDATE l
                SET first_run = COALESCE(CAST(JSON_VALUE(r.origin, '$.first') AS BIGINT), r.retry_of)
                FROM @lines AS l
                JOIN jobfac.run AS r ON r.id = l.first_run
                WHERE l.depth = @depth AND r.retry_of IS NOT NULL;
                SET @rows = @@ROWCOUNT;
            END;
            INSERT INTO @lines (retry, depth, first_run)
            SELECT l.retry, @depth + 1, r.sequence_run_id
            FROM @lines AS l
            JOIN jobfac.run AS r ON r.id = l.first_run
            WHERE l.depth = @depth AND r.sequence_run_id IS NOT NULL;
            SET @rows = @@ROWCOUNT;
            SET @depth = @depth + 1;
        END;
        SELECT TOP (1) @other = r.id, @other_state = r.state
        FROM @lines AS l
        JOIN jobfac.run AS r ON r.id = l.retry
        WHERE l.retry <> @run_id AND l.retry NOT IN (SELECT w.id FROM @within AS w)
            AND EXISTS (SELECT 1 FROM @places AS p WHERE p.id = l.first_run AND (p.depth = 0 OR l.depth = 0))
        ORDER BY r.id DESC;
        IF @other IS NOT NULL
        BEGIN
            SET @sentence = CONCAT(
                N'Run ', @run, N' is being retried: run ', @other, N' is ', @other_state,
                N'; wait for its end, or start the job.'
            );
            EXEC jobfac.refuse @number = 50004, @sentence = @sentence;
        END;
        -- A second person who has seen the failure does its work no second time.
        SELECT TOP (1) @other = s.id, @is_same = same.[values]
        FROM jobfac.run AS s
        JOIN jobfac.run AS r ON r.id = @run
        CROSS APPLY (SELECT CASE
            WHEN COALESCE(s.parameters, N'') = COALESCE(r.parameters, N'') COLLATE Latin1_General_BIN2
                AND COALESCE(s.sensitive, N'') = COALESCE(r.sensitive, N'') COLLATE Latin1_General_BIN2
                AND COALESCE(s.arguments, N'') = COALESCE(r.arguments, N'') COLLATE Latin1_General_BIN2
                AND COALESCE(s.payload, N'') = COALESCE(r.payload, N'') COLLATE Latin1_General_BIN2
                THEN 1 ELSE 0 END AS [values]) AS same
        WHERE r.state <> 'succeeded' AND s.job = @job AND s.id > @run AND s.state = 'succeeded'
            AND (
                s.id IN (SELECT p.id FROM @places AS p WHERE p.depth = 0)
                OR (
                    s.retry_of IS NOT NULL
                    AND COALESCE(CAST(JSON_VALUE(s.origin, '$.first') AS BIGINT), s.retry_of)
                        IN (SELECT p.id FROM @places AS p WHERE p.depth = 0)
                )
            )
            -- A sequence that skipped the step that had failed shows nothing about that.
            AND (r.kind <> 'sequence' OR NOT EXISTS (
                SELECT 1
                FROM jobfac.visit AS f
                JOIN jobfac.visit AS k ON k.run_id = s.id AND k.step = f.step AND k.start = 'skipped'
                WHERE f.run_id = r.id AND f.result IN ('failure', 'mixed')
                    AND NOT EXISTS (
                        SELECT 1 FROM jobfac.visit AS d
                        WHERE d.run_id = s.id AND d.step = f.step AND d.start = 'started'
                    )
            ))
            AND (s.kind <> 'sequence' OR EXISTS (
                SELECT 1 FROM jobfac.visit AS v WHERE v.run_id = s.id AND v.start <> 'skipped'
            ))
        ORDER BY same.[values] DESC, s.id DESC;
        IF @other IS NOT NULL
        BEGIN
            SET @sentence = CONCAT(
                N'Run ', @run, N' was retried as run ', @other, N', which succeeded',
                CASE @is_same
                    WHEN 1 THEN CONCAT(N'; to do the work again, retry run ', @other, N' or start the job.')
                    ELSE CONCAT(
                        N' with other values; to do the work with those of run ', @run, N', start the job with them.'
                    )
                END
            );
            EXEC jobfac.refuse @number = 50004, @sentence = @sentence;
        END;
        -- A retry does not begin with a step whose work another retry has done, all of it or in part.
        SELECT @other = MAX(s.id)
        FROM jobfac.run AS s
        JOIN jobfac.visit AS v ON v.run_id = s.id AND v.step = JSON_VALUE(@overrides, '$.first_step')
        JOIN jobfac.run AS n ON n.id = @run_id
        WHERE @state <> 'succeeded' AND s.job = @job AND s.id > @run AND s.id <> @run_id
            AND (v.result = 'success' OR EXISTS (
                SELECT 1 FROM jobfac.run AS c WHERE c.visit_id = v.id AND c.state = 'succeeded'
            ))
            AND COALESCE(CAST(JSON_VALUE(s.origin, '$.first') AS BIGINT), s.id)
                IN (SELECT p.id FROM @places AS p WHERE p.depth = 0)
            AND COALESCE(s.parameters, N'') = COALESCE(n.parameters, N'') COLLATE Latin1_General_BIN2
            AND COALESCE(s.sensitive, N'') = COALESCE(n.sensitive, N'') COLLATE Latin1_General_BIN2;
        IF @other IS NOT NULL
        BEGIN
            SET @sentence = CONCAT(
                N'Run ', @run, N' was retried as run ', @other, N', which has done work of the step ''',
                JSON_VALUE(@overrides, '$.first_step'), N'''; retry run ', @other,
                N', or start the sequence with this step.'
            );
            EXEC jobfac.refuse @number = 50004, @sentence = @sentence;
        END;
        INSERT INTO jobfac.audit (at, [by], action, subject, [after])
        VALUES (SYSUTCDATETIME(), @who, 'retry', CONCAT(N'run ', @run), CONCAT(N'run ', @run_id));
        IF @outer = 0
            COMMIT TRANSACTION;
    END TRY
    BEGIN CATCH
        IF @outer = 0 AND XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        IF @outer > 0 AND XACT_STATE() = 1
            ROLLBACK TRANSACTION jobfac_retry;
        THROW;
    END CATCH;
END;
GO

CREATE OR ALTER PROCEDURE jobfac.stop_run
    @run BIGINT,
    @now BIT = 0, -- 1: without the job's grace period
    @by NVARCHAR(129) = NULL
AS
-- Stop a run; a sequence with all its runs. A waiting run ends here. A running one is stopped by its worker, within a
-- heartbeat and the job's grace period. The next sweep of a worker or scheduler admits the runs that waited for it.
BEGIN
    SET NOCOUNT ON;
    SET ROWCOUNT 0;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    DECLARE @who NVARCHAR(128) = COALESCE(@by, ORIGINAL_LOGIN());
    DECLARE @before VARCHAR(16), @after VARCHAR(16);
    EXEC jobfac.check_by @by = @by;
    DECLARE @outer INT = @@TRANCOUNT;
    IF @outer = 0
    BEGIN
        SET XACT_ABORT ON;
        BEGIN TRANSACTION;
    END
    ELSE
        SAVE TRANSACTION jobfac_stop;
    BEGIN TRY
        EXEC jobfac.request_stop
            @run = @run, @now = @now, @by = @who, @before = @before OUTPUT, @after = @after OUTPUT;
        IF @before IN ('scheduled', 'blocked', 'queued', 'running', 'stopping')
            INSERT INTO jobfac.audit (at, [by], action, subject, [before], [after])
            VALUES (SYSUTCDATETIME(), @who, 'stop', CONCAT(N'run ', @run), @before, @after);
        IF @outer = 0
            COMMIT TRANSACTION;
    END TRY
    BEGIN CATCH
        IF @outer = 0 AND XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        IF @outer > 0 AND XACT_STATE() = 1
            ROLLBACK TRANSACTION jobfac_stop;
        THROW;
    END CATCH;
END;
GO

CREATE OR ALTER PROCEDURE jobfac.enable_job
    @job NVARCHAR(128),
    @by NVARCHAR(129) = NULL
AS
-- Allow starts of a job again.
BEGIN
    SET NOCOUNT ON;
    SET ROWCOUNT 0;
    EXEC jobfac.set_enabled @job = @job, @enabled = 1, @by = @by;
END;
GO

CREATE OR ALTER PROCEDURE jobfac.disable_job
    @job NVARCHAR(128),
    @by NVARCHAR(129) = NULL
AS
-- Forbid starts of a job. Its runs that wait or run continue.
BEGIN
    SET NOCOUNT ON;
    SET ROWCOUNT 0;
    EXEC jobfac.set_enabled @job = @job, @enabled = 0, @by = @by;
END;
GO

CREATE OR ALTER PROCEDURE jobfac.pause_schedule
    @job NVARCHAR(128),
    @schedule NVARCHAR(128) = N'*', -- *: every schedule of the job
    @by NVARCHAR(129) = NULL
AS
-- Pause a schedule: it starts no runs until it is resumed.
BEGIN
    SET NOCOUNT ON;
    SET ROWCOUNT 0;
    EXEC jobfac.set_paused @job = @job, @schedule = @schedule, @paused = 1, @by = @by;
END;
GO

CREATE OR ALTER PROCEDURE jobfac.resume_schedule
    @job NVARCHAR(128),
    @schedule NVARCHAR(128) = N'*',
    @by NVARCHAR(129) = NULL
AS
-- Resume a schedule. The due times during the pause count as missed, and the schedule's `missed` applies to them.
BEGIN
    SET NOCOUNT ON;
    SET ROWCOUNT 0;
    EXEC jobfac.set_paused @job = @job, @schedule = @schedule, @paused = 0, @by = @by;
END;
GO

CREATE OR ALTER PROCEDURE jobfac.drain_worker
    @worker BIGINT, -- its id in jobfac.v_fleet
    @by NVARCHAR(129) = NULL
AS
-- Ask a worker to claim no more runs and to deregister when its runs have ended. Those that take longer than its
-- drain_limit (60 s by default) are stopped and queued again, or end as lost if their job has restartable: false.
BEGIN
    SET NOCOUNT ON;
    SET ROWCOUNT 0;
    DECLARE @sentence NVARCHAR(2000), @who NVARCHAR(128) = COALESCE(@by, ORIGINAL_LOGIN());
    EXEC jobfac.check_by @by = @by;
    IF NOT EXISTS (SELECT 1 FROM jobfac.worker AS w WHERE w.id = @worker AND w.state IN ('active', 'draining'))
    BEGIN
        SET @sentence = CONCAT(N'There is no live worker ', @worker, N'; jobfac.v_fleet shows the fleet.');
        EXEC jobfac.refuse @number = 50006, @sentence = @sentence;
    END;
    SET XACT_ABORT ON;
    BEGIN TRANSACTION;
    UPDATE jobfac.worker SET state = 'draining' WHERE id = @worker AND state = 'active';
    IF @@ROWCOUNT > 0
        INSERT INTO jobfac.audit (at, [by], action, subject)
        VALUES (SYSUTCDATETIME(), @who, 'drain', CONCAT(N'worker ', @worker));
    COMMIT TRANSACTION;
END;
GO

CREATE OR ALTER PROCEDURE jobfac.hold
    @pool NVARCHAR(128) = N'*',
    @category NVARCHAR(128) = N'*',
    @job NVARCHAR(128) = N'*', -- one of the three; none: everything
    @until DATETIME2(3) = NULL, -- UTC; NULL: until it is released
    @reason NVARCHAR(1001) = NULL, -- at most 1,000 characters; everybody sees it who waits
    @by NVARCHAR(129) = NULL,
    @hold_id BIGINT = NULL OUTPUT
AS
-- Let nothing new start in a pool, in a category, of a job, or at all. What runs goes on; what waits keeps its place.
BEGIN
    SET NOCOUNT ON;
    SET ROWCOUNT 0;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    DECLARE @who NVARCHAR(128) = COALESCE(@by, ORIGINAL_LOGIN()), @sentence NVARCHAR(2000);
    DECLARE @detail NVARCHAR(MAX), @is_empty BIT = 0;
    -- A variable without a value must not hold everything, so NULL is not the default.
    IF @pool IS NULL OR @category IS NULL OR @job IS NULL
        SET @is_empty = 1;
    SELECT @pool = NULLIF(@pool, N'*'), @category = NULLIF(@category, N'*'), @job = NULLIF(@job, N'*');
    IF @is_empty = 1 AND COALESCE(@pool, @category, @job) IS NULL
        THROW 50007, N'@pool, @category or @job is NULL; leave out all three to hold everything.', 1;
    EXEC jobfac.check_reason @reason = @reason;
    EXEC jobfac.check_by @by = @by;
    EXEC jobfac.check_hold @pool = @pool, @category = @category, @job = @job, @until = @until, @reason = @reason;
    -- As they are written there: the collation may take more names for the same than the programs do. The COALESCE is for
    -- one that has just been deleted: without its name the hold would be one of everything.
    SELECT
        @pool = COALESCE((SELECT MIN(q.pool) FROM jobfac.queue AS q WHERE q.pool = @pool), @pool),
        @category = COALESCE((SELECT MIN(j.category) FROM jobfac.job AS j WHERE j.category = @category), @category),
        @job = COALESCE((SELECT MIN(j.id) FROM jobfac.job AS j WHERE j.id = @job), @job);
    -- The programs cannot show the last day in every time zone.
    IF @until > '9999-12-30'
        SET @until = '9999-12-30';
    SET @reason = LTRIM(RTRIM(@reason));
    DECLARE @outer INT = @@TRANCOUNT;
    IF @outer = 0
    BEGIN
        SET XACT_ABORT ON;
        BEGIN TRANSACTION;
    END
    ELSE
        SAVE TRANSACTION jobfac_hold;
    BEGIN TRY
        INSERT INTO jobfac.start_hold (pool, category, job, reason, until, created_at, created_by)
        VALUES (@pool, @category, @job, @reason, @until, SYSUTCDATETIME(), @who);
        SET @hold_id = CAST(SCOPE_IDENTITY() AS BIGINT);
        SET @sentence = CONCAT(
            COALESCE(N'pool ' + @pool, N'category ' + @category, N'job ' + @job, N'everything'), N': ', @reason
        );
        INSERT INTO jobfac.audit (at, [by], action, subject, [after])
        VALUES (
            SYSUTCDATETIME(), @who, 'hold', CONCAT(N'hold ', @hold_id),
            CONCAT(@sentence, N', until ' + LEFT(CONVERT(NVARCHAR(30), @until, 126), 19) + N'+00:00')
        );
        SET @detail = CONCAT(N'hold ', @hold_id, N' of ', @sentence);
        EXEC jobfac.cut_text @text = @detail OUTPUT, @most = 1000;
        -- Who is told of `held` is looked up when it is delivered; what names the event nowhere is left out here.
        INSERT INTO jobfac.news (attempt, job, event, detail, created_at)
        SELECT 0, j.id, 'held', @detail, SYSUTCDATETIME()
        FROM jobfac.job AS j
        JOIN jobfac.job_version AS v ON v.job = j.id AND v.version = j.version
        LEFT JOIN jobfac.queue AS q ON q.name = j.queue
        LEFT JOIN jobfac.category AS c ON c.name = j.category
        WHERE (@pool IS NULL OR q.pool = @pool)
            AND (@category IS NULL OR j.category = @category)
            AND (@job IS NULL OR j.id = @job)
            AND (CHARINDEX(N'"held"', v.definition) > 0 OR CHARINDEX(N'"held"', c.definition) > 0);
        IF @outer = 0
            COMMIT TRANSACTION;
    END TRY
    BEGIN CATCH
        IF @outer = 0 AND XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        IF @outer > 0 AND XACT_STATE() = 1
            ROLLBACK TRANSACTION jobfac_hold;
        THROW;
    END CATCH;
END;
GO

CREATE OR ALTER PROCEDURE jobfac.release
    @hold BIGINT, -- its id in jobfac.v_holds
    @by NVARCHAR(129) = NULL
AS
-- End a hold. A scheduler queues again what it held.
BEGIN
    SET NOCOUNT ON;
    SET ROWCOUNT 0;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    DECLARE @who NVARCHAR(128) = COALESCE(@by, ORIGINAL_LOGIN()), @sentence NVARCHAR(2000);
    EXEC jobfac.check_by @by = @by;
    IF NOT EXISTS (SELECT 1 FROM jobfac.start_hold AS h WHERE h.id = @hold)
    BEGIN
        SET @sentence = CONCAT(N'There is no hold ', @hold, N'; jobfac.v_holds shows what there is.');
        EXEC jobfac.refuse @number = 50008, @sentence = @sentence;
    END;
    DECLARE @outer INT = @@TRANCOUNT;
    IF @outer = 0
    BEGIN
        SET XACT_ABORT ON;
        BEGIN TRANSACTION;
    END
    ELSE
        SAVE TRANSACTION jobfac_release;
    BEGIN TRY
        UPDATE jobfac.start_hold
        SET released_at = SYSUTCDATETIME(), released_by = @who
        WHERE id = @hold AND released_at IS NULL AND (until IS NULL OR until > SYSUTCDATETIME());
        IF @@ROWCOUNT > 0
        BEGIN
            INSERT INTO jobfac.audit (at, [by], action, subject)
            VALUES (SYSUTCDATETIME(), @who, 'release', CONCAT(N'hold ', @hold));
            -- Schedules that the hold put off: schedulers look at them at once.
            UPDATE jobfac.schedule
            SET fire_at = next_due_at
            WHERE next_due_at <= resumed_at AND fire_at > SYSUTCDATETIME();
        END;
        IF @outer = 0
            COMMIT TRANSACTION;
    END TRY
    BEGIN CATCH
        IF @outer = 0 AND XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        IF @outer > 0 AND XACT_STATE() = 1
            ROLLBACK TRANSACTION jobfac_release;
        THROW;
    END CATCH;
END;
GO

CREATE OR ALTER PROCEDURE jobfac.add_note
    @run BIGINT,
    @text NVARCHAR(MAX) = NULL, -- NULL: only acknowledge
    @acknowledge BIT = 0, -- 1: acknowledge the run's failure, too
    @by NVARCHAR(129) = NULL,
    @note_id BIGINT = NULL OUTPUT
AS
-- Write a note about a run, and acknowledge its failure.
BEGIN
    SET NOCOUNT ON;
    SET ROWCOUNT 0;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    DECLARE @who NVARCHAR(128) = COALESCE(@by, ORIGINAL_LOGIN()), @sentence NVARCHAR(2000);
    EXEC jobfac.check_text @text = @text;
    EXEC jobfac.check_by @by = @by;
    DECLARE @ended DATETIME2(3);
    SELECT @ended = r.ended_at FROM jobfac.run AS r WHERE r.id = @run;
    IF @@ROWCOUNT = 0
    BEGIN
        SET @sentence = CONCAT(N'There is no run ', @run, N'; jobfac.v_runs shows what there is.');
        EXEC jobfac.refuse @number = 50003, @sentence = @sentence;
    END;
    IF (@acknowledge IS NULL OR @acknowledge = 0) AND COALESCE(LTRIM(RTRIM(@text)), N'') = N''
        THROW 50007, N'@text must not be empty: write what you found, or give @acknowledge = 1.', 1;
    IF DATALENGTH(@text) > 8000
        THROW 50007, N'@text has more than 4,000 characters; write less.', 1;
    IF @acknowledge = 1 AND NOT EXISTS (
        SELECT 1 FROM jobfac.run AS r
        WHERE r.id = @run AND r.state IN ('failed', 'lost', 'start_failed', 'timed_out')
    )
    BEGIN
        SET @sentence = CONCAT(
            N'Run ', @run, N' has not failed, so there is nothing to acknowledge; give @acknowledge = 0.'
        );
        EXEC jobfac.refuse @number = 50002, @sentence = @sentence;
    END;
    DECLARE @outer INT = @@TRANCOUNT;
    IF @outer = 0
    BEGIN
        SET XACT_ABORT ON;
        BEGIN TRANSACTION;
    END
    ELSE
        SAVE TRANSACTION jobfac_note;
    BEGIN TRY
        -- A purge may just be removing a finished run. It would leave the note behind.
        IF @ended IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM jobfac.run AS r WITH (ROWLOCK, UPDLOCK, FORCESEEK) WHERE r.id = @run)
        BEGIN
            SET @sentence = CONCAT(N'There is no run ', @run, N'; jobfac.v_runs shows what there is.');
            EXEC jobfac.refuse @number = 50003, @sentence = @sentence;
        END;
        IF @acknowledge = 1
        BEGIN
            UPDATE jobfac.run
            SET acknowledged_at = SYSUTCDATETIME(), acknowledged_by = @who
            WHERE id = @run AND acknowledged_at IS NULL;
            IF @@ROWCOUNT > 0
            BEGIN
                INSERT INTO jobfac.run_event (run_id, attempt, at, event, [by])
                SELECT r.id, r.attempt, SYSUTCDATETIME(), 'acknowledged', @who FROM jobfac.run AS r WHERE r.id = @run;
                INSERT INTO jobfac.audit (at, [by], action, subject)
                VALUES (SYSUTCDATETIME(), @who, 'acknowledge', CONCAT(N'run ', @run));
            END;
        END;
        IF COALESCE(LTRIM(RTRIM(@text)), N'') <> N''
        BEGIN
            INSERT INTO jobfac.note (run_id, at, [by], [text])
            VALUES (@run, SYSUTCDATETIME(), @who, @text);
            SET @note_id = CAST(SCOPE_IDENTITY() AS BIGINT);
            INSERT INTO jobfac.audit (at, [by], action, subject, [after])
            VALUES (SYSUTCDATETIME(), @who, 'note', CONCAT(N'run ', @run), @text);
        END;
        IF @outer = 0
            COMMIT TRANSACTION;
    END TRY
    BEGIN CATCH
        IF @outer = 0 AND XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        IF @outer > 0 AND XACT_STATE() = 1
            ROLLBACK TRANSACTION jobfac_note;
        THROW;
    END CATCH;
END;
GO

CREATE OR ALTER PROCEDURE jobfac.approve
    @run BIGINT, -- a run of a sequence
    @step NVARCHAR(128), -- its step that waits for a person
    @reject BIT = 0, -- 1: reject it, and the step fails
    @reason NVARCHAR(1001) = NULL, -- at most 1,000 characters
    @by NVARCHAR(129) = NULL,
    @parameters NVARCHAR(MAX) = NULL -- a JSON object: values for which the step asks, by name
AS
-- Decide about a step that waits for a person. The next sweep of a worker or scheduler lets the sequence go on.
BEGIN
    SET NOCOUNT ON;
    SET ROWCOUNT 0;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    DECLARE @who NVARCHAR(128) = COALESCE(@by, ORIGINAL_LOGIN());
    DECLARE @state VARCHAR(16), @attempt INT, @starter NVARCHAR(128), @definition NVARCHAR(MAX), @wanted NVARCHAR(MAX);
    DECLARE @visit BIGINT, @before VARCHAR(16), @sentence NVARCHAR(2000), @around BIGINT = @run, @above BIGINT;
    DECLARE @decision VARCHAR(16) = CASE WHEN @reject = 1 THEN 'rejected' ELSE 'approved' END;
    DECLARE @detail NVARCHAR(MAX), @name NVARCHAR(128);
    EXEC jobfac.check_text @text = @parameters;
    EXEC jobfac.check_reason @reason = @reason;
    EXEC jobfac.check_by @by = @by;
    IF @reject IS NULL
        THROW 50007, N'@reject must be 0, to approve the step, or 1, to reject it.', 1;
    DECLARE @outer INT = @@TRANCOUNT;
    IF @outer = 0
    BEGIN
        SET XACT_ABORT ON;
        BEGIN TRANSACTION;
    END
    ELSE
        SAVE TRANSACTION jobfac_approve;
    BEGIN TRY
        SELECT
            @state = r.state,
            @attempt = r.attempt,
            @definition = v.definition
        FROM jobfac.run AS r
        JOIN jobfac.job_version AS v ON v.job = r.job AND v.version = r.job_version
        WHERE r.id = @run;
        IF @state IS NULL
        BEGIN
            SET @sentence = CONCAT(N'There is no run ', @run, N'; jobfac.v_runs shows what there is.');
            EXEC jobfac.refuse @number = 50003, @sentence = @sentence;
        END;
        SELECT TOP (1) @visit = v.id, @before = v.decision, @name = v.step
        FROM jobfac.visit AS v
        WHERE v.run_id = @run AND v.step = @step AND v.waits_for = 'approval'
        ORDER BY v.id DESC;
        IF @visit IS NULL OR @before IS NOT NULL OR @state <> 'running'
        BEGIN
            SET @sentence = CONCAT(
                N'Step ''', @step, N''' of run ', @run, N' does not wait for an approval; jobfac.v_steps shows its steps.'
            );
            EXEC jobfac.refuse @number = 50009, @sentence = @sentence;
        END;
        -- A sequence inside another one is started by that: who started the outer one has started it, too.
        WHILE @around IS NOT NULL
        BEGIN
            SET @above = NULL;
            SELECT
                @above = r.sequence_run_id,
                @starter = CASE
                    WHEN LOWER(r.created_by) IN (LOWER(@who), LOWER(ORIGINAL_LOGIN())) THEN r.created_by
                    -- With another @by the same login could approve its own start.
                    WHEN EXISTS (
                        SELECT 1 FROM jobfac.run_event AS e
                        WHERE e.run_id = r.id AND e.attempt = 0 AND e.detail = CONCAT(N'login ', ORIGINAL_LOGIN())
                    ) THEN ORIGINAL_LOGIN()
                    ELSE @starter
                END
            FROM jobfac.run AS r
            WHERE r.id = @around;
            SET @around = @above;
        END;
        SELECT @wanted = JSON_QUERY(s.[value], '$.approve')
        FROM OPENJSON(@definition, '$.steps') AS s
        WHERE JSON_VALUE(s.[value], '$.name') = @name;
        -- Without it nobody knows who may approve.
        IF @wanted IS NULL
        BEGIN
            SET @sentence = CONCAT(N'Step ''', @step, N''' of run ', @run, N' has no approval in its definition.');
            EXEC jobfac.refuse @number = 50009, @sentence = @sentence;
        END;
        SET @sentence = CASE
            WHEN JSON_VALUE(@wanted, '$.not_by_starter') = 'true' AND @starter IS NOT NULL
                THEN CONCAT(N'Step ''', @step, N''' must be approved by somebody other than ', @starter, N'.')
            WHEN JSON_VALUE(@wanted, '$.by') = 'admin' AND COALESCE(IS_ROLEMEMBER(N'db_owner'), 0) = 0
                THEN CONCAT(N'Step ''', @step, N''' must be approved by an admin, a member of db_owner.')
        END;
        IF @sentence IS NOT NULL
            EXEC jobfac.refuse @number = 50010, @sentence = @sentence;
        IF @reject = 1 AND @parameters IS NOT NULL
            THROW 50007, N'A rejection takes no @parameters; leave them out.', 1;
        DECLARE @subject NVARCHAR(200) = CONCAT(N'Step ''', @step, N'''');
        IF @decision = 'approved'
            EXEC jobfac.check_parameters @subject = @subject, @definition = @wanted, @parameters = @parameters;
        UPDATE jobfac.visit
        SET decision = @decision, decided_by = @who, reason = @reason, parameters = @parameters
        WHERE id = @visit AND decision IS NULL AND result IS NULL;
        IF @@ROWCOUNT = 0
            THROW 50009, N'The step was decided at this moment; jobfac.v_steps shows how.', 1;
        SET @detail = CONCAT(N'step ''', @step, N'''', N': ' + @reason, N': ' + @parameters);
        EXEC jobfac.cut_text @text = @detail OUTPUT, @most = 1000;
        INSERT INTO jobfac.run_event (run_id, attempt, at, event, [by], detail)
        VALUES (@run, @attempt, SYSUTCDATETIME(), @decision, @who, @detail);
        SET @detail = COALESCE(@reason + N': ' + @parameters, @reason, @parameters);
        EXEC jobfac.cut_text @text = @detail OUTPUT, @most = 2000;
        INSERT INTO jobfac.audit (at, [by], action, subject, [after])
        VALUES (
            SYSUTCDATETIME(), @who, @decision, LEFT(CONCAT(N'run ', @run, N', step ', @step), 200), @detail
        );
        IF @outer = 0
            COMMIT TRANSACTION;
    END TRY
    BEGIN CATCH
        IF @outer = 0 AND XACT_STATE() <> 0
            ROLLBACK TRANSACTION;
        IF @outer > 0 AND XACT_STATE() = 1
            ROLLBACK TRANSACTION jobfac_approve;
        THROW;
    END CATCH;
END;
GO

-- Three roles with minimal permissions. To add a user: ALTER ROLE jobfac_reader ADD MEMBER [SHOP\reporting].
-- This file can be run again at any time; existing permissions stay.

IF DATABASE_PRINCIPAL_ID(N'jobfac_worker') IS NULL
    CREATE ROLE jobfac_worker;
IF DATABASE_PRINCIPAL_ID(N'jobfac_operator') IS NULL
    CREATE ROLE jobfac_operator;
IF DATABASE_PRINCIPAL_ID(N'jobfac_reader') IS NULL
    CREATE ROLE jobfac_reader;
GO

-- For jobfac's own processes: worker, scheduler, API and command line. They change rows, but not the schema. The tables
-- are listed one by one, because a DENY on alembic_version would also apply to a db_owner who is a member of the role.
REVOKE SELECT, INSERT, UPDATE, DELETE ON SCHEMA::jobfac FROM jobfac_worker;
REVOKE INSERT, UPDATE, DELETE ON jobfac.alembic_version FROM jobfac_worker;
GRANT SELECT ON jobfac.alembic_version TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.api_key TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.arrived_file TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.attempt TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.audit TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.category TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.daily TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.daily_worker TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.expectation TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.job TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.job_version TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.news TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.note TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.notification TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.queue TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.run TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.run_event TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.run_output TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.schedule TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.scheduler TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.session_end TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.session_key TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.start_hold TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.start_url TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.upstream TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.upstream_end TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.visit TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.worker TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.worker_lease TO jobfac_worker;
GO

-- For operators who start and stop runs. They may execute the procedures, but not change the tables.
GRANT EXECUTE ON jobfac.start_job TO jobfac_operator;
GRANT EXECUTE ON jobfac.retry_run TO jobfac_operator;
GRANT EXECUTE ON jobfac.stop_run TO jobfac_operator;
GRANT EXECUTE ON jobfac.enable_job TO jobfac_operator;
GRANT EXECUTE ON jobfac.disable_job TO jobfac_operator;
GRANT EXECUTE ON jobfac.pause_schedule TO jobfac_operator;
GRANT EXECUTE ON jobfac.resume_schedule TO jobfac_operator;
GRANT EXECUTE ON jobfac.drain_worker TO jobfac_operator;
GRANT EXECUTE ON jobfac.hold TO jobfac_operator;
GRANT EXECUTE ON jobfac.release TO jobfac_operator;
GRANT EXECUTE ON jobfac.add_note TO jobfac_operator;
GRANT EXECUTE ON jobfac.approve TO jobfac_operator;
GO

-- For readers. They can read payloads, arguments and output, too.
GRANT SELECT ON jobfac.v_runs TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_queue TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_fleet TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_job_statistics TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_schedule TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_sequence_runs TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_failures TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_daily_statistics TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_daily_workers TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_events TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_output TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_steps TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_health TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_holds TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_notes TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_overdue TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_jobs TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_audit TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_notifications TO jobfac_operator, jobfac_reader, jobfac_worker;
GO

-- Maintenance for the owner of the database. No role has permission to it.
-- This file can be run again at any time; it replaces the existing objects.

SET QUOTED_IDENTIFIER ON;
SET ANSI_NULLS ON;
GO

CREATE OR ALTER PROCEDURE jobfac.purge
    @older_than_days INT = 90,
    @job NVARCHAR(128) = N'*', -- *: all jobs whose definition has no retention
    @batch INT = 500,
    @seconds INT = 300, -- no batch begins later than this
    @deleted BIGINT = NULL OUTPUT
AS
-- Delete finished runs with their attempts, events, visited steps and output. Call it outside of a transaction: every
-- batch is its own transaction, with so few rows that no claim waits for it. A run is deleted only after a scheduler
-- has counted it for v_daily_statistics, about a minute after its end.
BEGIN
    SET NOCOUNT ON;
    SET ROWCOUNT 0;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    SET IMPLICIT_TRANSACTIONS OFF;
    IF @@TRANCOUNT > 0
        THROW 50007, N'jobfac.purge must be called outside of a transaction: each of its batches commits.', 1;
    IF @older_than_days IS NULL OR @older_than_days < 0
        THROW 50007, N'@older_than_days must be 0 or more: a negative number would delete all finished runs.', 1;
    IF @job IS NULL
        THROW 50007, N'@job is NULL; leave it out for all jobs whose definition has no retention.', 1;
    IF @seconds IS NULL OR @seconds < 0
        THROW 50007, N'@seconds must be 0 or more.', 1;
    IF @batch IS NULL OR @batch NOT BETWEEN 1 AND 1000
        THROW 50007, N'@batch must be from 1 to 1000: with more rows SQL Server may lock more than the rows.', 1;
    SET @job = NULLIF(@job, N'*');
    SET XACT_ABORT ON; -- not earlier: a refusal would roll back the caller's changes
    DECLARE @until DATETIME2(3) = DATEADD(SECOND, @seconds, SYSUTCDATETIME());
    DECLARE @before DATETIME2(3) = DATEADD(DAY, -@older_than_days, SYSUTCDATETIME());
    DECLARE @kept TABLE (job NVARCHAR(128) NOT NULL PRIMARY KEY);
    DECLARE @looked TABLE (id BIGINT NOT NULL PRIMARY KEY, ended_at DATETIME2(3) NOT NULL, doomed BIT NOT NULL);
    DECLARE @continued TABLE (id BIGINT NOT NULL PRIMARY KEY);
    DECLARE @around TABLE (id BIGINT NOT NULL PRIMARY KEY);
    DECLARE @ended DATETIME2(3) = '0001-01-01', @id BIGINT = 0, @found INT = 1, @pieces INT;
    DECLARE @first BIGINT;
    SET @deleted = 0;
    INSERT INTO @kept (job)
    SELECT v.job -- also of jobs that are gone
    FROM jobfac.job_version AS v
    WHERE v.version = (SELECT MAX(l.version) FROM jobfac.job_version AS l WHERE l.job = v.job)
        AND (
            JSON_VALUE(v.definition, '$.retention') IS NOT NULL OR JSON_QUERY(v.definition, '$.retention') IS NOT NULL
        );
    WHILE @found > 0 AND SYSUTCDATETIME() < @until
    BEGIN
        -- Scan the index on ended_at once: each batch continues where the last one ended, so kept runs are read only
        -- once.
        DELETE FROM @looked;
        -- The runs that unfinished sequences continue: their next steps may refer to outputs of those.
        DELETE FROM @continued;
        INSERT INTO @continued (id)
        SELECT DISTINCT c.retry_of
        FROM jobfac.run AS c WITH (NOLOCK)
        WHERE c.state IN ('blocked', 'queued', 'running', 'scheduled', 'stopping')
            AND c.kind = 'sequence' AND c.retry_of IS NOT NULL;
        WHILE @@ROWCOUNT > 0
            INSERT INTO @continued (id)
            SELECT DISTINCT c.retry_of
            FROM @continued AS n
            JOIN jobfac.run AS c WITH (NOLOCK) ON c.id = n.id
            WHERE c.retry_of IS NOT NULL AND NOT EXISTS (SELECT 1 FROM @continued AS k WHERE k.id = c.retry_of);
        -- The subscribers of an event that is not addressed yet stand in the row of its run and in those of the
        -- sequences around it, which began earlier.
        DELETE FROM @around;
        INSERT INTO @around (id)
        SELECT DISTINCT e.run_id
        FROM jobfac.news AS e WITH (NOLOCK)
        WHERE e.run_id IS NOT NULL;
        WHILE @@ROWCOUNT > 0
            INSERT INTO @around (id)
            SELECT DISTINCT c.sequence_run_id
            FROM @around AS n
            JOIN jobfac.run AS c WITH (NOLOCK) ON c.id = n.id
            WHERE c.sequence_run_id IS NOT NULL
                AND NOT EXISTS (SELECT 1 FROM @around AS k WHERE k.id = c.sequence_run_id);
        SELECT @first = MIN(n.id) FROM @around AS n;
        INSERT INTO @looked (id, ended_at, doomed)
        SELECT TOP (@batch)
            r.id,
            r.ended_at,
            CASE
                WHEN r.counted = 0 THEN 0
                WHEN r.job <> COALESCE(@job, r.job) THEN 0
                -- Its row is what remembers that the key was used.
                WHEN r.start_key IS NOT NULL AND r.ended_at >= DATEADD(DAY, -1, SYSUTCDATETIME()) THEN 0
                WHEN @job IS NULL AND EXISTS (SELECT 1 FROM @kept AS k WHERE k.job = r.job) THEN 0
                -- The last success of a job, and its last failure until a success follows, on each worker that is there
                -- or may come back: what expect and ${previous.success} look at, and what a recovery follows.
                WHEN r.state IN ('succeeded', 'failed', 'timed_out', 'start_failed', 'lost')
                    AND EXISTS (SELECT 1 FROM jobfac.job AS j WHERE j.id = r.job)
                    AND NOT EXISTS (
                        SELECT 1 FROM jobfac.run AS l
                        WHERE l.job = r.job AND l.id > r.id
                            AND (
                                l.state = 'succeeded'
                                OR (r.state <> 'succeeded' AND l.state IN ('failed', 'timed_out', 'start_failed', 'lost'))
                            )
                            -- They pass over a later sequence that has skipped all of its steps.
                            AND (
                                l.state <> 'succeeded'
                                OR l.kind <> 'sequence'
                                OR EXISTS (SELECT 1 FROM jobfac.visit AS v WHERE v.run_id = l.id AND v.start <> 'skipped')
                                OR (
                                    r.kind = 'sequence' AND NOT EXISTS (
                                        SELECT 1 FROM jobfac.visit AS v WHERE v.run_id = r.id AND v.start <> 'skipped'
                                    )
                                )
                            )
                            AND (
                                r.for_worker IS NULL OR l.for_worker = r.for_worker
                                OR NOT EXISTS (
                                    SELECT 1 FROM jobfac.worker AS w WITH (NOLOCK)
                                    WHERE w.name = r.for_worker
                                        AND (
                                            w.state IN ('active', 'draining')
                                            OR w.ended_at >= DATEADD(DAY, -7, SYSUTCDATETIME())
                                        )
                                )
                            )
                    ) THEN 0
                WHEN r.id >= @first THEN 0
                WHEN EXISTS (SELECT 1 FROM @continued AS c WHERE c.id = r.id OR c.id = r.sequence_run_id) THEN 0
                -- While a run is there, its retry shows that it was retried.
                WHEN EXISTS (SELECT 1 FROM jobfac.run AS f WITH (NOLOCK) WHERE f.id = r.retry_of) THEN 0
                -- An unfinished sequence needs the outcomes of all its runs.
                WHEN EXISTS (SELECT 1 FROM jobfac.run AS p WHERE p.id = r.sequence_run_id AND p.ended_at IS NULL) THEN 0
                ELSE 1
            END
        FROM jobfac.run AS r
        WHERE r.ended_at IS NOT NULL AND r.ended_at < @before AND r.ended_at >= @ended
            AND (r.ended_at > @ended OR r.id > @id) -- alone it would not allow an index seek
        ORDER BY r.ended_at, r.id;
        SET @found = @@ROWCOUNT;
        IF @found > 0
        BEGIN
            SELECT TOP (1) @ended = l.ended_at, @id = l.id FROM @looked AS l ORDER BY l.ended_at DESC, l.id DESC;
            DELETE FROM @looked WHERE doomed = 0;
            -- Output, events and visits first and in batches: one run may have many. Events go before visits: a sequence
            -- without events is not continued, because its visits may be incomplete.
            SET @pieces = 1;
            WHILE @pieces > 0
            BEGIN
                DELETE TOP (@batch) FROM jobfac.run_output WHERE run_id IN (SELECT l.id FROM @looked AS l);
                SET @pieces = @@ROWCOUNT;
            END;
            SET @pieces = 1;
            WHILE @pieces > 0
            BEGIN
                DELETE TOP (@batch) FROM jobfac.run_event WHERE run_id IN (SELECT l.id FROM @looked AS l);
                SET @pieces = @@ROWCOUNT;
            END;
            SET @pieces = 1;
            WHILE @pieces > 0
            BEGIN
                DELETE TOP (@batch) FROM jobfac.visit WHERE run_id IN (SELECT l.id FROM @looked AS l);
                SET @pieces = @@ROWCOUNT;
            END;
            BEGIN TRANSACTION;
            DELETE FROM jobfac.attempt WHERE run_id IN (SELECT l.id FROM @looked AS l);
            DELETE FROM jobfac.note WHERE run_id IN (SELECT l.id FROM @looked AS l);
            DELETE FROM jobfac.run WHERE id IN (SELECT l.id FROM @looked AS l);
            SET @deleted = @deleted + @@ROWCOUNT;
            COMMIT TRANSACTION;
        END;
    END;
    INSERT INTO jobfac.audit (at, [by], action, subject, [after])
    VALUES (
        SYSUTCDATETIME(), ORIGINAL_LOGIN(), 'purge', CONCAT(@deleted, N' runs'),
        CONCAT(N'older than ', @older_than_days, N' days', N' of job ' + @job)
    );
END;
GO

CREATE OR ALTER PROCEDURE jobfac.blocking
AS
-- Show blocked sessions in this database, such as a waiting claim or start, with the session at the head of the
-- blocking chain. Needs VIEW SERVER STATE (from 2022 on VIEW SERVER PERFORMANCE STATE; Azure SQL Database: VIEW
-- DATABASE STATE).
BEGIN
    SET NOCOUNT ON;
    SET ROWCOUNT 0;
    SELECT
        q.session_id,
        q.blocking_session_id,
        q.wait_type,
        q.wait_time / 1000.0 AS wait_seconds,
        q.wait_resource,
        q.command,
        s.program_name,
        s.host_name,
        s.login_name,
        b.program_name AS blocking_program,
        b.login_name AS blocking_login,
        b.open_transaction_count AS blocking_transactions,
        b.last_request_start_time AS blocking_since,
        SUBSTRING(t.text, q.statement_start_offset / 2 + 1, 200) AS statement
    FROM sys.dm_exec_requests AS q
    JOIN sys.dm_exec_sessions AS s ON s.session_id = q.session_id
    LEFT JOIN sys.dm_exec_sessions AS b ON b.session_id = q.blocking_session_id
    OUTER APPLY sys.dm_exec_sql_text(q.sql_handle) AS t
    WHERE q.database_id = DB_ID() AND q.blocking_session_id <> 0
    ORDER BY q.wait_time DESC;
END;
GO

CREATE OR ALTER PROCEDURE jobfac.index_advice
AS
-- Show size, use and state of every index of jobfac, with a recommendation. Needs VIEW SERVER STATE (from 2022 on VIEW
-- SERVER PERFORMANCE STATE; Azure SQL Database: VIEW DATABASE STATE). The rows of the small filtered indexes (queued
-- and running runs) change all the time: their fragmentation does not matter, but their ghost records do.
BEGIN
    SET NOCOUNT ON;
    SET ROWCOUNT 0;
    SELECT
        t.name AS [table],
        i.name AS [index],
        p.record_count AS row_count,
        p.ghost_record_count AS dead_rows,
        p.page_count * 8 / 1024.0 AS megabytes,
        p.avg_fragmentation_in_percent AS fragmentation_percent,
        u.user_seeks + u.user_scans + u.user_lookups AS reads,
        u.user_updates AS writes,
        CASE
            WHEN p.ghost_record_count > 1000 AND p.ghost_record_count > p.record_count
                THEN N'Dead rows are not removed: look for a long transaction or a lagging readable replica.'
            WHEN p.page_count > 1000 AND p.avg_fragmentation_in_percent > 30 AND i.has_filter = 0
                THEN CONCAT(
                    N'ALTER INDEX ', i.name, N' ON jobfac.', t.name,
                    -- An index without page locks, which READPAST needs on jobfac.run, cannot be reorganized (error
                    -- 2552).
                    CASE
                        WHEN i.allow_page_locks = 1 THEN N' REORGANIZE;'
                        ELSE N' REBUILD; -- in a quiet hour: it locks the table, unless WITH (ONLINE = ON)'
                    END
                )
            ELSE N''
        END AS advice
    FROM sys.tables AS t
    JOIN sys.indexes AS i ON i.object_id = t.object_id
    CROSS APPLY sys.dm_db_index_physical_stats(DB_ID(), t.object_id, i.index_id, NULL, 'SAMPLED') AS p
    LEFT JOIN sys.dm_db_index_usage_stats AS u
        ON u.database_id = DB_ID() AND u.object_id = i.object_id AND u.index_id = i.index_id
    WHERE t.schema_id = SCHEMA_ID(N'jobfac') AND p.index_level = 0 AND p.alloc_unit_type_desc = 'IN_ROW_DATA'
    ORDER BY p.page_count DESC;
END;
GO

-- The version of the views and procedures above. It is the last one: if one of them fails, the former version stays.
CREATE OR ALTER VIEW jobfac.v_version AS
-- The version of jobfac that made the views and procedures. `jobfac db check` compares the digest of their texts.
SELECT '0.1.0' AS version, '99ee19307e3c38ce' AS digest;
GO

GRANT SELECT ON jobfac.v_version TO jobfac_operator, jobfac_reader, jobfac_worker;
GO

SET NOEXEC OFF;
GO
