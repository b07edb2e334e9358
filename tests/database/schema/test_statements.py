"""Properties of the SQL statements: the indexes that they use, the rows that they lock, and no scans of the history."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mssql

from jobfac import definitions
from jobfac.database import tables
from jobfac.database.dialects import lists, parameter_types, utcnow
from jobfac.database.dialects.mssql import Mssql
from jobfac.database.dialects.rows import rows_table
from jobfac.database.engine import Database
from jobfac.database.tables import run
from jobfac.scheduler.poll import POLL
from jobfac.states import RunState
from jobfac.store import audit, output, overview, retention, runs, schedules, statistics, watching, workers
from jobfac.store.history import retries
from jobfac.store.output import Stored
from jobfac.store.runs import Finished, Outcome, StartRequest, subscribers
from jobfac.store.schedules import pausing
from jobfac.store.triggers import start_urls
from tests.support.database import Hand, define, make_due, start
from tests.support.engines import ENGINES

ON_MSSQL = pytest.mark.parametrize("url", [engine for engine in ENGINES if engine != "sqlite"], indirect=True)
INDEXED = "state|queue|priority|id|run_id|worker_id|ready_at|lease_until|concurrency_key|start_key|job"


HISTORY = """\
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 100000)
INSERT INTO run (job, job_version, kind, state, queue, priority, attempt, worker_id, created_at, created_by, started_at,
                 ended_at, restartable, already_running, concurrency_key, concurrency_limit)
SELECT CASE n % 2 WHEN 0 THEN 'job' ELSE 'one' END, 1, 'program', 'succeeded', 'default', 0, 1, 1, moment, 'me', moment,
       moment, 1, 'queue', 'k', 1
FROM numbers, (SELECT '2026-01-01 00:00:00.000000' AS moment)"""


@contextmanager
def sent(db: Database) -> Iterator[list[tuple[str, Any]]]:
    """Yield a list of all statements sent meanwhile, with their parameters."""
    statements: list[tuple[str, Any]] = []

    def listen(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        statements.append((statement, parameters[0] if isinstance(parameters, list) else parameters))

    sa.event.listen(db.engine, "before_cursor_execute", listen)
    yield statements
    sa.event.remove(db.engine, "before_cursor_execute", listen)


def a_day(db: Database) -> None:
    """Make every kind of event of a busy day happen once."""
    define(
        db, job={}, one={"already_running": "queue", "concurrency": {"key": "k"}}, fresh={"already_running": "replace"}
    )
    for job in ("job", "job", "job", "one", "one", "one", "fresh", "fresh"):
        start(db, job)
    start(db, "job", key="k1")
    start(db, "job", delay=60.0)
    hand = Hand(db)
    first, second, *others = hand.claim()
    db.transact(output.append, [Stored(first.id, 1, "stdout", 0, b"x")])
    db.transact(runs.report_progress, first.id, 1, 0.5, None)
    hand.end(first)
    hand.end(second, RunState.FAILED, retry_after=60.0)
    for other in others:
        db.transact(runs.request_stop, other.id, now=False, by="me")
    hand.renew()
    make_due(db)
    db.transact(runs.promote_due, "w1")
    db.transact(workers.held_by, hand.id)
    hand.claim(queues=["default", "big"])
    hand.die()
    db.transact(runs.release_blocked, None, "w1")
    hand.end(first)


@pytest.fixture(scope="module")
def history(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a history of 100,000 runs."""
    path = tmp_path_factory.mktemp("history") / "jobfac.db"
    shutil.copy(sqlite_template, path)
    db = Database(f"sqlite:///{path}")
    define(db, job={})
    db.transact(runs.start_many, StartRequest("job", "me"), 50)
    with db.begin() as conn:
        conn.exec_driver_sql(HISTORY)
    db.transact(runs.start_many, StartRequest("job", "me", priority=1), 50)
    db.close()
    return path


@pytest.fixture
def old(history: Path, tmp_path: Path) -> Iterator[Database]:
    """A SQLite database with a history of 100,000 runs."""
    shutil.copy(history, tmp_path / "old.db")
    db = Database(f"sqlite:///{tmp_path / 'old.db'}")
    yield db
    db.close()


