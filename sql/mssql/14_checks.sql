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
