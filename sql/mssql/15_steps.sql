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
