"""Deadlocks that the drivers do not bring about in a certain order: of a first statement, and of named locks."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.tds_server.errors import SqlError
from tests.tds_server.harness import TestServer
from tests.tds_server.session.backends import Backends
from tests.tds_server.session.storage import Storage

LOCK = "SELECT pg_advisory_xact_lock($1)"


@pytest.fixture
def two(server: TestServer, database: str) -> Iterator[tuple[Storage, Storage]]:
    """The storage of two sessions, each in a transaction."""
    made = [Storage(Backends(server.dsn).take(database), lambda: False) for _ in range(2)]
    for one in made:
        one.begin()
    yield made[0], made[1]
    for one in made:
        one.close()


def test_a_first_statement_that_is_the_victim_leaves_no_transaction(two: tuple[Storage, Storage]) -> None:
    first, second = two
    first.run(LOCK, [1])
    with ThreadPoolExecutor() as pool:
        # The session that begins to wait last is the victim.
        waiting: Future[Any] = pool.submit(
            second.run, "SELECT pg_advisory_xact_lock(2), pg_sleep(0.6), pg_advisory_xact_lock(1)"
        )
        while not first.run("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 2").fetchone():
            pass
        first.run(LOCK, [2])
        with pytest.raises(SqlError, match="deadlock victim"):
            waiting.result()
    assert second.depth == 0
    assert second.run("SELECT 5").fetchone() == (5,)


def test_a_named_lock_that_is_the_victim_leaves_the_transaction_as_it_is(two: tuple[Storage, Storage]) -> None:
    met = threading.Barrier(2)

    def cross(one: Storage, mine: str, theirs: str) -> tuple[int, int, int]:
        """Take both names; returns the answer for the second one, the depth after it, and what is left of a change."""
        one.run("CREATE TEMPORARY TABLE changed AS SELECT 7")
        assert one.lock(mine, False, False, 5000) == 0
        met.wait(10)
        answer = one.lock(theirs, False, False, 5000)
        left = one.depth, one.run("SELECT count(*) FROM changed").fetchone()[0]  # type: ignore[index]
        one.rollback()
        return answer, *left

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(cross, two, ["one", "two"], ["two", "one"]))
    assert sorted(found) == [(-3, 1, 1), (0, 1, 1)]
