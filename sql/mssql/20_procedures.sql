-- What an operator may do. Each procedure joins the caller's transaction, or has one of its own, and a refusal (THROW)
-- leaves the caller's transaction as it was.
--
-- Errors: 50001 there is no such job; 50002 the job does not allow it; 50003 there is no such run; 50004 the run has
-- not ended; 50005 there is no such schedule; 50006 there is no such worker alive; 50007 an argument cannot be used;
-- 51222 a lock could not be had in time (try again).
--
-- Run this file again at any time: it replaces what is there.

-- Filtered indexes need both in every session that writes, and a procedure keeps what held when it was created.
SET QUOTED_IDENTIFIER ON;
SET ANSI_NULLS ON;
GO

CREATE OR ALTER PROCEDURE jobfac.start_job
    @job NVARCHAR(128),
    @arguments NVARCHAR(MAX) = NULL, -- a JSON array of texts; for a sequence an object of such arrays by job
    @payload NVARCHAR(MAX) = NULL, -- any text; for a sequence a JSON object of texts by job
    @priority INT = NULL, -- NULL: as the definition says; higher comes first
    @delay_seconds INT = NULL,
    @key NVARCHAR(MAX) = NULL, -- at most 200 characters; the same key of the same job gives the same run every time
    @by NVARCHAR(128) = NULL, -- NULL: the login
    @run_id BIGINT = NULL OUTPUT
AS
-- Start a job. Look at the run's state: the already-running policy may have made it `denied` or `blocked`.
BEGIN
    SET NOCOUNT ON;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    DECLARE @who NVARCHAR(128) = COALESCE(@by, ORIGINAL_LOGIN());
    -- A parameter of 200 would cut longer keys silently, and two that differ behind that would give one run.
    IF DATALENGTH(@key) > 400
        THROW 50007, N'@key has more than 200 characters; give a shorter one.', 1;
    DECLARE @start_key NVARCHAR(200) = @key;
    DECLARE @outer INT = @@TRANCOUNT;
    IF @outer = 0
        BEGIN TRANSACTION;
    ELSE
        SAVE TRANSACTION jobfac_start;
    BEGIN TRY
        SET @run_id = NULL;
        IF @start_key IS NOT NULL
            SELECT @run_id = r.id
            FROM jobfac.run AS r
            WHERE r.job = @job AND r.start_key = @start_key;
        IF @run_id IS NULL -- insert_run looks again, when it holds the lock of the key
            EXEC jobfac.insert_run
                @job = @job,
                @manual = 1,
                @arguments = @arguments,
                @payload = @payload,
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
                @delay_seconds = @delay_seconds;
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
    @by NVARCHAR(128) = NULL,
    @run_id BIGINT = NULL OUTPUT
AS
-- Run a finished run again, with the same arguments and payload and the job's present definition: a new run.
BEGIN
    SET NOCOUNT ON;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    DECLARE @who NVARCHAR(128) = COALESCE(@by, ORIGINAL_LOGIN());
    DECLARE @job NVARCHAR(128), @state VARCHAR(16), @priority INT, @sentence NVARCHAR(2000);
    DECLARE @arguments NVARCHAR(MAX), @payload NVARCHAR(MAX), @overrides NVARCHAR(MAX);
    DECLARE @outer INT = @@TRANCOUNT;
    IF @outer = 0
        BEGIN TRANSACTION;
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
            THROW 50003, @sentence, 1;
        END;
        IF @state IN ('scheduled', 'blocked', 'queued', 'running', 'stopping')
        BEGIN
            SET @sentence = CONCAT(N'Run ', @run, N' is still ', @state, N'; stop it first, or wait for its end.');
            THROW 50004, @sentence, 1;
        END;
        EXEC jobfac.insert_run
            @job = @job,
            @manual = 0,
            @arguments = @arguments,
            @payload = @payload,
            @overrides = @overrides,
            @priority = @priority,
            @retry_of = @run,
            @by = @who,
            @run_id = @run_id OUTPUT;
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
    @now BIT = 0, -- 1: without the grace that the job's definition gives
    @by NVARCHAR(128) = NULL
AS
-- Stop a run, and a sequence with all that it started. What waits ends here; what runs is stopped by its worker, within
-- a heartbeat and the job's grace. What this makes room for is let in by the next sweep of a worker or scheduler.
BEGIN
    SET NOCOUNT ON;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    DECLARE @who NVARCHAR(128) = COALESCE(@by, ORIGINAL_LOGIN());
    DECLARE @before VARCHAR(16), @after VARCHAR(16);
    DECLARE @outer INT = @@TRANCOUNT;
    IF @outer = 0
        BEGIN TRANSACTION;
    ELSE
        SAVE TRANSACTION jobfac_stop;
    BEGIN TRY
        EXEC jobfac.request_stop
            @run = @run, @now = @now, @by = @who, @before = @before OUTPUT, @after = @after OUTPUT;
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
    @by NVARCHAR(128) = NULL
AS
-- Allow starts of a job again.
BEGIN
    SET NOCOUNT ON;
    EXEC jobfac.set_enabled @job = @job, @enabled = 1, @by = @by;
END;
GO

CREATE OR ALTER PROCEDURE jobfac.disable_job
    @job NVARCHAR(128),
    @by NVARCHAR(128) = NULL
AS
-- Forbid starts of a job; what runs goes on.
BEGIN
    SET NOCOUNT ON;
    EXEC jobfac.set_enabled @job = @job, @enabled = 0, @by = @by;
END;
GO

CREATE OR ALTER PROCEDURE jobfac.pause_schedule
    @job NVARCHAR(128),
    @schedule NVARCHAR(128) = NULL, -- NULL: every schedule of the job
    @by NVARCHAR(128) = NULL
AS
-- Let a schedule start nothing until it is resumed.
BEGIN
    SET NOCOUNT ON;
    EXEC jobfac.set_paused @job = @job, @schedule = @schedule, @paused = 1, @by = @by;
END;
GO

CREATE OR ALTER PROCEDURE jobfac.resume_schedule
    @job NVARCHAR(128),
    @schedule NVARCHAR(128) = NULL,
    @by NVARCHAR(128) = NULL
AS
-- Let it start runs again. The times that passed meanwhile are missed: the schedule's `missed` says what becomes of
-- them.
BEGIN
    SET NOCOUNT ON;
    EXEC jobfac.set_paused @job = @job, @schedule = @schedule, @paused = 0, @by = @by;
END;
GO

CREATE OR ALTER PROCEDURE jobfac.drain_worker
    @worker BIGINT, -- its id in jobfac.v_fleet
    @by NVARCHAR(128) = NULL
AS
-- Ask a worker to take nothing more and to leave when its runs have ended.
BEGIN
    SET NOCOUNT ON;
    DECLARE @sentence NVARCHAR(2000), @who NVARCHAR(128) = COALESCE(@by, ORIGINAL_LOGIN());
    IF NOT EXISTS (SELECT 1 FROM jobfac.worker AS w WHERE w.id = @worker AND w.state IN ('active', 'draining'))
    BEGIN
        SET @sentence = CONCAT(N'There is no live worker ', @worker, N'; jobfac.v_fleet shows the fleet.');
        THROW 50006, @sentence, 1;
    END;
    SET XACT_ABORT ON;
    BEGIN TRANSACTION;
    UPDATE jobfac.worker SET state = 'draining' WHERE id = @worker AND state IN ('active', 'draining');
    INSERT INTO jobfac.audit (at, [by], action, subject)
    VALUES (SYSUTCDATETIME(), @who, 'drain', CONCAT(N'worker ', @worker));
    COMMIT TRANSACTION;
END;
GO
