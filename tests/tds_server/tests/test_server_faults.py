"""Fault rules, and the counts of round trips."""

import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.tds_server import grammar, harness
from tests.tds_server.faults import COMMIT, CONTROL, LOGIN, STATEMENT, Event, Script, parse_rule
from tests.tds_server.harness import TestServer
from tests.tds_server.tests import queue_table
from tests.tds_server.tests.queue_table import run

# Rules, without a server


def fired(rule: str, events: list[Event], seed: int = 0) -> list[int]:
    """Return for each event whether the rule applies to it."""
    script = Script([rule], seed)
    return [number for number, event in enumerate(events, start=1) if script.matching(event)]


TEN = [Event(STATEMENT, "UPDATE next SET state = N'running'", "worker one")] * 10


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("error 1205 at 3", [3]),
        ("error 1205 every 4", [4, 8]),
        ("error 1205 first 2", [1, 2]),
        ('stall 0.5 matching "update .*running" every 5', [5, 10]),
        ('error 1205 matching "DELETE"', []),
        ('drop before by "worker one" at 2', [2]),
        ('drop after by "worker two" at 2', []),
        ("drop before commit at 1", []),
        ("error 40613 login always", []),
        ("failover 2", list(range(1, 11))),
    ],
)
def test_a_rule_applies_at_its_frequency(rule: str, expected: list[int]) -> None:
    assert fired(rule, TEN) == expected


def test_the_same_seed_gives_the_same_chance() -> None:
    chosen = fired("error 1205 chance 0.5", TEN * 20, seed=5)
    assert chosen == fired("error 1205 chance 0.5", TEN * 20, seed=5)
    assert chosen != fired("error 1205 chance 0.5", TEN * 20, seed=6)
    assert 60 < len(chosen) < 140


def test_each_rule_counts_only_its_events() -> None:
    script = Script(["error 1205 commit at 2", "stall 1 login at 1"])
    kinds = [COMMIT, STATEMENT, LOGIN, COMMIT]
    assert [[rule.action for rule in script.matching(Event(kind, "", ""))] for kind in kinds] == [
        [],
        [],
        ["stall"],
        ["error"],
    ]


def test_an_error_does_not_affect_requests_without_data() -> None:
    events = [Event(CONTROL, "", ""), Event(STATEMENT, "", "")]
    assert fired("error 1205", events) == [2]
    assert fired("drop before", events) == [1, 2]


@pytest.mark.parametrize("rule", ["explode", "drop", "drop sideways", "error", "error 1205 at", "error 1205 often"])
def test_an_invalid_rule_is_refused(rule: str) -> None:
    with pytest.raises(ValueError, match=f"fault rule '{rule}'"):
        parse_rule(rule)


# Faults on the wire


@pytest.fixture
def queue(engine: sa.Engine) -> sa.Engine:
    """The queue's tables with one row. A connection is in the pool."""
    queue_table.create(engine, 1)
    return engine


def attempts(engine: sa.Engine) -> int:
    with engine.connect() as conn:
        return int(conn.execute(sa.select(run.c.attempt)).scalar_one())


def raise_attempt(engine: sa.Engine) -> None:
    with engine.begin() as conn:
        conn.execute(run.update().values(attempt=run.c.attempt + 1))


def test_an_error_affects_one_statement(server: TestServer, queue: sa.Engine) -> None:
    server.faults('error 1222 matching "UPDATE jobfac.run" at 2')
    raise_attempt(queue)
    with pytest.raises(sa.exc.DBAPIError, match="Lock request time out"):
        raise_attempt(queue)
    raise_attempt(queue)
    assert attempts(queue) == 2
    assert server.stats()["faults"] == [{"rule": 'error 1222 matching "UPDATE jobfac.run" at 2', "seen": 3, "fired": 1}]


def test_an_injected_deadlock_rolls_back(server: TestServer, queue: sa.Engine) -> None:
    with queue.connect() as conn:
        conn.execute(run.update().values(attempt=5))
        server.faults("error 1205 at 1")
        with pytest.raises(sa.exc.DBAPIError, match="deadlock victim"):
            conn.execute(run.update().values(attempt=6))
        assert conn.execute(sa.select(run.c.attempt)).scalar_one() == 0


def test_a_drop_before_the_commit_loses_the_transaction(server: TestServer, queue: sa.Engine) -> None:
    server.faults("drop before commit at 1")
    with pytest.raises(sa.exc.DBAPIError) as raised:
        raise_attempt(queue)
    assert raised.value.connection_invalidated
    assert attempts(queue) == 0


def test_a_drop_after_the_commit_loses_only_the_answer(server: TestServer, queue: sa.Engine) -> None:
    server.faults("drop after commit at 1")
    with pytest.raises(sa.exc.DBAPIError):
        raise_attempt(queue)
    assert attempts(queue) == 1


