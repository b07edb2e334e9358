"""A start costs no more beside a long backlog: a thousand starts share a transaction, for which all writers wait.

Nor does a row of ``v_queue``: reports read all of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.store import runs
from jobfac.store.runs import StartRequest
from tests.support.database import define


@contextmanager
def _counted(conn: sa.Connection) -> Iterator[list[int]]:
    """Count how many hundreds of steps SQLite's machine needs: the length of the list."""
    steps: list[int] = []

    def count() -> int:
        steps.append(1)
        return 0

    connection = conn.connection.driver_connection
    assert connection is not None
    connection.set_progress_handler(count, 100)
    yield steps
    connection.set_progress_handler(None, 100)


def _steps(db: Database, job: str, key: str, number: int) -> int:
    """Start runs. Returns how many hundreds of steps that took."""
    with db.begin() as conn, _counted(conn) as steps:
        runs.start_numbered(conn, StartRequest(job=job, by="me", key=key), 0, number)
    return len(steps)


@pytest.mark.parametrize("policy", ["queue", "deny"])
def test_runs_that_wait_do_not_delay_a_start(sqlite_url: str, policy: str) -> None:
    db = Database(sqlite_url)
    define(db, one={"already_running": policy})
    first = _steps(db, "one", "first", 50)
    _steps(db, "one", "more", 400)
    last = _steps(db, "one", "last", 50)
    db.close()
    assert last < 1.5 * first


def test_the_queue_is_read_in_a_time_that_grows_with_its_length(sqlite_url: str) -> None:
    db = Database(sqlite_url)
    define(db, one={"already_running": "queue"})
    found = []
    for key in ("first", "more"):
        db.transact(runs.start_numbered, StartRequest(job="one", by="me", key=key), 0, 200)
        with db.read() as conn, _counted(conn) as steps:
            number = conn.exec_driver_sql("SELECT COUNT(waits_for) FROM v_queue").scalar_one()
        found.append(len(steps) / number)
    db.close()
    assert found[1] < 1.3 * found[0]
