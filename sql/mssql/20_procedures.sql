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
