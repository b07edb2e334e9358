"""Scripts on PostgreSQL: notices as they come, errors in functions, cancelling, a server that goes away."""

import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from jobfac.sqljob.connection import KEEPALIVES, connect
from jobfac.sqljob.servers import END_WITH_CLIENT, server
from tests.sqljob.conftest import Done, Stage
from tests.support.factory import wait_for

FUNCTION = """
CREATE FUNCTION load(n int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  RAISE NOTICE '% %% done', n;
  INSERT INTO t VALUES (n, 'x');
END $$;
"""


def active(url: str) -> list[int]:
    """The process ids of the other connections to the database that sleep: no statement of theirs ends meanwhile."""
    query = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND pid <> %s"
        " AND wait_event = 'PgSleep'"
    )
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        return [pid for (pid,) in connection.execute(query, [connection.info.backend_pid]).fetchall()]


def rows_of(url: str) -> int:
    """How many rows the table has."""
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        [found] = connection.execute("SELECT count(*) FROM t").fetchall()
        return int(found[0])


def test_values_of_many_kinds(pg: Stage) -> None:
    script = (
        "SELECT 12.50::numeric AS n, '2027-01-01'::date AS d, '\\xff'::bytea AS b, ARRAY[1, 2] AS a, NULL::int AS z, "
        "'{\"k\": 1}'::jsonb AS j, true AS t, 'NaN'::float AS f, '🚚' AS e"
    )
    assert pg.run(script, result="json").outputs == {
        "n": "12.50", "d": "2027-01-01", "b": "0xff", "a": [1, 2], "z": None, "j": {"k": 1}, "t": True, "f": "nan",
        "e": "🚚",
    }  # fmt: skip


def test_values_that_python_has_not(pg: Stage) -> None:
    script = (
        "SELECT 'infinity'::timestamptz AS i, '0044-03-15 BC'::date AS d, '24:00'::time AS t, "
        "ARRAY['-infinity'::timestamp, '2027-01-01'] AS a, '100000000 years'::interval AS s"
    )
    assert pg.run(script, result="json").outputs == {
        "i": "infinity", "d": "0044-03-15 BC", "t": "24:00:00", "a": ["-infinity", "2027-01-01T00:00:00"],
        "s": "100000000 years",
    }  # fmt: skip


def test_an_error_in_a_function_names_it_and_its_line(pg: Stage) -> None:
    done = pg.run(f"CREATE TABLE t (a int PRIMARY KEY, b text);{FUNCTION}SELECT load(40); SELECT load(40);")
    assert done.message == 'Msg 23505, line 4, load: duplicate key value violates unique constraint "t_pkey"'
    assert done.out.count("40 % done\n") == 2
    assert done.progress == [0.4], "the same again within a second is not reported"


def test_an_error_of_syntax_names_the_line_of_the_script(pg: Stage) -> None:
    done = pg.run("SELECT 1;\n\nSELECT 2,\n  FROM WHERE;")
    assert done.message == 'Error 42601, line 4: syntax error at or near "FROM"'.replace("Error", "Msg")


def test_parameters_are_bound(pg: Stage) -> None:
    script = "SELECT ${parameters.n}::int + 1 AS n, '100%' AS p, 7 % 4 AS m, ${parameters.text}::text AS t"
    assert pg.run(script, {"n": 1, "text": "'; DROP"}).outputs == {"n": 2, "p": "100%", "m": 3, "t": "'; DROP"}
    assert pg.run("SELECT 2 = ANY(${parameters.days}) AS a", {"days": [1, 2]}).outputs == {"a": True}


def test_a_transaction_that_failed_or_is_left_open_is_rolled_back(pg: Stage) -> None:
    assert pg.run("CREATE TABLE t (a int); BEGIN; INSERT INTO t VALUES (1)").message.startswith("the script left a")
    failed = pg.run("BEGIN; INSERT INTO t VALUES (1); SELECT 1 / 0; COMMIT")
    assert failed.message == "Msg 22012, line 1: division by zero; its transaction was rolled back"
    assert rows_of(pg.url) == 0


def test_after_an_error_the_rest_of_a_transaction_is_skipped(pg: Stage) -> None:
    pg.run("CREATE TABLE t (a int)")
    script = "BEGIN; INSERT INTO t VALUES (1); SELECT 1 / 0; INSERT INTO t VALUES (2); END; SELECT 'on' AS x"
    done = pg.run(script, on_error="continue")
    assert done.message.endswith("division by zero; its transaction was rolled back and its rest skipped")
    assert (done.outputs, rows_of(pg.url)) == ({"x": "on"}, 0)


