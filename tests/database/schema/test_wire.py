"""What SQL Server gets over the wire: the session's settings, the program's name, dates as dates, lists as one text."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.cli.commands.database import _offer_snapshot
from jobfac.database.dialects import answers, waiting
from jobfac.database.dialects.mssql import SESSION, Mssql
from jobfac.database.engine import Database
from jobfac.database.tables import daily, run
from jobfac.doctor.engine import SNAPSHOT
from jobfac.errors import Unreachable
from jobfac.operations import jobs
from jobfac.operations.caller import Caller
from jobfac.store import audit, outbox, retention, statistics, workers
from jobfac.store.retention import Keep
from tests.support.database import Hand, define, start
from tests.support.engines import ENGINES

MSSQL = [engine for engine in ENGINES if engine != "sqlite"]
pytestmark = [pytest.mark.mssql, pytest.mark.each_driver, pytest.mark.parametrize("url", MSSQL, indirect=True)]
ME = Caller("me")


def test_the_day_of_the_statistics_is_sent_as_a_date(db: Database, tds: Any) -> None:
    """As a time it would convert the column, and SQL Server would read all days instead of one."""
    define(db, job={})
    start(db, "job")
    hand = Hand(db)
    hand.end(hand.take())
    assert db.transact(statistics.count) == 1
    with db.begin() as conn:
        conn.execute(daily.update().values(day=datetime(2020, 1, 31, tzinfo=UTC).date()))
    assert db.transact(statistics.forget, 86400.0)
    texts = tds.command(declared=r"(?s)\bjobfac\.daily(_worker)?\b.*\bday = @P1\b")["texts"]
    assert len(texts) >= 3
    for text, declarations in texts:
        types = dict(re.findall(r"(@P\d+) (\w+)", declarations[0]))
        compared = re.findall(r"\bday = (@P\d+)", text)
        assert {types[name] for name in compared} == {"date"}, (text, declarations)


def test_each_connection_begins_with_the_settings_that_jobfac_needs(url: str, tds: Any, faults: Any) -> None:
    for setting in ("XACT_ABORT ON", "NOCOUNT OFF", "NUMERIC_ROUNDABORT OFF", "LANGUAGE us_english"):
        assert f"SET {setting};" in SESSION
    sent = re.escape(SESSION.format(milliseconds=2500))
    faults(f'stall 0 matching "{sent}"')
    for isolation_level in ("READ COMMITTED", "AUTOCOMMIT"):
        engine = Mssql().engine(sa.make_url(url), isolation_level, 2.5)
        with engine.connect() as first, engine.connect() as second:
            first.exec_driver_sql("SELECT 1")
            second.exec_driver_sql("SELECT 1")
        engine.dispose()
    assert [rule["seen"] for rule in tds.stats()["faults"]] == [4]


def test_a_dba_sees_which_role_a_session_belongs_to(url: str, tds: Any) -> None:
    tds.command(reset=True)
    db = Database(url, "jobfac worker w1")
    db.query(lambda conn: conn.exec_driver_sql("SELECT 1").scalar())
    db.single(lambda conn: conn.exec_driver_sql("SELECT 1").scalar())
    db.close()
    logins = tds.stats()["logins"]
    if db.url.get_driver_name() == "pyodbc":  # mssql-python says its own name, whatever it is told
        assert logins["jobfac worker w1"] == 2
    else:
        assert "jobfac worker w1" not in logins


@pytest.mark.parametrize(("edition", "chosen"), [(5, "PollingWaiter"), (3, "ServerWaiter"), (8, "ServerWaiter")])
def test_azure_sql_database_is_polled_unless_the_setting_says_otherwise(
    db: Database, monkeypatch: pytest.MonkeyPatch, edition: int, chosen: str
) -> None:
    with db.begin() as conn:
        conn.exec_driver_sql("SELECT 1")
    monkeypatch.setattr(waiting, "_EDITION", f"SELECT {edition}")
    waiter = db.dialect.waiter(db.singles, "auto")
    assert isinstance(waiter, waiting.ChoosingWaiter)
    waiter.wait(["default"], 1, 0, 0.01)
    assert type(waiter.choice).__name__ == chosen
    for how, kind in (("server", waiting.ServerWaiter), ("polling", waiting.PollingWaiter)):
        assert type(db.dialect.waiter(db.singles, how)) is kind


def test_an_upgrade_offers_the_statement_that_ends_reading_with_locks(
    db: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    _offer_snapshot(db)
    assert capsys.readouterr().out == ""
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.exec_driver_sql("ALTER DATABASE CURRENT SET READ_COMMITTED_SNAPSHOT OFF")
    _offer_snapshot(db)
    (said, statement) = capsys.readouterr().out.splitlines()
    assert said.startswith("READ_COMMITTED_SNAPSHOT is off: readers and claims may deadlock.")
    assert statement.strip() == f"ALTER DATABASE CURRENT SET {SNAPSHOT};"
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.exec_driver_sql(statement)
    _offer_snapshot(db)
    assert capsys.readouterr().out == ""


def _maintain(db: Database, number: int) -> None:
    """Count, purge and forget ``number`` of everything, and remove and change as many schedules."""
    rules = [{"cron": f"{minute} 4 * * *"} for minute in range(number)]
    for some in (rules, rules[:1]):
        data = {"jobs": {"job": {"command": ["true"], "schedules": some}}}
        jobs.apply(db, ME, lambda known, data=data: d.from_data(data, known=known))  # type: ignore[misc]
    for _ in range(number):
        start(db, "job")
    hands = [Hand(db, f"w{one}") for one in range(number)]
    for claimed in hands[0].claim(number):
        hands[0].end(claimed)
    for hand in hands:
        db.transact(workers.deregister, hand.id)
    with db.begin() as conn:
        conn.execute(run.update().values(ended_at=datetime(2020, 1, 31, tzinfo=UTC)))
    retention.purge_all(db, Keep(86400.0))
    db.transact(retention.forget_workers, -1.0)
    db.transact(audit.forget, -1.0)
    db.transact(outbox.forget, -1.0)


def test_maintenance_sends_the_same_statements_however_many_rows_it_changes(db: Database) -> None:
    """A list of changing length is a statement, and a plan, for each length; a small table would be scanned for it."""
    texts: list[set[str]] = []

    def listen(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        texts[-1].add(statement)

    sa.event.listen(db.engine, "before_cursor_execute", listen)
    for number in (2, 5):
        texts.append(set())
        _maintain(db, number)
    changing = [text for text in texts[0] ^ texts[1] if re.match(r"(UPDATE|DELETE)", text)]
    assert changing == []
    deletions = [text for text in texts[1] if re.match(r"DELETE FROM (?!jobfac\.daily)", text)]  # a day is one key
    assert {re.match(r"DELETE FROM (\S+)", text)[1] for text in deletions} >= {  # type: ignore[index]
        f"jobfac.{name}" for name in ("run", "attempt", "run_event", "worker", "worker_lease", "audit", "schedule")
    }
    for text in deletions:
        assert re.match(r"DELETE FROM \S+ FROM \S+ WITH \(ROWLOCK, FORCESEEK\), \(SELECT \* FROM OPENJSON\(\?\)", text)


def test_a_server_that_answers_nothing_after_the_login_is_given_up(
    db: Database, faults: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A heartbeat would wait for ever, even when the server answers others again."""
    monkeypatch.setattr(answers, "ANSWER", 1.0)
    db.close()
    faults('silence 20 matching "SET XACT_ABORT" at 1')
    with pytest.raises(Unreachable):
        db.query(workers.workers, retry_for=0)
    faults()
    assert db.query(workers.workers) == []
