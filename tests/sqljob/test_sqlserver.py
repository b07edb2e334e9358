"""Scripts through Microsoft's drivers, on the TDS test server."""

import re
import threading
import time
from urllib.parse import quote_plus

import pytest
import sqlalchemy as sa

from jobfac.guide import page
from jobfac.sqljob import servers
from jobfac.sqljob.connection import connect
from jobfac.sqljob.mssql import UDT
from jobfac.sqljob.servers import server
from tests.sqljob.conftest import Stage
from tests.support.factory import wait_for
from tests.tds_server.harness import TestServer

TABLE = "CREATE TABLE dbo.t (a INT PRIMARY KEY, b NVARCHAR(20))"
PROCEDURE = (
    "CREATE PROCEDURE dbo.load @n INT AS\nBEGIN\n  PRINT 'loading';\n  INSERT INTO dbo.t VALUES (@n, N'x');\nEND"
)


def test_messages_counts_and_rows_in_order(mssql: Stage) -> None:
    script = (
        f"{TABLE}\nGO\nINSERT INTO dbo.t VALUES (1, N'ä'), (2, NULL);\n"
        "PRINT 'begin'; SELECT a, b FROM dbo.t ORDER BY a;\n"
        "RAISERROR('40 %% done', 0, 1) WITH NOWAIT\nSELECT 5 AS x\nGO 2\n"
    ).replace("INSERT", "IF NOT EXISTS (SELECT 1 FROM dbo.t) INSERT")
    done = mssql.run(script)
    table = "a  b\n-  ----\n1  ä\n2  NULL\n(2 rows)\n40 % done\nx\n-\n5\n(1 row)\n"
    assert done.message == "3 batches"
    assert done.out == f"(2 rows affected)\nbegin\n{table}begin\n{table}"
    assert (done.succeeded, done.message) == (True, "3 batches")
    assert done.progress == [0.4]
    assert done.outputs == {"x": 5}