def test_a_server_or_a_client_without_power_is_noticed(pg: Stage) -> None:
    names = ", ".join(f"'{one.partition(' ')[0]}'" for one in END_WITH_CLIENT)
    done = pg.run(f"SELECT min(source) AS a, max(source) AS b, count(*) AS n FROM pg_settings WHERE name IN ({names})")
    assert done.outputs == {"a": "session", "b": "session", "n": len(END_WITH_CLIENT)}
    pg.url += "&keepalives_idle=60"
    with connect(pg.runner("SELECT 1").request) as (connection, _):
        used = connection.info.get_parameters()
    assert {name: used[name] for name in KEEPALIVES} == {
        "keepalives_idle": "60", "keepalives_interval": "5", "keepalives_count": "4",
    }  # fmt: skip


def test_a_session_that_a_former_attempt_still_has_excludes_the_next_one(
    pg: Stage, capfd: pytest.CaptureFixture[str]
) -> None:
    next_one = pg.runner("SELECT 5 AS x", session="jobfac run 7")
    thread = threading.Thread(target=next_one.run)
    with connect(next_one.request) as (connection, dialect):
        server(connection, dialect, print).exclude_others("jobfac run 7", lambda: False)
        assert pg.run("SELECT 6 AS x", session="jobfac run 8").outputs == {"x": 6}
        thread.start()
        wait_for(lambda: capfd.readouterr().out.startswith("Waiting for the end of the session of a former attempt"))
    thread.join(20)
    assert pg.done(next_one).outputs == {"x": 5}


def test_isolation(pg: Stage) -> None:
    script = "SELECT current_setting('transaction_isolation') AS level"
    assert pg.run(script, isolation="serializable").outputs == {"level": "serializable"}
    assert pg.run(script, isolation="snapshot").message.startswith("PostgreSQL has no isolation level 'snapshot'")


def in_background(stage: Stage, script: str, meanwhile: Callable[[], None], **options: Any) -> Done:
    runner = stage.runner(script, **options)
    thread = threading.Thread(target=runner.run)
    thread.start()
    meanwhile()
    while not runner.done.wait(0.05):
        runner.cancel_late()
    thread.join()
    return stage.done(runner)


def test_a_timeout_cancels_in_the_server(pg: Stage) -> None:
    done = in_background(pg, "SELECT pg_sleep(60)", lambda: None, timeout=0.3)
    assert done.message == "batch 1 ran longer than its timeout of 300ms and was cancelled"
    wait_for(lambda: not active(pg.url))


def test_a_stop_says_what_is_rolled_back(pg: Stage) -> None:
    runner = pg.runner("CREATE TABLE t (a int); INSERT INTO t VALUES (1); SELECT pg_sleep(60)")
    thread = threading.Thread(target=runner.run)
    thread.start()
    wait_for(lambda: active(pg.url))
    while not runner.done.wait(0.05):
        runner.stop()
    thread.join()
    assert pg.done(runner).message == "stopped in batch 3: it was cancelled in the server; what it has committed stays"
    assert rows_of(pg.url) == 1


def test_a_statement_that_leaves_the_connection_unusable_is_said(pg: Stage) -> None:
    done = pg.run("CREATE TABLE t (a int); COPY t FROM STDIN")
    assert done.message.startswith("COPY cannot be used with this method")


def test_a_server_that_goes_away_is_said(pg: Stage) -> None:
    def cut() -> None:
        wait_for(lambda: active(pg.url))
        with psycopg.connect(pg.url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(%s)", active(pg.url))

    done = in_background(pg, "CREATE TABLE t (a int); BEGIN; INSERT INTO t VALUES (1); SELECT pg_sleep(60)", cut)
    assert done.message.startswith(
        "the connection to the database was lost in batch 4; what was committed before stays, and "
    )
    assert rows_of(pg.url) == 0


@pytest.mark.parametrize("kill", [False, True])
def test_a_stop_or_a_kill_leaves_nothing_behind(pg: Stage, kill: bool) -> None:
    pg.run("CREATE TABLE t (a int)")
    with pg.begin("BEGIN; INSERT INTO t VALUES (1); SELECT 'now'; SELECT pg_sleep(60); COMMIT") as process:
        assert process.stdout is not None
        while process.stdout.readline() != "(1 row)\n":
            pass
        wait_for(lambda: active(pg.url))
        process.kill() if kill else process.terminate()
        began = time.monotonic()
        _, err = process.communicate(timeout=20)
    assert time.monotonic() - began < 10
    assert kill or err == "stopped in batch 4: it was cancelled in the server and rolled back\n"
    wait_for(lambda: not active(pg.url))
    assert rows_of(pg.url) == 0


def test_a_database_that_is_not_there_is_a_sentence_without_the_password(pg: Stage) -> None:
    pg.url = pg.url.replace("not-asked-for", "hunter22")
    done = pg.run("SELECT 1", database="hunter22")
    assert done.message.startswith("the database (postgresql on this machine) cannot be reached: ")
    assert "hunter22" not in done.message + done.err