def plan(db: Database, statement: str, parameters: Any) -> list[str]:
    """Return SQLite's query plan, one line for each step."""
    with db.read() as conn:
        return [row[3] for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]


@pytest.mark.slow
@pytest.mark.parametrize("analyzed", [False, True])
def test_after_100_000_runs_the_claim_is_an_ordered_index_search(old: Database, analyzed: bool) -> None:
    if analyzed:
        with old.begin() as conn:
            conn.exec_driver_sql("ANALYZE")
    hand = Hand(old)
    with sent(old) as statements:
        assert [c.priority for c in hand.claim()] == [1] * 10
    ((claim, parameters),) = [one for one in statements if one[0].startswith("UPDATE run SET state")]
    steps = plan(old, claim, parameters)
    assert any("USING COVERING INDEX ix_run_claim (queue=?)" in step for step in steps), steps
    assert not any("TEMP B-TREE" in step for step in steps), steps


@pytest.mark.slow
def test_after_100_000_runs_nothing_reads_the_history(old: Database) -> None:
    with sent(old) as statements:
        a_day(old)
    seen = 0
    for statement, parameters in statements:
        if not statement.startswith(("SELECT", "UPDATE", "DELETE", "INSERT")):
            continue
        for step in plan(old, statement, parameters):
            seen += "run" in step
            whole = re.search(
                r"SCAN (run|attempt|run_event|run_output)(?! USING INDEX ix_run_(blocked|ready|active|held))\b", step
            )
            assert not whole, (statement, step)
            history = re.search(r"ix_run_job|ix_run_ended|ix_run_concurrency \(concurrency_key=\?\)", step)
            assert not history, (statement, step)
    assert seen > 30


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_the_list_of_retried_runs_is_read_once_and_not_for_each_retry(db: Database) -> None:
    with sent(db) as statements:
        db.query(retries.last_ones, "job", {1, 2})
    (retried,) = [one for one in statements if "given_firsts" in one[0]]
    steps = plan(db, *retried)
    assert any("LIST SUBQUERY" in step for step in steps), steps


def test_the_claim_seeks_in_index_order_and_skips_locked_rows() -> None:
    statement = Mssql().claim(5)
    assert isinstance(statement, sa.ClauseElement)
    text = re.sub(r"\s+", " ", str(statement.compile(dialect=mssql.dialect())))
    cte = re.match(r"WITH next AS \((.*?)\) UPDATE next SET (.*?) OUTPUT inserted\.id, ", text)
    assert cte is not None, text
    assert re.fullmatch(
        r"SELECT TOP \S+ .* FROM run WITH \(UPDLOCK, READPAST, ROWLOCK, READCOMMITTEDLOCK, FORCESEEK\) "
        r"WHERE state = 'queued' AND run\.queue = \S+ ORDER BY run\.priority DESC, run\.id",
        cte[1],
    )
    assert "attempt=(next.attempt + " in cte[2]


@ON_MSSQL
def test_what_decides_by_a_run_that_is_missing_passes_over_no_run(db: Database) -> None:
    """READPAST skips a row that is just being written, such as a success that is being counted. The test server does
    not, when a statement only reads."""
    body = {"command": ["x"], "pause_after": 1, "expect": {"every": "1h"}, "schedules": [{"cron": "0 6 * * *"}]}
    db.transact(schedules.put, "job", definitions.from_data({"jobs": {"job": body}}).jobs["job"], "me")
    with db.begin() as conn:
        conn.execute(tables.expectation.update().values(due_at=utcnow(-1000)))
    with sent(db) as statements:
        db.transact(pausing.pause_failing, [Finished(1, "job", RunState.FAILED, None, None)])
        db.transact(watching.watch)
        with db.read() as conn:
            for number in (subscribers.EARLIER, subscribers.OF_FLEET):
                conn.execute(subscribers._recoveries(db.dialect.name, number), {"ids": lists.as_list([1])})
        db.query(start_urls.overtaken, "job", 1, start_urls.Delivery(None, "a" * 64, 60), "key")
    found = [text for text, _ in statements if re.search(r"FROM (jobfac\.)?run\b", text)]
    assert len(found) == 5
    assert not any("READPAST" in text for text in found)


