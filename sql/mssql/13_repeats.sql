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
