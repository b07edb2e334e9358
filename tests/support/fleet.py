"""Workers on one database. A test starts, kills and freezes them, and reads the database directly."""

import os
import signal
import sqlite3
import subprocess
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import sqlalchemy as sa

from jobfac.database.dialects import lists
from jobfac.database.engine import Database
from jobfac.database.tables import run, worker
from jobfac.programs.tree import Table
from jobfac.store import output, runs, workers
from jobfac.store.runs import StartRequest
from tests.support import database as helpers
from tests.support.factory import FINAL, SAME, Factory, Role, wait_for
from tests.support.journal import Journal

Process = Role


class Fleet:
    """A factory with direct access to its database. ``journal``: where job programs write; ``folder``: the cwd."""

    def __init__(self, factory: Factory) -> None:
        self.factory = factory
        self.folder = factory.folder
        self.db = Database(factory.url)
        self.journal = Journal(factory.folder / "journal")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.db.close()

    # Jobs and runs

    def define(self, **jobs: Mapping[str, Any]) -> None:
        """Store jobs by id."""
        helpers.define(self.db, **jobs)

    def start(self, job: str, count: int = 1, **options: Any) -> list[int]:
        """Start ``count`` runs; returns their ids."""
        return self.db.transact(runs.start_many, StartRequest(job, "tester", **options), count)

    def get(self, run_id: int) -> sa.RowMapping:
        """Return a run."""
        return helpers.get(self.db, run_id)

    def states(self) -> dict[str, int]:
        """Return how many runs are in each state."""
        query = sa.select(run.c.state, sa.func.count()).group_by(run.c.state)
        return {row.state: row[1] for row in self.db.query(lambda conn: conn.execute(query).all())}

    def wait(self, run_id: int, *states: str, timeout: float = 30.0) -> sa.RowMapping:
        """Wait until the run is in one of these states (default: any final state); returns the run."""
        wanted = states or FINAL

        def there() -> sa.RowMapping | None:
            found = self.get(run_id)
            return found if found["state"] in wanted else None

        return wait_for(there, f"run {run_id} in {sorted(wanted)}", timeout)

    def finish(self, *run_ids: int, timeout: float = 30.0) -> list[sa.RowMapping]:
        """Wait until every run is final; returns these runs (default: all)."""
        wait_for(lambda: set(self.states()) <= FINAL, "every run final", timeout)
        query = sa.select(run).order_by(run.c.id)
        query = query.where(lists.by_id(run.c.id, run_ids)) if run_ids else query
        return list(self.db.query(lambda conn: conn.execute(query).mappings().all()))

    def one(self, job: str, **options: Any) -> sa.RowMapping:
        """Start one run, wait until it has ended, and return it."""
        (run_id,) = self.start(job, **options)
        return self.wait(run_id)

    def text(self, run_id: int, stream: str = "stdout", attempt: int = 1) -> bytes:
        """Return the stored output of a stream."""
        positions = {stream: 0}
        parts = []
        with self.db.read() as conn:
            while pieces := output.read(conn, run_id, attempt, positions):
                parts += [piece.data for piece in pieces]
        return b"".join(parts)

    def events(self, run_id: int) -> list[str]:
        """Return the names of a run's events."""
        return [row.event for row in self.db.query(runs.events_of, run_id)]

    def attempts(self, run_id: int) -> list[dict[str, Any]]:
        """Return the executions of a run."""
        return [row._asdict() for row in self.db.query(runs.attempts, run_id)]

    # Workers

    def worker(
        self, name: str = "w1", *words: str, slots: int = 4, environment: Mapping[str, str] = SAME, **variables: str
    ) -> Process:
        """Start a worker with these additional variables and wait until it is registered."""
        variables = {**environment, **variables}
        process = self.factory.role("worker", "--name", name, "--slots", str(slots), *words, **variables)
        wait_for(lambda: process.poll() is not None or self.row(process), f"worker {name} registered")
        assert process.poll() is None, self.log(process)
        return process

    def freeze(self, process: Process) -> None:
        """Stop the process as a paused machine would, but only between two transactions.

        Inside a transaction it would block all writers on SQLite, and users of its rows on SQL Server.
        """

        def frozen_between() -> bool:
            os.kill(process.pid, signal.SIGSTOP)
            wait_for(lambda: is_frozen(process), "stopped")
            between = self._takes_writes()
            if not between:
                thaw(process)
            return between

        wait_for(frozen_between, f"process {process.pid} frozen between two transactions")

    def _takes_writes(self) -> bool:
        url = sa.make_url(self.factory.url)
        if url.get_backend_name() != "sqlite":
            try:
                with self.db.begin() as conn:
                    for table, key in (("worker", "id"), ("run", "id"), ("attempt", "run_id")):
                        conn.exec_driver_sql(f"SELECT {key} FROM jobfac.{table} WITH (UPDLOCK, NOWAIT)").all()
            except sa.exc.DBAPIError:
                return False
            return True
        with closing(sqlite3.connect(str(url.database), timeout=0.5, isolation_level=None)) as connection:
            try:
                connection.executescript("BEGIN IMMEDIATE; ROLLBACK")
            except sqlite3.OperationalError:
                return False
        return True

    def row(self, process: Process) -> dict[str, Any] | None:
        """Return the newest registration of a worker process, or None."""
        mine = [one for one in self.db.query(workers.workers) if one.pid == process.pid]
        return mine[0]._asdict() if mine else None

    def registration(self, process: Process) -> dict[str, Any]:
        """Return the newest registration of a worker process that has registered."""
        found = self.row(process)
        assert found is not None, self.log(process)
        return found

    def log(self, process: Process) -> str:
        """Return the log of a role so far."""
        return self.log_of(process).read_text()

    def log_of(self, process: Process) -> Path:
        number = self.factory.roles.index(process)
        return next(self.folder.glob(f"*-{number}.log"))

    def programs(self, process: Process) -> list[int]:
        """Return the PIDs of the living processes of this worker's programs, regardless of their parents."""
        query = sa.select(worker.c.token).where(worker.c.pid == process.pid).order_by(worker.c.id.desc())
        token = self.db.query(lambda conn: conn.execute(query).scalars().first())
        table = Table.read()
        by_marker = table.pids_by_marker()
        return [
            pid
            for marker, pids in by_marker.items()
            if marker.startswith(f"{token}/")
            for pid in pids
            if not table.entries[pid].dead
        ]

    def logs(self) -> str:
        """Return the logs of all roles so far."""
        return "".join(path.read_text() for path in self.log_files())

    def log_files(self) -> list[Path]:
        """Return the files of the roles' logs."""
        return sorted(self.folder.glob("*.log"))


def kill(process: Process) -> None:
    """Send KILL and wait for the end."""
    process.kill()
    process.wait()


def thaw(process: Process) -> None:
    """Continue a frozen process."""
    os.kill(process.pid, signal.SIGCONT)


def leave(process: Process, timeout: float = 30.0) -> int:
    """Send TERM and wait for the end; returns the exit code. One that stays writes its threads' stacks to its log."""
    process.terminate()
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGUSR2)
        raise


def is_frozen(process: Process) -> bool:
    """Whether the process is stopped."""
    return bool(psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)


def guardian(worker_pid: int) -> int:
    """Return the PID of a worker's guardian; 0 if it has none now."""
    children = psutil.Process(worker_pid).children()
    found = [child.pid for child in children if any(word.endswith("guardian.py") for word in _command(child))]
    return found[0] if found else 0


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def kill_with_guardian(process: Process) -> None:
    """Send KILL to a worker and its guardian. The guardian is frozen first, so it cannot act between the kills."""
    other = guardian(process.pid)
    os.kill(other, signal.SIGSTOP)
    kill(process)
    os.kill(other, signal.SIGKILL)