@pytest.mark.each_driver
def test_many_outcomes_take_as_many_statements_as_few(db: Database) -> None:
    """Each statement is one or two round trips to SQL Server. A failure between two could lose the rest."""
    define(db, job={})
    db.transact(runs.start_many, StartRequest("job", "me"), 22)
    hand = Hand(db, slots=22)
    taken = hand.claim()
    counts = []
    for few in (taken[:2], taken[2:]):
        outcomes = [
            Outcome(one.id, 1, RunState.FAILED, retry_after=None if number % 2 else 1.0)
            for number, one in enumerate(few)
        ]
        with sent(db) as statements:
            db.transact(runs.finish, hand.id, outcomes, "w1")
        counts.append(len(statements))
        changes = [statement for statement, _ in statements if statement.startswith("UPDATE")]
        assert len(changes) == 3
        if db.dialect.name == "mssql":
            assert all("WITH (ROWLOCK, FORCESEEK), (SELECT * FROM OPENJSON(?) WITH" in change for change in changes)
            assert not any(re.match(r"UPDATE \S+ WITH", change) for change in changes)
    assert counts[0] == counts[1]
    with db.read() as conn:
        ended = conn.execute(sa.select(run.c.state, sa.func.count()).group_by(run.c.state)).all()
    assert sorted(map(tuple, ended)) == [("failed", 11), ("scheduled", 11)]


@ON_MSSQL
def test_no_function_is_wrapped_around_an_indexed_column(db: Database) -> None:
    with sent(db) as statements:
        a_day(db)
    assert len(statements) > 60
    wrapped = re.compile(
        rf"\b(?!(?:IN|EXISTS|AND|OR|WHERE|NOT|MIN|MAX|COUNT)\b)\w+ ?\((?:\w+\.)?\b({INDEXED})\b[^()]*\)", re.IGNORECASE
    )
    for statement, _ in statements:
        for condition in re.findall(r"\bWHERE\b.*?(?=ORDER BY|OUTPUT|$)", statement, re.DOTALL):
            assert not wrapped.search(condition), statement


@ON_MSSQL
def test_locking_statements_are_bounded_and_lock_rows(db: Database) -> None:
    with sent(db) as statements:
        a_day(db)
    locking = [statement for statement, _ in statements if "UPDLOCK" in statement]
    assert len(locking) >= 10
    for statement in locking:
        (hint,) = set(re.findall(r"WITH \(([^)]*UPDLOCK[^)]*)\)", statement))
        by_key = re.search(r"WHERE \S*(run\.id|worker\.id|start_key|run\.job)\S* (=|IN)", statement)
        assert "SELECT TOP" in statement or by_key, statement
        assert "ROWLOCK" in hint or "HOLDLOCK" in hint, statement
        assert "FORCESEEK" in hint or "run.id IN" not in statement, statement
        # A sorted or joined query locks rows before it knows whether it returns them.
        assert "READPAST" in hint or "priority DESC" not in statement, statement
        assert "IN (SELECT" not in statement, statement
    assert sum("READPAST" in statement for statement in locking) >= 4


@ON_MSSQL
def test_readpast_is_combined_with_readcommittedlock(db: Database) -> None:
    """Otherwise SQL Server refuses the hint in a database with READ_COMMITTED_SNAPSHOT, or reads row versions."""
    with sent(db) as statements:
        a_day(db)
        db.query(overview.read)
        db.query(overview.by_worker, ["red"], 6)
        db.query(lambda conn: conn.execute(POLL).one())
        db.dialect.waiter(db.engine, "server").wait(["default"], 1, 0, 0.01)
    hints = [hint for text, _ in statements for hint in re.findall(r"WITH \(([^)]*READPAST[^)]*)\)", text)]
    assert len(hints) > 20
    for hint in hints:
        assert "ROWLOCK" in hint, hint
        assert "UPDLOCK" in hint or "READCOMMITTEDLOCK" in hint, hint


