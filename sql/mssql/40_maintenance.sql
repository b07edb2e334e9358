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
