"""A DBA's open transaction on SQL Server keeps callers of the API from what it has locked, and from nothing else."""

import re
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from jobfac.api import app, routing
from jobfac.api.serving import strangers
from jobfac.database.engine import Database
from jobfac.operations.bulk import many
from jobfac.settings import Settings
from jobfac.store.api_keys import Role
from jobfac.web import visit
from tests.support.api_stage import Served
from tests.support.engines import DRIVERS
from tests.support.factory import wait_for

pytestmark = pytest.mark.mssql

JOB = "EXEC sp_getapplock N'jobfac:job:limited', N'Exclusive', N'Transaction'"

REBUILDS = {
    "ALTER INDEX ix_run_claim ON jobfac.run REBUILD": None,
    "ALTER INDEX pk_job ON jobfac.job REBUILD": ["one"],  # the check of a limited key reads it
}
"""Readers of the table wait for it. With each the categories of the keys that read."""


@contextmanager
def held(db: Database, statement: str) -> Iterator[None]:
    """Execute a statement in a DBA's transaction that stays open inside the block."""
    dba = Database(db.url.render_as_string(hide_password=False))
    with dba.engine.connect() as conn:
        conn.exec_driver_sql(statement)
        yield
        conn.rollback()
    dba.close()


@pytest.fixture
def locked(url: str, settings: Settings) -> Iterator[Served]:
    db = Database(url)
    with Served(db, replace(settings, api_port=0)) as served:
        served.define("limited", already_running="queue")
        yield served
    db.close()


@pytest.mark.parametrize("url", DRIVERS, indirect=True)
def test_starts_of_a_locked_job_leave_threads_to_what_reads(locked: Served) -> None:
    """Sixteen of two keys or of one start URL had all threads for 40 s, and pages, /readyz and /metrics waited."""
    address = locked.admin.post("/v1/jobs/limited/urls").json()["url"]
    keys = [locked.client(locked.key(Role.OPERATOR)) for _ in range(2)]
    outside, count = locked.client(None), app.THREADS
    with ThreadPoolExecutor(3 * count) as clients, held(locked.db, JOB):
        starts = [clients.submit(outside.post, address) for _ in range(count)]
        for key in keys:
            starts += [clients.submit(key.post, "/v1/jobs/limited/runs") for _ in range(count)]
        wait_for(lambda: _busy(locked) >= app.TOGETHER.changing, "they wait for the lock")
        for path in ("/readyz", "/metrics", "/v1/runs", "/"):
            assert locked.viewer.get(path, timeout=5).is_success, path
        assert outside.get("/login", timeout=5).is_success
        assert not any(start.done() for start in starts)
    assert {start.result().status_code for start in starts} == {201, 202}


@pytest.mark.parametrize("url", DRIVERS, indirect=True)
def test_calls_with_tokens_that_are_made_up_keep_no_start_url_out(url: str, settings: Settings) -> None:
    db = Database(url)
    with Served(db, replace(settings, api_port=0, api_connections=40)) as served, ThreadPoolExecutor(25) as clients:
        served.define("limited")
        address = served.admin.post("/v1/jobs/limited/urls").json()["url"]
        outside = served.client(None)
        with held(db, "ALTER INDEX pk_start_url ON jobfac.start_url REBUILD"):
            made_up = [clients.submit(outside.post, f"{address[:-4]}{number:04}") for number in range(24)]
            wait_for(lambda: _busy(served) >= strangers.CHECKS, "they wait for the table")
            call = clients.submit(outside.post, address)
            # A call that is refused ends at once, and one that is not waits for the table.
            assert wait([call, *made_up], timeout=0.5, return_when=FIRST_COMPLETED).done == set()
        assert call.result().status_code == 202
        assert {one.result().status_code for one in made_up} == {404}
    db.close()


def _busy(served: Served) -> int:
    """How many connections to the database have work."""
    return served.db.engine.pool.checkedout()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("url", DRIVERS, indirect=True)
@pytest.mark.parametrize(("rebuild", "categories"), REBUILDS.items(), ids=["of runs", "of jobs"])
def test_reads_of_a_locked_table_leave_threads_to_the_login_and_to_the_readiness(
    locked: Served, rebuild: str, categories: list[str] | None
) -> None:
    keys = [locked.client(locked.key(Role.VIEWER, categories)) for _ in range(2)]
    outside, count = locked.client(None), app.THREADS
    number = locked.start("limited")
    assert all(known.get("/readyz").is_success and known.get("/v1/jobs").is_success for known in keys)
    with ThreadPoolExecutor(4 * count) as clients, held(locked.db, rebuild):
        reads = []
        for key in keys:
            reads += [clients.submit(key.get, "/v1/runs") for _ in range(count)]
            reads += [clients.submit(key.get, f"/v1/runs/{number}/output") for _ in range(count)]
        wait_for(lambda: _busy(locked) >= app.TOGETHER.any_kind, "they wait for the table")
        assert outside.get("/readyz", timeout=5).is_success
        login = {"Origin": locked.url}
        answer = outside.post("/login", data={"key": locked.keys[Role.VIEWER]}, headers=login, timeout=5)
        assert answer.status_code == 303
        assert not any(read.done() for read in reads)
    assert {read.result().status_code for read in reads} <= {200, 404}


