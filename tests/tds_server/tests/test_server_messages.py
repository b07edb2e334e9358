"""Messages, the places of errors, and results that are not read, as the drivers give them to a program."""

import time

import pytest
import sqlalchemy as sa

from tests.tds_server.tests import queue_table
from tests.tds_server.tests.queue_table import run


def test_messages_come_in_order_and_at_once_with_nowait(engine: sa.Engine) -> None:
    raw = engine.raw_connection()
    cursor = raw.cursor()
    began = time.monotonic()
    cursor.execute("RAISERROR('%d %% of %s', 0, 1, 40, N'all') WITH NOWAIT; WAITFOR DELAY '00:00:04'; PRINT 'ü'")
    assert [text.rpartition("]")[2] for _, text in cursor.messages] == ["40 % of all"]
    assert time.monotonic() - began < 3.9, "the drivers wait for a second for more"
    assert cursor.nextset()
    assert [text.rpartition("]")[2] for _, text in cursor.messages][-1] == "ü"
    raw.invalidate()


def test_a_handler_knows_line_and_procedure(engine: sa.Engine) -> None:
    with engine.connect() as conn:
        conn.exec_driver_sql("CREATE PROCEDURE dbo.fails AS\nBEGIN\n  SELECT 1 / 0 AS a;\nEND")
        place = "SELECT ERROR_NUMBER() AS n, ERROR_LINE() AS l, ERROR_PROCEDURE() AS p"
        for text, line, procedure in (
            ("\nEXEC dbo.fails", 3, "dbo.fails"),
            ("\n\nSELECT 1 / 0 AS a", 3, None),
            ("\nTHROW 50001, 'x', 1", 2, None),
        ):
            row = conn.exec_driver_sql(f"BEGIN TRY {text};\nEND TRY\nBEGIN CATCH {place} END CATCH").one()
            assert (row.l, row.p) == (line, procedure)


@pytest.mark.parametrize("severity", [0, 10])
def test_a_message_is_no_error(engine: sa.Engine, severity: int) -> None:
    with engine.connect() as conn:
        found = conn.exec_driver_sql(
            f"SET NOCOUNT ON; SELECT 5 AS a; RAISERROR('no error', {severity}, 1)"
        ).scalar_one()
        assert found == 5


@pytest.mark.parametrize(("xact_abort", "kept"), [("ON", "before"), ("OFF", "within")])
def test_a_long_result_that_is_closed_early_is_cancelled(engine: sa.Engine, xact_abort: str, kept: str) -> None:
    queue_table.create(engine, 1)
    with engine.begin() as conn:
        conn.execute(run.update().values(queue="before"))
    with engine.begin() as conn:
        conn.exec_driver_sql(f"SET XACT_ABORT {xact_abort}")
        conn.execute(run.update().values(queue="within"))
        rows = ", ".join("(1)" for _ in range(100))
        long = f"SELECT REPLICATE(CAST(N'x' AS NVARCHAR(MAX)), 300000) AS long FROM (VALUES {rows}) AS t(n)"
        found = conn.execute(sa.text(long))
        assert len(found.scalars().fetchmany(1)[0]) == 300_000
        found.close()
    with engine.connect() as conn:
        assert conn.execute(sa.select(run.c.queue)).scalars().all() == [kept]
