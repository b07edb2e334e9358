"""A start costs no more beside a long backlog: a thousand starts share a transaction, for which all writers wait."""

import pytest

from jobfac.database.engine import Database
from jobfac.store import runs
from jobfac.store.runs import StartRequest
from tests.support.database import define


def _steps(db: Database, job: str, key: str, number: int) -> int:
    """Start runs. Returns how many hundreds of steps SQLite's machine needed."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    with db.begin() as conn:
        connection = conn.connection.driver_connection
        assert connection is not None
        connection.set_progress_handler(count, 100)
        runs.start_numbered(conn, StartRequest(job=job, by="me", key=key), 0, number)
        connection.set_progress_handler(None, 100)
    return steps


@pytest.mark.parametrize("policy", ["queue", "deny"])
def test_runs_that_wait_do_not_delay_a_start(sqlite_url: str, policy: str) -> None:
    db = Database(sqlite_url)
    define(db, one={"already_running": policy})
    first = _steps(db, "one", "first", 50)
    _steps(db, "one", "more", 400)
    last = _steps(db, "one", "last", 50)
    db.close()
    assert last < 1.5 * first
