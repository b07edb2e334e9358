"""How many kilobytes a finished run takes in a SQLite database, with its attempt, its events and all indexes.

python -m scripts.bench.size [RUNS]
"""

import sqlite3
import sys
import tempfile
from pathlib import Path

import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.operations import jobs
from jobfac.operations.caller import Caller
from jobfac.states import RunState
from jobfac.store import output, runs, statistics, workers
from jobfac.store.runs import Outcome, StartRequest
from jobfac.store.workers import Registration
from jobfac.store.workers.claiming import Claimed, Room

TOGETHER = 500
WHO = Registration("batch-1", "batch-1.example.org", 1, "token", "0", TOGETHER, ["default"], {})


def kilobytes(number: int, text: bytes) -> float:
    """The growth of a new database by so many runs, each with this output, in KB for each run."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "size.db")
        db = Database(f"sqlite:///{path}")
        db.upgrade()
        jobs.put(db, Caller("ann"), "orders-export", {"command": ["true"]})
        worker_id = db.transact(workers.register, WHO, 3600.0)
        before = _pages(path)
        for _ in range(number // TOGETHER):
            _execute(db, worker_id, text)
        while db.transact(statistics.count):
            pass
        grown = _pages(path) - before
        db.close()
    return grown / (number // TOGETHER * TOGETHER) / 1024


def _execute(db: Database, worker_id: int, text: bytes) -> None:
    """Start, claim and finish many runs."""

    def claim(conn: sa.Connection) -> list[Claimed]:
        workers.hold(conn, worker_id)
        return workers.claim(conn, worker_id, WHO.name, {"default": 1}, Room(TOGETHER, TOGETHER))

    request = StartRequest("orders-export", "schedule nightly", arguments=["--day", "2027-01-31"])
    db.transact(runs.start_many, request, TOGETHER)
    claimed = db.transact(claim)
    ended = [Outcome(one.id, one.attempt, RunState.SUCCEEDED, exit_code=0) for one in claimed]
    db.transact(runs.finish, worker_id, ended, WHO.name)
    if text:
        pieces = [output.Stored(one.id, one.attempt, "stdout", 0, text) for one in claimed]
        db.transact(output.append, pieces)


def _pages(path: Path) -> int:
    """The bytes of the database's pages."""
    with sqlite3.connect(path) as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = conn.execute("PRAGMA page_count").fetchone()[0] * conn.execute("PRAGMA page_size").fetchone()[0]
    conn.close()
    return int(size)


if __name__ == "__main__":
    runs_to_start = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    for size in (0, 1000):
        sys.stdout.write(f"{kilobytes(runs_to_start, b'x' * size):.2f} KB a run with {size:,} bytes of output\n")
