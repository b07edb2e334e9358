"""Scripts on SQLite: what they write, what becomes of errors and transactions, what is handed on."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from jobfac.sqljob import runner
from jobfac.sqljob.servers import Server
from tests.sqljob.conftest import Stage

TABLE = "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT);"


def test_rows_as_aligned_text(sqlite: Stage) -> None:
    script = (
        f"{TABLE} INSERT INTO t VALUES (1, 'ä'), (20, NULL), (3, '漢字 🚚'); SELECT a, b, 1.5 AS c, x'00ff' AS d FROM t"
    )
    done = sqlite.run(script)
    assert done.out == (
        "(3 rows affected)\n"
        " a  b          c  d\n"
        "--  -------  ---  ------\n"
        " 1  ä        1.5  0x00ff\n"
        " 3  漢字 🚚  1.5  0x00ff\n"
        "20  NULL     1.5  0x00ff\n"
        "(3 rows)\n"
    )
    assert (done.succeeded, done.message, done.err) == (True, "3 batches", "")


def test_a_driver_that_panics_fails_the_script(sqlite: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A panic of Rust is no Exception. Libraries raise one as they are imported, if one that they need is broken."""

    class PanicException(BaseException): ...

    def panic(*arguments: Any) -> None:
        raise PanicException("Python API call failed")

    monkeypatch.setattr(runner, "connect", panic)
    done = sqlite.run("SELECT 1")
    assert (done.succeeded, done.message) == (False, "PanicException: Python API call failed")


def test_rows_as_lines_of_json_and_not_at_all(sqlite: Stage) -> None:
    script = "SELECT 1 AS a, NULL AS a, 'x\ny' || char(0) || 'z' AS \"\", x'ff' AS d"
    done = sqlite.run(script, result="json")
    assert [json.loads(line) for line in done.out.splitlines()] == [
        {"a": 1, "a_2": None, "column3": "x\ny\u0000z", "d": "0xff"}
    ]
    assert done.outputs == {"a": 1, "a_2": None, "column3": "x\ny\u0000z", "d": "0xff"}
    silent = sqlite.run(f"{TABLE} INSERT INTO t VALUES (7, 'x'); SELECT * FROM t", result="none")
    assert (silent.out, silent.outputs) == ("", {"a": 7, "b": "x"})


def test_an_empty_result_and_control_characters(sqlite: Stage) -> None:
    done = sqlite.run("SELECT 1 AS a WHERE 0; SELECT 'a\tb' || char(0, 27) || '[31m' AS x")
    assert done.out == "a\n-\n(0 rows)\nx\n----------------\na\\tb\\x00\\x1b[31m\n(1 row)\n"
    assert done.outputs == {"x": "a\tb\u0000\u001b[31m"}


def test_an_error_names_its_line_and_ends_the_script(sqlite: Stage) -> None:
    done = sqlite.run(
        f"{TABLE}\nINSERT INTO t VALUES (1, 'a');\n\n  INSERT INTO t\nVALUES (1, 'b');\nSELECT 'not reached'"
    )
    assert done.message == "Error SQLITE_CONSTRAINT_PRIMARYKEY, line 4: UNIQUE constraint failed: t.a"
    assert (done.succeeded, done.err) == (False, f"{done.message}\n")
    assert "not reached" not in done.out


def test_on_error_continue_goes_on_and_ends_failed(sqlite: Stage) -> None:
    script = f"{TABLE} INSERT INTO nowhere VALUES (1); INSERT INTO t VALUES (1, 'a'); SELECT x; SELECT b FROM t"
    done = sqlite.run(script, on_error="continue")
    assert done.message == "Error SQLITE_ERROR, line 1: no such table: nowhere (and 1 more failure)"
    assert not done.succeeded
    assert done.outputs == {"b": "a"}


HALF = """
BEGIN; INSERT INTO t VALUES (1, 'a'); INSERT INTO nowhere VALUES (1); SAVEPOINT s; ROLLBACK TO s;
INSERT INTO t VALUES (2, 'b'); COMMIT;
INSERT INTO t VALUES (3, 'c'); BEGIN; INSERT INTO t VALUES (4, 'd'); COMMIT; SELECT max(a) AS n, count(*) AS m FROM t
"""


def test_after_an_error_the_rest_of_a_transaction_is_skipped(sqlite: Stage) -> None:
    """Alone, it would be committed: half of a booking."""
    done = sqlite.run(TABLE + HALF, on_error="continue")
    assert done.message.endswith("no such table: nowhere; its transaction was rolled back and its rest skipped")
    assert (done.succeeded, done.outputs) == (False, {"n": 4, "m": 2})