@ON_MSSQL
def test_keys_that_differ_in_case_or_trailing_blanks_share_a_lock(db: Database) -> None:
    define(db, a={"concurrency": {"key": "ERP"}}, b={"concurrency": {"key": "erp  "}})
    with sent(db) as statements:
        start(db, "a")
        start(db, "b")
    locks = [parameters for text, parameters in statements if "sp_getapplock" in text]
    assert locks == [("jobfac:key:erp",)] * 2


@pytest.mark.each_driver
@ON_MSSQL
def test_each_statement_has_one_declaration_for_all_values(db: Database, tds: Any) -> None:
    """Otherwise SQL Server would compile the statement again for every length, and cache a plan for each."""
    define(db, job={}, other={"concurrency": {"key": "k"}})
    hand = Hand(db)
    for number in (1, 300, 70_000, 2**40):
        long = "x" * min(number, 3000)
        for job in ("job", "other"):
            start(db, job, payload=long, arguments=[long], key=f"{job}{number}", priority=number % 1000)
        for claimed in hand.claim(2):
            chunk = Stored(claimed.id, 1, "stdout", number, b"x" * (number % 9000))
            db.transact(output.append, [chunk])
            db.transact(runs.report_progress, claimed.id, 1, 1 / number if number > 1 else None, long[:900])
            hand.end(
                claimed, RunState.FAILED if number % 2 else RunState.SUCCEEDED, reason=long, exit_code=number % 256
            )
        db.transact(statistics.count)
    for days in (1, 400):
        db.transact(statistics.forget, days * 86400.0)
    seen = [(text[:300], made) for text, made in tds.command(declarations=True)["texts"]]
    assert seen == []


def test_rows_have_the_types_of_their_columns() -> None:
    """A DATETIME would be read as the session's DATEFORMAT says, and the column converted to it in each row."""
    columns = {column.name: column.type for table in tables.metadata.sorted_tables for column in table.c}
    text = str(rows_table("mssql", **columns).element)
    assert re.search(r"\bday DATE[,)]", text), text
    assert "DATETIME," not in text
    assert "ended_at DATETIME2(3)" in text


def test_a_parameter_is_declared_by_its_column() -> None:
    day = datetime(2027, 1, 31)
    assert parameter_types.declared(tables.daily.c.day.type, [day]) == parameter_types.DATE
    assert parameter_types.declared(run.c.state.type, ["queued", None]) == (parameter_types.VARCHAR, 4000, 0)
    assert parameter_types.declared(run.c.job.type, ["a", "b" * 128]) == (parameter_types.NVARCHAR, 4000, 0)
    assert parameter_types.declared(run.c.job.type, ["b" * 129]) == (parameter_types.NVARCHAR, 4000, 0)
    assert parameter_types.declared(run.c.payload.type, ["b"]) == parameter_types.NVARCHAR_MAX
    assert parameter_types.declared(run.c.attempt.type, [1]) == parameter_types.declared(run.c.id.type, [2**40])
    assert parameter_types._bound(day, parameter_types.DATE, None) == date(2027, 1, 31)


@pytest.mark.each_driver
def test_a_time_shift_of_a_hundred_years_does_not_overflow(db: Database) -> None:
    define(db, job={})
    century = 36525 * 86400.0
    assert not db.transact(audit.forget, century)
    assert not db.transact(retention.forget_workers, century)
    start(db, "job", delay=century)


@ON_MSSQL
def test_states_of_filtered_indexes_are_literals(db: Database) -> None:
    """The engine uses a filtered index only if the condition contains a literal, not a parameter."""
    with sent(db) as statements:
        a_day(db)
    searching = [
        s for s, _ in statements if re.search(r"FROM jobfac\.run\b", s) and "run.id =" not in s and "run.id IN" not in s
    ]
    assert len(searching) > 10
    for statement in searching:
        sql_literals = re.search(r"state (= '\w+'|IN \('\w+')", statement)
        other_index = re.search(r"start_key =|concurrency_key =|schedule_id =|sequence_run_id =", statement)
        assert sql_literals or other_index, statement
