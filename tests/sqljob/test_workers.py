"""SQL jobs on a real worker: state, reason, outputs and stops; nothing shows the connection; a worker that dies."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.sqljob.test_postgres import active, rows_of
from tests.support.factory import Factory, wait_for
from tests.support.fleet import Fleet

PASSWORD = "not-asked-for"


@pytest.fixture
def fleet(sqlite_factory: Factory, pg_url: str) -> Iterator[Fleet]:
    """A worker's machine on which DW_URL is the database of the scripts, with a table."""
    sqlite_factory.environment["DW_URL"] = pg_url
    with psycopg.connect(pg_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE TABLE t (a int PRIMARY KEY)")
    with Fleet(sqlite_factory) as made:
        yield made


def sql(text: str, **more: Any) -> dict[str, Any]:
    return {"sql": {"connection": {"secret": "env:DW_URL"}, "text": text, **more.pop("sql", {})}, **more}


def test_runs_of_scripts(fleet: Fleet, pg_url: str) -> None:
    (fleet.folder / "load.sql").write_bytes("\ufeffSELECT 7 AS rows, 'é' AS name".encode("utf-16-le"))
    fleet.define(
        good={"sql": {"connection": {"secret": "env:DW_URL"}, "file": "load.sql"}},
        bad=sql("INSERT INTO t VALUES (1);\nINSERT INTO t VALUES (1)", retry={"attempts": 1}),
        leaky=sql("SELECT 'not-asked' || '-for' AS p"),
        absent={"sql": {"connection": {"secret": "env:ABSENT"}, "text": "SELECT 1"}},
        slow=sql("BEGIN; INSERT INTO t VALUES (5); SELECT pg_sleep(60)", timeout=0.7),
        arguments=sql("SELECT 1"),
        late=sql("SELECT pg_sleep(60); SELECT 'on' AS x", sql={"timeout": "400ms", "on_error": "continue"}),
    )
    fleet.worker()
    good = fleet.one("good")
    assert (good["state"], json.loads(good["outputs"])) == ("succeeded", {"rows": 7, "name": "é"})
    assert good["exit_message"] == "1 batch"
    bad = fleet.one("bad")
    assert bad["state"] == "failed"
    assert bad["reason"] == 'Msg 23505, line 2: duplicate key value violates unique constraint "t_pkey"'
    leaky = fleet.one("leaky")
    assert leaky["state"] == "succeeded"
    assert PASSWORD not in str(dict(leaky))
    assert fleet.text(leaky["id"]).decode().splitlines()[2] == "*" * len(PASSWORD)
    absent = fleet.one("absent")
    assert (absent["state"], absent["reason"]) == (
        "start_failed", "the secret env:ABSENT is not in this role's environment; set ABSENT there",
    )  # fmt: skip
    slow = fleet.one("slow")
    assert (slow["state"], slow["reason"]) == ("timed_out", "ran longer than its timeout of 700ms")
    late = fleet.one("late")
    assert (late["state"], json.loads(late["outputs"])) == ("failed", {"x": "on"})
    assert late["reason"] == "batch 1 ran longer than its timeout of 400ms and was cancelled"
    refused = fleet.one("arguments", arguments=["--full"])
    assert refused["reason"] == "a sql job takes no arguments; start it without them, or use parameters"
    assert rows_of(pg_url) == 1, "what was inserted before the error, and nothing of the slow one"
    assert PASSWORD.encode() not in everything(fleet.folder)


def everything(folder: Path) -> bytes:
    """Database, spool and logs."""
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_stop_waits_for_the_rollback(fleet: Fleet, pg_url: str) -> None:
    fleet.define(long=sql("BEGIN; INSERT INTO t VALUES (1); SELECT pg_sleep(60)", grace=20))
    fleet.worker()
    [run] = fleet.start("long")
    wait_for(lambda: active(pg_url))
    assert PASSWORD.encode() not in everything(fleet.folder)
    fleet.factory.run("stop", str(run))
    stopped = fleet.wait(run)
    assert (stopped["state"], stopped["exit_code"]) == ("stopped", 1)
    assert stopped["exit_message"] == "stopped in batch 3: it was cancelled in the server and rolled back"
    assert (active(pg_url), rows_of(pg_url)) == ([], 0)


def test_a_worker_that_is_killed_in_a_transaction_leaves_nothing(fleet: Fleet, pg_url: str) -> None:
    fleet.define(long=sql("BEGIN; INSERT INTO t VALUES (1); SELECT pg_sleep(60)", restartable=False))
    worker = fleet.worker()
    [run] = fleet.start("long")
    wait_for(lambda: active(pg_url))
    worker.kill()
    wait_for(lambda: not active(pg_url), "the statement has ended in the server", 30)
    assert rows_of(pg_url) == 0
    fleet.worker("w2")
    assert fleet.wait(run)["state"] == "lost"


def test_try_runs_scripts(fleet: Fleet) -> None:
    body = {"jobs": {"j": sql("SELECT 1 AS a;\nSELECT 1 / 0")}}
    (fleet.folder / "jobs.json").write_text(json.dumps(body), encoding="utf-8")
    fleet.factory.run("apply", "jobs.json")
    assert "sql: SELECT 1 AS a; SELECT 1 / 0" in fleet.factory.run("jobs", "list").stdout
    tried = fleet.factory.json("try", "--file", "jobs.json", "j", code=1)
    assert (tried["state"], tried["reason"]) == ("failed", "Msg 22012, line 2: division by zero")
    assert tried["outputs"] == {"a": 1}
