"""Batches with control flow, and stored procedures, through both drivers."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from tests.tds_server.tests import queue_table
from tests.tds_server.tests.queue_table import run

START = """\
CREATE OR ALTER PROCEDURE jobfac.start
    @queue NVARCHAR(100), -- where it is to run
    @priority INT = 3,
    @id BIGINT = NULL OUTPUT
AS
BEGIN
    SET NOCOUNT ON;
    IF @queue = N''
    BEGIN
        DECLARE @sentence NVARCHAR(200) = CONCAT(N'The queue ', QUOTENAME(@queue), N' cannot be used.');
        THROW 50007, @sentence, 1;
    END;
    INSERT INTO jobfac.run (queue, priority) VALUES (@queue, @priority);
    SET @id = SCOPE_IDENTITY();
    RETURN 7;
END;
"""

SAFE = """\
CREATE OR ALTER PROCEDURE jobfac.safe @state NVARCHAR(20) AS
BEGIN
    SET NOCOUNT ON;
    DECLARE @outer INT = @@TRANCOUNT;
    IF @outer = 0 BEGIN TRANSACTION; ELSE SAVE TRANSACTION safe;
    BEGIN TRY
        INSERT INTO jobfac.run (queue) VALUES (N'first');
        INSERT INTO jobfac.run (queue, state) VALUES (N'second', @state);
        IF @outer = 0 COMMIT;
    END TRY
    BEGIN CATCH
        IF @outer = 0 AND XACT_STATE() <> 0 ROLLBACK;
        IF @outer > 0 AND XACT_STATE() = 1 ROLLBACK TRANSACTION safe;
        THROW;
    END CATCH;
END;
"""


@pytest.fixture
def queue(engine: sa.Engine) -> sa.Engine:
    """The empty tables of the queue, and the procedures."""
    queue_table.create(engine)
    with engine.begin() as conn:
        conn.exec_driver_sql(START)
        conn.exec_driver_sql(SAFE)
    return engine


def fetch(engine: sa.Engine, batch: str, **values: Any) -> list[tuple[Any, ...]]:
    with engine.begin() as conn:
        return [tuple(row) for row in conn.execute(sa.text(batch), values)]


def queues(engine: sa.Engine) -> list[str]:
    with engine.connect() as conn:
        return list(conn.execute(sa.select(run.c.queue).order_by(run.c.id)).scalars())


# Control flow


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        ("DECLARE @n INT = 0; WHILE @n < 5 BEGIN SET @n += 1; IF @n = 3 BREAK; END; SELECT @n", 3),
        (
            "DECLARE @n INT = 0, @odd INT = 0; WHILE @n < 5 BEGIN SET @n = @n + 1; IF @n % 2 = 0 CONTINUE; "
            "SET @odd += 1; END; SELECT @odd",
            3,
        ),
        (
            "DECLARE @a INT, @b NVARCHAR(9); SELECT @a = id, @b = n FROM (VALUES (1, N'x'), (2, N'y')) AS "
            "t(id, n) ORDER BY id; SELECT CONCAT(@a, @b)",
            "2y",
        ),
        ("DECLARE @t NVARCHAR(9) = N'a'; IF @t IS NULL SELECT 1 ELSE IF @t = N'a' SELECT 2; ELSE SELECT 3", 2),
        ("BEGIN TRY SELECT 1 / 0; END TRY BEGIN CATCH SELECT ERROR_NUMBER(); END CATCH", 8134),
        (
            "BEGIN TRY THROW 50123, N'mine', 4; END TRY BEGIN CATCH SELECT CONCAT(ERROR_MESSAGE(), "
            "ERROR_NUMBER(), ERROR_STATE()); END CATCH",
            "mine501234",
        ),
        ("BEGIN TRY THROW 50123, N'50%% of%', 1; END TRY BEGIN CATCH SELECT ERROR_MESSAGE(); END CATCH", "50% of"),
        ("BEGIN TRY THROW 50123, N'50%d', 1; END TRY BEGIN CATCH SELECT ERROR_MESSAGE(); END CATCH", " "),
        (
            "BEGIN TRY RAISERROR(N'bad %s', 16, 1, N'thing'); END TRY BEGIN CATCH SELECT ERROR_MESSAGE(); END CATCH",
            "bad thing",
        ),
        ("BEGIN TRY EXEC(N'SELECT * FROM nothing'); END TRY BEGIN CATCH SELECT ERROR_NUMBER(); END CATCH", 208),
        (
            "DECLARE @n INT; EXEC sp_executesql N'SET @x = @y * 2', N'@x INT OUTPUT, @y INT', @x = @n "
            "OUTPUT, @y = 4; SELECT @n",
            8,
        ),
        (
            "DECLARE @t TABLE (n INT); INSERT INTO @t (n) VALUES (1), (2); DELETE FROM @t WHERE n = 1; "
            "SELECT @@ROWCOUNT + COUNT(*) FROM @t",
            2,
        ),
    ],
)
def test_a_batch_returns_its_rows(engine: sa.Engine, batch: str, expected: Any) -> None:
    assert fetch(engine, f"SET NOCOUNT ON; {batch}") == [(expected,)]


def exhaust(cursor: Any) -> None:
    """Read all results."""
    while cursor.nextset():
        pass


def test_the_rest_of_a_batch_runs_after_an_error_of_one_statement(queue: sa.Engine) -> None:
    connection = queue.raw_connection()
    cursor = connection.cursor()
    cursor.execute(
        "INSERT INTO jobfac.run (queue) VALUES (N'a'); INSERT INTO jobfac.run (queue) VALUES (NULL); "
        "INSERT INTO jobfac.run (queue) VALUES (N'b')"
    )
    with pytest.raises(Exception, match="NULL into column 'queue'"):
        exhaust(cursor)
    cursor.close()
    connection.commit()
    connection.close()
    assert queues(queue) == ["a", "b"]


WAIT = """\
SET NOCOUNT ON;
DECLARE @until DATETIME2(3) = DATEADD(MILLISECOND, :patience, SYSUTCDATETIME());
WHILE SYSUTCDATETIME() < @until AND NOT EXISTS (SELECT 1 FROM jobfac.run WITH (READPAST) WHERE state = N'queued')
    WAITFOR DELAY '00:00:00.020';