def test_a_drop_after_an_autocommitted_statement_loses_only_the_answer(server: TestServer, queue: sa.Engine) -> None:
    server.faults('drop after matching "UPDATE jobfac.run" at 1')
    with queue.connect().execution_options(isolation_level="AUTOCOMMIT") as conn, pytest.raises(sa.exc.DBAPIError):
        conn.execute(run.update().values(attempt=7))
    assert attempts(queue) == 7


def test_a_stalled_answer_is_late(server: TestServer, queue: sa.Engine) -> None:
    server.faults('stall 0.3 matching "SELECT 1" at 1')
    with queue.connect() as conn:
        started = time.monotonic()
        assert conn.exec_driver_sql("SELECT 1").scalar_one() == 1
    assert time.monotonic() - started >= 0.3


def test_an_error_of_a_failing_database_ends_the_connection(server: TestServer, queue: sa.Engine) -> None:
    server.faults('error 40613 matching "UPDATE" at 1')
    with queue.connect() as conn:
        with pytest.raises(sa.exc.DBAPIError, match="not currently available"):
            conn.execute(run.update().values(attempt=7))
        with pytest.raises(sa.exc.DBAPIError) as raised:
            conn.execute(run.update().values(attempt=7))
        assert raised.value.connection_invalidated
    assert attempts(queue) == 0


def test_a_login_error_refuses_logins(server: TestServer, url: sa.URL) -> None:
    server.faults("error 40613 login first 2")
    fresh = sa.create_engine(url)
    for _ in range(2):
        with pytest.raises(sa.exc.DBAPIError, match="not currently available"):
            fresh.connect()
    fresh.connect().close()
    fresh.dispose()


def until(condition: Any) -> None:
    """Wait for a condition, which handles the errors that it expects."""
    end = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def answers(engine: sa.Engine) -> bool:
    try:
        with engine.connect() as conn:
            return bool(conn.exec_driver_sql("SELECT 1").scalar_one())
    except sa.exc.DBAPIError:
        return False


def test_a_failover_cuts_all_connections_and_refuses_logins(server: TestServer, queue: sa.Engine) -> None:
    with queue.connect() as one, queue.connect() as two:
        two.exec_driver_sql("SELECT 1")
        server.faults('failover 0.5 matching "SELECT 2" at 1')
        for conn, statement in ((one, "SELECT 2"), (two, "SELECT 1")):
            with pytest.raises(sa.exc.DBAPIError) as raised:
                conn.exec_driver_sql(statement)
            assert raised.value.connection_invalidated
    assert not answers(queue)
    until(lambda: answers(queue))


def test_new_connections_are_refused_until_allowed_again(server: TestServer, url: sa.URL) -> None:
    fresh = sa.create_engine(url)
    server.command(refuse=True)
    try:
        assert not answers(fresh)
    finally:
        server.command(refuse=False)
    assert answers(fresh)
    fresh.dispose()


def test_an_unknown_command_is_refused(server: TestServer) -> None:
    with pytest.raises(ValueError, match="unknown command"):
        server.command(explode=True)
    with pytest.raises(ValueError, match="no action"):
        server.faults("explode")


# Counting and recording


def test_round_trips_are_counted_by_program_and_process(server: TestServer, queue: sa.Engine) -> None:
    with queue.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.exec_driver_sql("SELECT 1")
        server.command(reset=True)
        for _ in range(5):
            conn.exec_driver_sql("SELECT 1")
        found = server.stats()
    assert found["round_trips"] == 5
    assert found["by_process"] == {str(os.getpid()): 5}
    assert sum(found["by_program"].values()) == 5


def test_round_trips_are_counted_under_the_program_name(server: TestServer, database: str) -> None:
    engine = sa.create_engine(harness.url(server.port, "pyodbc", database, program=f"program {random.random()}"))
    with engine.connect() as conn:
        assert conn.dialect.name == "mssql"
    name = engine.url.query["APP"]
    engine.dispose()
    assert server.stats()["logins"][name] == 1


def test_statements_are_recorded_for_the_grammar(server: TestServer, queue: sa.Engine, tmp_path: Path) -> None:
    server.command(capture=str(tmp_path))
    try:
        for _ in range(3):
            raise_attempt(queue)
        with queue.connect() as conn:
            conn.execute(sa.text(queue_table.CLAIM), {"n": 1, "queue": "default", "worker": "w"})
    finally:
        server.command(capture=None)
    files = {path: path.read_text() for path in tmp_path.glob("*.sql")}
    assert sum("UPDATE jobfac.run" in text for text in files.values()) == 1
    assert any("UPDATE next" in text and "@P1" in text.splitlines()[0] for text in files.values())
    assert grammar.check_files(files) == []


def test_each_thread_gets_the_answers_to_its_own_commands(server: TestServer) -> None:
    def refusals(name: str) -> set[str]:
        found = set()
        for _ in range(200):
            with pytest.raises(ValueError, match="unknown") as caught:
                server.command(**{name: ""})
            found.add(str(caught.value))
        return found

    with ThreadPoolExecutor(2) as threads:
        one, other = threads.map(refusals, ["one", "other"])
    assert len(one) == len(other) == 1
    assert one != other