def test_messages_come_while_the_batch_runs(mssql: Stage) -> None:
    script = "RAISERROR('10 %% done', 0, 1) WITH NOWAIT; WAITFOR DELAY '00:01:00'"
    with mssql.begin(script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "10 % done\n"
        process.kill()


def test_an_error_names_number_line_and_procedure(mssql: Stage) -> None:
    assert mssql.run(f"{TABLE}\nGO\n{PROCEDURE}\nGO\nEXEC dbo.load 1").succeeded
    inside = mssql.run("PRINT 'first'\nGO\n\nEXEC dbo.load @n = 1\nPRINT 'not reached'")
    assert inside.message.startswith("Msg 2627, line 4, dbo.load: Violation of PRIMARY KEY constraint")
    assert inside.out == "first\nloading\n"
    outside = mssql.run("PRINT 'first'\nGO\n\nPRINT 'second'\nINSERT INTO dbo.t VALUES (1, N'y')")
    assert outside.message.startswith("Msg 2627, line 5: Violation of PRIMARY KEY constraint")


def test_a_batch_that_is_refused_as_a_whole_is_sent_as_it_is(mssql: Stage, tds: TestServer) -> None:
    tds.faults('error 102 matching "BEGIN TRY .*;SELECT 7"')
    try:
        assert mssql.run("SELECT 7 AS a\nGO\nSELECT 8 AS a").outputs == {"a": 8}
        assert tds.stats()["faults"][0]["fired"] == 1
    finally:
        tds.faults()
    missing = mssql.run("SELECT * FROM dbo.nowhere")
    assert missing.message == "Msg 208, line 1: Invalid object name 'dbo.nowhere'."


def test_continue_goes_to_the_next_batch_and_ends_failed(mssql: Stage) -> None:
    done = mssql.run(f"{TABLE}\nGO\nTHROW 50001, 'no rows', 1\nGO\nSELECT 'reached' AS x", on_error="continue")
    assert done.message == "Msg 50001, line 3: no rows"
    assert not done.succeeded
    assert done.outputs == {"x": "reached"}


def test_a_batch_that_leaves_a_transaction_open_fails(mssql: Stage) -> None:
    done = mssql.run(f"{TABLE}\nGO\nBEGIN TRANSACTION; INSERT INTO dbo.t VALUES (1, N'x')\nGO\nCOMMIT")
    assert done.message == "batch 2 left a transaction open, which was rolled back; end it with COMMIT or ROLLBACK"
    assert mssql.run("SELECT COUNT(*) AS n FROM dbo.t").outputs == {"n": 0}
    failed = mssql.run("BEGIN TRAN; INSERT INTO dbo.t VALUES (1, N'x'); THROW 50001, 'no', 1; COMMIT")
    assert failed.message == "Msg 50001, line 1: no; its transaction was rolled back"


def test_parameters_are_bound(mssql: Stage) -> None:
    calls = "EXEC dbo.load @n = ${parameters.n}\nGO\nSELECT a, ${parameters.t} AS t, ${parameters.l} AS l FROM dbo.t"
    script = f"{TABLE}\nGO\n{PROCEDURE}\nGO\n{calls}"
    values = {"n": 7, "t": "x'y", "l": ["ä", '"']}
    assert mssql.run(script, values).outputs == {"a": 7, "t": "x'y", "l": '["ä", "\\""]'}


def test_the_blocks_of_the_guide_do_what_it_says(mssql: Stage) -> None:
    message, call = re.findall(r"^```sql\n(.*?)^```", page("sql"), re.DOTALL | re.MULTILINE)
    assert mssql.run(message).progress == [0.4]
    assert mssql.run("CREATE PROCEDURE dbo.refresh @day DATE AS\nBEGIN\n  SELECT @day AS refreshed;\nEND").succeeded
    assert mssql.run(call, {"day": "2027-01-31"}).outputs == {"refreshed": "2027-01-31"}


def test_isolation_and_database(mssql: Stage) -> None:
    script = "SELECT transaction_isolation_level AS level FROM sys.dm_exec_sessions WHERE session_id = @@SPID"
    assert mssql.run(script, isolation="serializable").outputs == {"level": 4}
    absent = mssql.run("SELECT 1", database="absent")
    assert absent.message.startswith("the database (mssql on 127.0.0.1) cannot be reached: ")


@pytest.mark.parametrize("on_error", ["stop", "continue"])
def test_a_timeout_ends_the_statement_in_the_server(mssql: Stage, on_error: str) -> None:
    mssql.run(TABLE)
    script = "BEGIN TRAN; INSERT INTO dbo.t VALUES (1, N'x'); WAITFOR DELAY '00:01:00'; COMMIT\nGO\nPRINT 'next'"
    began = time.monotonic()
    with mssql.begin(script, timeout=0.4, on_error=on_error) as process:
        out, err = process.communicate(timeout=20)
    assert time.monotonic() - began < 10
    late = "batch 1 ran longer than its timeout of 400ms"
    cancels = "mssqlpython" not in mssql.url
    how = (
        " and was cancelled and rolled back"
        if cancels
        else "; this driver cannot cancel, so the connection was closed, and the server rolls back what was open"
    )
    assert (process.returncode, err) == (1, f"{late}{how}\n")
    assert mssql.reports() == [{"result": "failed", "exit_message": f"{late}{how}"}]
    assert out == ("next\n" if cancels and on_error == "continue" else "")
    assert mssql.run("SELECT COUNT(*) AS n FROM dbo.t").outputs == {"n": 0}


def test_a_stop_ends_the_statement_in_the_server(mssql: Stage) -> None:
    mssql.run(TABLE)
    script = (
        "BEGIN TRAN; INSERT INTO dbo.t VALUES (1, N'x'); RAISERROR('now', 0, 1) WITH NOWAIT; WAITFOR DELAY '00:01:00'"
    )
    with mssql.begin(script) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "now\n":
            pass
        process.terminate()
        began = time.monotonic()
        _, err = process.communicate(timeout=20)
    assert time.monotonic() - began < 10
    assert err in (
        "stopped in batch 1: it was cancelled in the server and rolled back\n",
        "stopped: this driver cannot cancel, so the connection was closed, and the server rolls back what was open\n",
    )
    assert mssql.run("SELECT COUNT(*) AS n FROM dbo.t").outputs == {"n": 0}


def test_a_session_that_a_former_attempt_still_has_excludes_the_next_one(
    mssql: Stage, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The server ends it half a minute after the power of its machine has gone."""
    monkeypatch.setattr(servers, "LOOK", 0.05)
    stopped, next_one = (mssql.runner("SELECT 5 AS x", session="jobfac run 7 o'clock") for _ in range(2))
    threads = [threading.Thread(target=one.run) for one in (stopped, next_one)]
    with connect(stopped.request) as (connection, dialect):
        server(connection, dialect, print).exclude_others(stopped.request.session, lambda: False)
        assert mssql.run("SELECT 6 AS x", session="jobfac run 8").outputs == {"x": 6}
        threads[0].start()
        wait_for(lambda: capfd.readouterr().out.startswith("Waiting for the end of the session of a former"))
        stopped.stop()
        assert stopped.done.wait(20)
        assert stopped.ended.message == "stopped before the first batch"
        threads[1].start()
        wait_for(lambda: capfd.readouterr().out.startswith("Waiting for the end of the session of a former"))
    assert next_one.done.wait(20)
    assert mssql.done(next_one).outputs == {"x": 5}
    for thread in threads:
        thread.join()


@pytest.mark.parametrize(
    ("number", "said"),
    [(229, "The session's lock cannot be had, so"), (701, "Waiting for the session's lock: ")],
    ids=["forbidden", "no memory"],
)
def test_where_the_session_cannot_be_locked_the_script_runs(
    mssql: Stage, tds: TestServer, number: int, said: str
) -> None:
    tds.faults(f'error {number} matching "sp_getapplock" first 1')
    try:
        done = mssql.run("SELECT 5 AS x", session="jobfac run 9")
        assert tds.stats()["faults"][0]["fired"] == 1
    finally:
        tds.faults()
    assert done.out.startswith(said)
    assert done.outputs == {"x": 5}


def test_a_connection_that_is_lost_before_the_first_batch_is_said(mssql: Stage, tds: TestServer) -> None:
    tds.faults('drop before matching "sp_getapplock" first 1')
    try:
        done = mssql.run("SELECT 5 AS x", session="jobfac run 11")
    finally:
        tds.faults()
    assert done.message.startswith("the connection to the database was lost before the first batch (")


def test_a_former_session_that_does_not_end_fails_the_run(mssql: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "EXCLUDED_FOR", 0.0)
    runner = mssql.runner("SELECT 5 AS x", session="jobfac run 10")
    with connect(runner.request) as (connection, dialect):
        server(connection, dialect, print).exclude_others("jobfac run 10", lambda: False)
        runner.run()
    assert runner.ended.message.startswith("the session of a former attempt of this run has not ended within 0 minutes")


def test_columns_of_types_of_the_clr_are_read(mssql: Stage) -> None:
    request = mssql.runner("SELECT 1").request
    with connect(request) as (connection, dialect):
        server(connection, dialect, print).prepare(None)
        assert "mssqlpython" in mssql.url or connection.get_output_converter(UDT)(b"\1") == b"\1"


def test_a_server_that_goes_away_is_said(mssql: Stage, tds: TestServer) -> None:
    mssql.run(TABLE)
    tds.faults('drop before matching "SELECT 77"')
    try:
        done = mssql.run("INSERT INTO dbo.t VALUES (1, N'x')\nGO\nSELECT 77\nGO\nSELECT 'never'", on_error="continue")
    finally:
        tds.faults()
    assert done.message.startswith(
        "the connection to the database was lost in batch 2; what was committed before stays"
    )
    assert "never" not in done.out


def test_a_connection_string_of_odbc_takes_another_database(mssql: Stage) -> None:
    url = sa.make_url(mssql.url)
    if url.get_driver_name() != "pyodbc":
        pytest.skip("only pyodbc takes a connection string of ODBC")
    text = (
        f"DRIVER={url.query['driver']};SERVER={url.host},{url.port};UID={url.username};PWD={{{url.password}}};"
        f"DATABASE={url.database};Encrypt=no;TrustServerCertificate=yes"
    )
    mssql.url = f"mssql+pyodbc:///?odbc_connect={quote_plus(text)}"
    assert mssql.run("SELECT 5 AS x", database="other]one").outputs == {"x": 5}