SELECT CASE WHEN EXISTS (SELECT 1 FROM jobfac.run WHERE state = N'queued') THEN 1 ELSE 0 END"""


def test_waiting_ends_with_work_or_after_the_time_limit(queue: sa.Engine) -> None:
    with ThreadPoolExecutor(1) as pool, queue.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        assert fetch(queue, WAIT, patience=100) == [(0,)]
        waiting = pool.submit(fetch, queue, WAIT, patience=15_000)
        assert not waiting.done()
        conn.execute(run.insert().values(queue="a"))
        started = time.monotonic()
        assert waiting.result(10) == [(1,)]
    assert time.monotonic() - started < 5


# Procedures


def test_a_procedure_returns_output_and_status(queue: sa.Engine) -> None:
    call = "SET NOCOUNT ON; DECLARE @n BIGINT, @s INT; EXEC @s = jobfac.start {}; SELECT @n, @s"
    assert fetch(queue, call.format("@queue = :q, @id = @n OUTPUT"), q="a") == [(1, 7)]
    assert fetch(queue, call.format(":q, 9, @n OUTPUT"), q="b") == [(2, 7)]
    with queue.connect() as conn:
        assert conn.execute(sa.select(run.c.queue, run.c.priority).order_by(run.c.id)).all() == [("a", 3), ("b", 9)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("EXEC jobfac.start N''", r"The queue \[\] cannot be used"),
        ("EXEC jobfac.start", "expects parameter '@queue'"),
        ("EXEC jobfac.start @nothing = 1", "@nothing is not a parameter"),
        ("EXEC jobfac.start 1, 2, 3, 4", "too many arguments"),
        ("EXEC jobfac.nothing", "Could not find stored procedure"),
    ],
)
def test_a_refusal_reaches_the_client(queue: sa.Engine, call: str, message: str) -> None:
    with queue.connect() as conn, pytest.raises(sa.exc.DBAPIError, match=message):
        conn.exec_driver_sql(call)


def test_a_call_with_the_drivers_escape_syntax(queue: sa.Engine) -> None:
    connection = queue.raw_connection()
    connection.cursor().execute("{CALL jobfac.start(?, ?)}", ("called", 2))
    connection.commit()
    connection.close()
    assert queues(queue) == ["called"]


def test_a_procedure_joins_the_callers_transaction(queue: sa.Engine) -> None:
    with queue.connect() as conn:
        conn.exec_driver_sql("EXEC jobfac.start N'a'")
        conn.rollback()
    assert queues(queue) == []


def test_a_refusal_leaves_the_callers_transaction_unchanged(queue: sa.Engine) -> None:
    with queue.begin() as conn:
        conn.execute(run.insert().values(queue="mine"))
        with pytest.raises(sa.exc.DBAPIError):
            conn.exec_driver_sql("EXEC jobfac.safe N'nothing'")
        conn.exec_driver_sql("EXEC jobfac.safe N'done'")
    assert queues(queue) == ["mine", "first", "second"]


def test_without_a_transaction_a_procedure_begins_its_own(queue: sa.Engine) -> None:
    with queue.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        with pytest.raises(sa.exc.DBAPIError):
            conn.exec_driver_sql("EXEC jobfac.safe N'nothing'")
        assert queues(queue) == []
        conn.exec_driver_sql("EXEC jobfac.safe N'done'")
    assert queues(queue) == ["first", "second"]


def test_with_xact_abort_a_caught_error_can_only_be_rolled_back(queue: sa.Engine) -> None:
    batch = (
        "SET NOCOUNT ON; SET XACT_ABORT ON; BEGIN TRANSACTION; DECLARE @state INT; "
        "BEGIN TRY INSERT INTO jobfac.run (state) VALUES (N'nothing'); END TRY "
        "BEGIN CATCH SET @state = XACT_STATE(); ROLLBACK; END CATCH; SELECT @state, @@TRANCOUNT"
    )
    with queue.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        assert conn.exec_driver_sql(batch).all() == [(-1, 0)]
        with pytest.raises(sa.exc.DBAPIError, match="cannot be committed"):
            conn.exec_driver_sql(batch.replace("ROLLBACK;", "COMMIT;"))


def test_a_procedure_that_calls_itself_has_a_table_variable_in_each_call(queue: sa.Engine) -> None:
    with queue.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.exec_driver_sql(
            "CREATE PROCEDURE jobfac.counts @depth INT AS BEGIN SET NOCOUNT ON; "
            "DECLARE @rows TABLE (id INT NOT NULL PRIMARY KEY); INSERT INTO @rows (id) VALUES (@depth); "
            "DECLARE @less INT = @depth - 1; IF @less > 0 EXEC jobfac.counts @depth = @less; "
            "INSERT INTO jobfac.run (queue, attempt) SELECT N'q', r.id FROM @rows AS r; END"
        )
        conn.exec_driver_sql("EXEC jobfac.counts @depth = 3")
        assert conn.execute(sa.select(run.c.attempt).order_by(run.c.id)).scalars().all() == [1, 2, 3]


def test_a_procedure_that_leaves_a_transaction_open_is_an_error(queue: sa.Engine) -> None:
    with queue.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.exec_driver_sql("CREATE PROCEDURE jobfac.leaves AS BEGIN TRANSACTION")
        with pytest.raises(sa.exc.DBAPIError, match="Transaction count after EXECUTE"):
            conn.exec_driver_sql("EXEC jobfac.leaves")


def test_a_dropped_procedure_is_gone(queue: sa.Engine) -> None:
    assert fetch(queue, "SELECT OBJECT_ID(N'jobfac.start', N'P') - OBJECT_ID(N'jobfac.start')") == [(0,)]
    with queue.begin() as conn:
        conn.exec_driver_sql("DROP PROCEDURE IF EXISTS jobfac.start")
    assert fetch(queue, "SELECT OBJECT_ID(N'jobfac.start', N'P')") == [(None,)]


def test_rowcount_limits_queries_and_writes_also_in_procedures_and_ends_with_the_procedure(engine: sa.Engine) -> None:
    queue_table.create(engine, 5)
    with engine.begin() as conn:
        conn.exec_driver_sql(
            "CREATE OR ALTER PROCEDURE jobfac.some @most INT = NULL AS BEGIN\nSET NOCOUNT ON;\n"
            "IF @most IS NOT NULL SET ROWCOUNT 0;\nDECLARE @t TABLE (id BIGINT);\n"
            "INSERT INTO @t (id) SELECT r.id FROM jobfac.run AS r;\n"
            "UPDATE jobfac.run SET priority = 9 WHERE priority <> 9;\nSELECT COUNT(*) FROM @t;\nEND;"
        )
        conn.exec_driver_sql("SET ROWCOUNT 2")
        assert len(conn.execute(sa.text("SELECT id FROM jobfac.run")).all()) == 2
        assert len(conn.execute(sa.text("SELECT TOP (3) id FROM jobfac.run")).all()) == 2
        assert conn.execute(sa.text("EXEC jobfac.some")).scalar_one() == 2
        assert conn.execute(sa.text("SELECT COUNT(*) FROM jobfac.run WHERE priority = 9")).scalar_one() == 2
        assert conn.execute(sa.text("EXEC jobfac.some @most = 0")).scalar_one() == 5
        assert conn.execute(sa.text("DELETE FROM jobfac.run WHERE priority = 9")).rowcount == 2
        conn.exec_driver_sql("SET ROWCOUNT 0")
        assert conn.execute(sa.text("DELETE FROM jobfac.run")).rowcount == 3


def test_implicit_transactions_begin_as_microsoft_says(engine: sa.Engine) -> None:
    """Source: Microsoft, "SET IMPLICIT_TRANSACTIONS", tests B and C and the exception for SELECT."""
    queue_table.create(engine, 1)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:

        def count(statement: str) -> int:
            conn.exec_driver_sql(statement)
            return int(conn.exec_driver_sql("SELECT @@TRANCOUNT").scalar_one())

        assert count("SET IMPLICIT_TRANSACTIONS ON") == 0
        assert count("UPDATE jobfac.run SET priority = 1") == 1
        assert count("COMMIT TRANSACTION") == 0
        assert count("BEGIN TRANSACTION") == 2
        assert count("COMMIT TRANSACTION") == 1
        assert count("COMMIT TRANSACTION") == 0
        assert count("SET IMPLICIT_TRANSACTIONS OFF") == 0