def test_a_driver_that_does_not_tell_of_transactions(sqlite: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of MySQL: the server rolls back what the script left open, so the run may not succeed."""
    monkeypatch.setattr(runner, "server", Server)
    left = "the script left a transaction open, which was rolled back; end it with COMMIT or ROLLBACK"
    assert sqlite.run(f"{TABLE} BEGIN; INSERT INTO t VALUES (1, 'a')").message == left
    assert sqlite.run("begin transaction; ROLLBACK; BEGIN; INSERT INTO t VALUES (1, 'a'); COMMIT").succeeded
    skipped = sqlite.run(f"DELETE FROM t; {HALF}", on_error="continue")
    assert skipped.message.endswith("no such table: nowhere; its transaction was rolled back and its rest skipped")
    assert skipped.outputs == {"n": 4, "m": 2}


def test_what_sqlite_rolls_back_itself_is_cut_off_too(sqlite: Stage) -> None:
    begun = "DELETE FROM t; INSERT INTO t VALUES (1, 'a'); BEGIN; INSERT INTO t VALUES (2, 'b');"
    rest = "INSERT INTO t VALUES (3, 'c'); COMMIT; SELECT max(a) AS n, count(*) AS m FROM t"
    sqlite.run(TABLE)
    twice = sqlite.run(f"{begun} INSERT OR ROLLBACK INTO t VALUES (1, 'd'); {rest}", on_error="continue")
    assert twice.message.endswith("UNIQUE constraint failed: t.a; its transaction was rolled back and its rest skipped")
    assert twice.outputs == {"n": 1, "m": 1}


@pytest.mark.parametrize(("status", "succeeds"), [(2, True), (3, False)])
def test_pymysql_says_whether_a_transaction_is_open(
    sqlite: Stage, monkeypatch: pytest.MonkeyPatch, status: int, succeeds: bool
) -> None:
    """`SET autocommit=0` begins one without a BEGIN, and a CREATE TABLE ends one without a COMMIT."""
    monkeypatch.setattr(runner, "server", lambda real, dialect, say: Server(Telling(real, status), dialect, say))
    done = sqlite.run("SELECT 1" if status & 1 else "BEGIN; SELECT 1")
    assert done.succeeded == succeeds
    assert done.message.startswith("2 batches" if succeeds else "the script left a transaction open, which was rolled")


class Telling:
    """A connection whose driver has the status of the server, as PyMySQL does."""

    def __init__(self, real: Any, server_status: int) -> None:
        self.server_status = server_status
        self.cursor, self.rollback = real.cursor, real.rollback


def test_nothing_is_skipped_after_a_commit_that_failed(sqlite: Stage) -> None:
    tables = "CREATE TABLE p (a PRIMARY KEY); CREATE TABLE c (a REFERENCES p DEFERRABLE INITIALLY DEFERRED);"
    script = f"PRAGMA foreign_keys = ON; {tables} BEGIN; INSERT INTO c VALUES (1); COMMIT; INSERT INTO p VALUES (2);"
    done = sqlite.run(
        f"{script} SELECT (SELECT count(*) FROM c) AS c, (SELECT count(*) FROM p) AS p", on_error="continue"
    )
    assert done.message.endswith("FOREIGN KEY constraint failed; its transaction was rolled back")
    assert done.outputs == {"c": 0, "p": 1}


def test_a_transaction_that_is_left_open_is_rolled_back(sqlite: Stage) -> None:
    done = sqlite.run(f"{TABLE} BEGIN; INSERT INTO t VALUES (1, 'a');")
    assert done.message == ("the script left a transaction open, which was rolled back; end it with COMMIT or ROLLBACK")
    failed = sqlite.run("BEGIN; INSERT INTO t VALUES (1, 'a'); INSERT INTO nowhere VALUES (1); COMMIT")
    assert failed.message.endswith("no such table: nowhere; its transaction was rolled back")
    assert sqlite.run("SELECT count(*) AS n FROM t").outputs == {"n": 0}
    assert sqlite.run("BEGIN; INSERT INTO t VALUES (1, 'a'); COMMIT").succeeded


def test_parameters_are_values_and_never_text(sqlite: Stage) -> None:
    hostile = "x'); DROP TABLE t; --"
    script = f"{TABLE} INSERT INTO t VALUES (${{parameters.n}}, ${{parameters.text}}); SELECT * FROM t"
    assert sqlite.run(script, {"n": 5, "text": hostile}).outputs == {"a": 5, "b": hostile}
    many = sqlite.run("SELECT group_concat(value) AS days FROM json_each(${parameters.days})", {"days": ["ö", "'"]})
    assert many.outputs == {"days": "ö,'"}
    missing = sqlite.run("DROP TABLE t; SELECT ${parameters.day}", {"n": 5})
    assert missing.message == "the parameter 'day' is not one of the run's, which are: n; define it"
    assert sqlite.run("SELECT count(*) AS n FROM t").outputs == {"n": 1}, "nothing has run"


def test_a_statement_that_is_too_slow_is_cancelled(sqlite: Stage) -> None:
    endless = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
    runner = sqlite.runner(f"{TABLE} BEGIN; INSERT INTO t VALUES (1, 'a'); {endless}; COMMIT", timeout=0.3)
    thread = threading.Thread(target=runner.run)
    thread.start()
    while not runner.done.wait(0.05):
        runner.cancel_late()
    thread.join()
    done = sqlite.done(runner)
    assert done.message == "batch 4 ran longer than its timeout of 300ms and was cancelled and rolled back"
    assert sqlite.run("SELECT count(*) AS n FROM t").outputs == {"n": 0}


def test_a_stop_cancels_in_the_database(sqlite: Stage) -> None:
    endless = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n"
    with sqlite.begin(f"{TABLE} BEGIN; INSERT INTO t VALUES (1, 'a'); {endless}") as process:
        assert process.stdout is not None
        while "100000" not in process.stdout.readline():
            pass
        process.terminate()
        began = time.monotonic()
        _, err = process.communicate(timeout=20)
    assert time.monotonic() - began < 10
    assert process.returncode == 1
    assert err == "stopped in batch 4: it was cancelled in the server and rolled back\n"
    assert sqlite.reports()[-1] == {"result": "failed", "exit_message": err.strip()}
    assert sqlite.run("SELECT count(*) AS n FROM t").outputs == {"n": 0}


def test_outputs_stay_small(sqlite: Stage) -> None:
    columns = ", ".join(f"replace(hex(zeroblob(1900)), '0', 'x') AS c{number}" for number in range(60))
    done = sqlite.run(f"SELECT {columns}", result="none")
    assert len(done.outputs) == 60
    columns = ", ".join(f"replace(hex(zeroblob(1900)), '0', char(1)) AS c{number}" for number in range(60))
    done = sqlite.run(f"SELECT {columns}", result="none")
    assert len(done.outputs) == 10, "as JSON each character has six bytes, and a worker skips very long lines"
    assert "the output 'c10' was left out: all outputs together may have 250,000 bytes\n" in done.err


def test_a_text_of_any_bytes_is_read(sqlite: Stage) -> None:
    assert sqlite.run("SELECT CAST(x'41ff' AS TEXT) AS a").outputs == {"a": "A\ufffd"}


def test_an_output_that_cannot_be_written_is_said(sqlite: Stage) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        process = sqlite.begin("CREATE TABLE t (a); INSERT INTO t VALUES (1); SELECT 1", output=full.fileno())
        assert process.wait(20) == 1
    said = sqlite.reports()[-1]
    assert said["result"] == "failed"
    assert said["exit_message"] == (
        "the output could not be written: No space left on device, so the script ended in batch 2; what it has "
        "committed stays"
    )
    assert sqlite.run("SELECT a FROM t").outputs == {"a": 1}


def test_a_script_succeeds_though_its_report_cannot_be_written(sqlite: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBFAC_REPORT", "/dev/full")
    with sqlite.begin("CREATE TABLE t (a)") as process:
        process.communicate(timeout=20)
    assert process.returncode == 0


@pytest.mark.slow
def test_many_rows_and_fifty_megabytes_in_a_cell(sqlite: Stage) -> None:
    many = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 200000) SELECT x FROM n"
    done = sqlite.run(f"{many}; SELECT replace(hex(zeroblob(26214400)), '0', 'é') AS big, zeroblob(52428800) AS raw")
    lines = done.out.splitlines()
    assert done.succeeded
    assert len(lines) == 200_000 + 7
    assert lines[200_001].split() == ["200000"]
    assert lines[-2].startswith("ééé")
    assert "... (52,428,800 characters)" in lines[-2]
    assert lines[-2].endswith("... (52,428,800 bytes)")
    assert done.outputs == {}
    assert done.err.splitlines()[0] == ("the output 'big' was left out: it has 52,428,800 characters, more than 4,000")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"isolation": "snapshot"}, "SQLite has no isolation level 'snapshot'; leave isolation out"),
        (
            {"database": "/no/such/folder/x.db"},
            "the database (sqlite on this machine) cannot be reached: unable to open",
        ),
    ],
)
def test_what_cannot_be_done_is_a_sentence(sqlite: Stage, options: dict[str, Any], sentence: str) -> None:
    done = sqlite.run("SELECT 1", **options)
    assert done.message.startswith(sentence)
    assert not done.succeeded