@pytest.mark.parametrize("url", DRIVERS, indirect=True)
def test_one_locked_job_keeps_no_other_runs_from_being_stopped(
    url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call ended with 503 at the first of its runs, and the others ran on."""
    monkeypatch.setattr(routing, "RETRY_FOR", 0.0)
    monkeypatch.setattr(many, "MOST_WAITS", 2)
    db = Database(url, lock_wait=0.1)
    with Served(db, replace(settings, api_port=0)) as served:
        for job in ("limited", "second", "other"):
            served.define(job, already_running="queue")
        chosen = [served.start(job) for job in ("other", "limited", "limited", "limited", "other")]
        with held(db, JOB):
            stopped = served.operator.post("/v1/runs:stop", json={"runs": chosen})
            assert stopped.status_code == 200, stopped.text
            results = {one["id"]: one["result"] for one in stopped.json()["items"]}
        assert [results[number] for number in chosen] == ["done", "refused", "refused", "refused", "done"]
        assert "an open transaction of the database holds a lock" in stopped.text
        some = [served.start(job) for job in ("other", "limited", "second", "other")]
        with held(db, f"{JOB}; {JOB.replace('limited', 'second')}"):
            stopped = served.operator.post("/v1/runs:stop", json={"runs": some})
            assert stopped.status_code == 200, "who asked has to know what was stopped"
        lines = stopped.json()["items"]
        assert sorted(one["result"] for one in lines) == ["done", "refused", "refused", "refused"]
        assert [one["job"] for one in lines if one["reason"] == many.NOT_TRIED] == ["other"]
    db.close()


@pytest.mark.each_driver
@pytest.mark.parametrize("url", DRIVERS, indirect=True)
def test_a_start_gives_up_a_lock_and_only_the_log_names_it(
    url: str, tds: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The response was that the database cannot be reached. A key may not know a job inside its sequence."""
    for module in (routing, visit):
        monkeypatch.setattr(module, "RETRY_FOR", 0.0)
    db = Database(url, lock_wait=0.1)
    with Served(db, replace(settings, api_port=0)) as served:
        # Each line of the log comes once in a minute. SQL Server's view shows all of one of the two names only.
        job = db.url.get_driver_name() * 3
        served.define(job, already_running="queue")
        with held(db, JOB.replace("limited", job)):
            refused = served.operator.post(f"/v1/jobs/{job}/runs")
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
            assert refused.json()["detail"].startswith("Another transaction of the database, such as one that a DBA")
            assert f"jobfac:job:{job}" not in refused.text
            assert f"the lock [jobfac:job:{job}]; a DBA finds its holder in sys.dm_tran_locks." in _said(caplog)
            pages = served.client(served.keys[Role.OPERATOR], headers={"Origin": served.url})
            page = pages.post(f"/jobs/{job}/start", data={})
            assert (page.status_code, "lock that this needs. What you asked for" in page.text) == (503, True)
            assert len(_said(caplog).splitlines()) == 1, "a page and a call have one line in a minute"
            with psycopg.connect(f"{tds.dsn} dbname={db.url.database}", autocommit=True) as server:
                server.execute(HOLDERS.replace("NAME", f"jobfac:job:{job}"[:32]))
                assert served.operator.post(f"/v1/jobs/{job}/runs").status_code == 503
                server.execute("DROP VIEW sys.dm_tran_locks")
            doubt = "perhaps " if len(f"jobfac:job:{job}") > 32 else ""
            assert re.search(rf"; its holder is {doubt}session \d+, login eve, host pc7, program \?\.", _said(caplog))
    db.close()


HOLDERS = """\
CREATE OR REPLACE VIEW sys.dm_exec_sessions AS SELECT pg_backend_pid() AS session_id, 'eve' AS login_name,
    'pc7' AS host_name, NULL AS program_name;
CREATE VIEW sys.dm_tran_locks AS SELECT pg_backend_pid() AS request_session_id,
    dbo.db_id() AS resource_database_id,
    'APPLICATION' AS resource_type, 'GRANT' AS request_status, '0:[NAME]:(5f1e2a)' AS resource_description
"""
"""What a login with VIEW SERVER STATE sees on SQL Server."""


def _said(caplog: pytest.LogCaptureFixture) -> str:
    fields = [getattr(record, "fields", {}) for record in caplog.records]
    return "\n".join(str(one["reason"]) for one in fields if "reason" in one)
