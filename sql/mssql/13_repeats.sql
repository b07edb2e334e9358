-- A start with a key that was used before must be the same start: a step of start_job. Nobody needs a right to it.
-- Run this file again at any time: it replaces what is there.

-- Filtered indexes need both in every session that writes, and a procedure keeps what held when it was created.
SET QUOTED_IDENTIFIER ON;
SET ANSI_NULLS ON;
GO

CREATE OR ALTER PROCEDURE jobfac.check_repeat
    @run BIGINT, -- the run that the key gave
    @key NVARCHAR(200),
    @arguments NVARCHAR(MAX),
    @payload NVARCHAR(MAX),
    @priority INT,
    @delay_seconds INT
AS
-- Refuse a start that differs in arguments, payload, priority or time from the run that its key gave.
BEGIN
    SET NOCOUNT ON;
    DECLARE @kind VARCHAR(16), @was_arguments NVARCHAR(MAX), @was_payload NVARCHAR(MAX), @overrides NVARCHAR(MAX);
    DECLARE @was_priority INT, @attempt INT, @created_at DATETIME2(3), @ready_at DATETIME2(3);
    DECLARE @differs NVARCHAR(100), @sentence NVARCHAR(2000), @delay INT = COALESCE(@delay_seconds, 0);
    SELECT
        @kind = r.kind,
        @was_arguments = r.arguments,
        @was_payload = r.payload,
        @overrides = r.overrides,
        @was_priority = r.priority,
        @attempt = r.attempt,
        @created_at = r.created_at,
        @ready_at = r.ready_at
    FROM jobfac.run AS r
    WHERE r.id = @run;
    IF @kind = 'sequence'
        SELECT
            @was_arguments = JSON_QUERY(@overrides, '$.arguments'),
            @was_payload = JSON_QUERY(@overrides, '$.payloads'),
            @arguments = COALESCE(@arguments, CASE WHEN @overrides IS NOT NULL THEN N'{}' END),
            @payload = COALESCE(@payload, CASE WHEN @overrides IS NOT NULL THEN N'{}' END);
    IF ISJSON(@arguments) = 0 OR (@kind = 'sequence' AND ISJSON(@payload) = 0)
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
    IF @differs IS NOT NULL
    BEGIN
        SET @sentence = CONCAT(
            N'The key ''', @key, N''' was used for run ', @run, N', which differs in ', @differs,
            N'; give each start a key of its own.'
        );
        THROW 50007, @sentence, 1;
    END;
END;
GO
