"""Workers on one database, started, killed and frozen by a test, which looks straight into the database meanwhile."""

import os
import signal
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import sqlalchemy as sa

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
    """A factory with an eye on its database. ``journal`` is where witnesses write, ``folder`` the working directory."""

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

    def start(self, job: str, count: int = 1, **wish: Any) -> list[int]:
        """Start so many runs; their ids."""
        return self.db.transact(runs.start_many, StartRequest(job, "tester", **wish), count)

    def get(self, run_id: int) -> sa.RowMapping:
        """A run."""
        return helpers.get(self.db, run_id)

    def states(self) -> dict[str, int]:
        """How many runs are in each state."""
        query = sa.select(run.c.state, sa.func.count()).group_by(run.c.state)
        return {row.state: row[1] for row in self.db.query(lambda conn: conn.execute(query).all())}

    def wait(self, run_id: int, *states: str, timeout: float = 30.0) -> sa.RowMapping:
        """The run, once it is in one of these states (default: final)."""
        wanted = states or FINAL

        def there() -> sa.RowMapping | None:
            found = self.get(run_id)
            return found if found["state"] in wanted else None

        return wait_for(there, f"run {run_id} in {sorted(wanted)}", timeout)

    def finish(self, *run_ids: int, timeout: float = 30.0) -> list[sa.RowMapping]:
        """These runs (default: all), once every one is final."""
        wait_for(lambda: set(self.states()) <= FINAL, "every run final", timeout)
        query = sa.select(run).order_by(run.c.id)
        query = query.where(run.c.id.in_(run_ids)) if run_ids else query
        return list(self.db.query(lambda conn: conn.execute(query).mappings().all()))

    def one(self, job: str, **wish: Any) -> sa.RowMapping:
        """Start one run and return it when it has ended."""
        (run_id,) = self.start(job, **wish)
        return self.wait(run_id)

    def text(self, run_id: int, stream: str = "stdout", attempt: int = 1) -> bytes:
        """What is stored of a stream."""
        positions = {stream: 0}
        parts = []
        with self.db.read() as conn:
            while pieces := output.read(conn, run_id, attempt, positions):
                parts += [piece.data for piece in pieces]
        return b"".join(parts)

    def events(self, run_id: int) -> list[str]:
        """The words of a run's events."""
        return [row.event for row in self.db.query(runs.events_of, run_id)]

    def attempts(self, run_id: int) -> list[dict[str, Any]]:
        """The executions of a run."""
        return [row._asdict() for row in self.db.query(runs.attempts, run_id)]

    # Workers

    def worker(
        self, name: str = "w1", *words: str, slots: int = 4, environment: Mapping[str, str] = SAME, **variables: str
    ) -> Process:
        """Start a worker with these additional variables and wait until it is in the fleet."""
        variables = {**environment, **variables}
        process = self.factory.role("worker", "--name", name, "--slots", str(slots), *words, **variables)
        wait_for(lambda: process.poll() is not None or self.row(process), f"worker {name} registered")
        assert process.poll() is None, self.log(process)
        return process

    def freeze(self, process: Process) -> None:
        """Stop the process as a paused machine would, but in no transaction, where it would hold up all of SQLite, and
        whoever needs its rows on SQL Server."""

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
        """The newest registration of a worker process, or None."""
        mine = [one for one in self.db.query(workers.workers) if one.pid == process.pid]
        return mine[0]._asdict() if mine else None

    def registration(self, process: Process) -> dict[str, Any]:
        """The newest registration of a worker process that has registered."""
        found = self.row(process)
        assert found is not None, self.log(process)
        return found

    def log(self, process: Process) -> str:
        """What a role has logged so far."""
        return self.log_of(process).read_text()

    def log_of(self, process: Process) -> Path:
        number = self.factory.roles.index(process)
        return next(self.folder.glob(f"*-{number}.log"))

    def programs(self, process: Process) -> list[int]:
        """The living processes of the programs that this worker process started, wherever they hang."""
        query = sa.select(worker.c.token).where(worker.c.pid == process.pid).order_by(worker.c.id.desc())
        token = self.db.query(lambda conn: conn.execute(query).scalars().first())
        table = Table.read()
        carriers = table.carriers()
        return [
            pid
            for marker, pids in carriers.items()
            if marker.startswith(f"{token}/")
            for pid in pids
            if not table.entries[pid].dead
        ]

    def logs(self) -> str:
        """All that all roles have logged."""
        return "".join(path.read_text() for path in sorted(self.folder.glob("*.log")))


def kill(process: Process) -> None:
    """``kill -9``."""
    process.kill()
    process.wait()


def thaw(process: Process) -> None:
    """Let a frozen process go on."""
    os.kill(process.pid, signal.SIGCONT)


def leave(process: Process, timeout: float = 30.0) -> int:
    """TERM, and its exit code when it has left."""
    process.terminate()
    return process.wait(timeout)


def is_frozen(process: Process) -> bool:
    """Whether it has been stopped, by itself or by somebody."""
    return bool(psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)


def guardian(worker_pid: int) -> int:
    """The process number of a worker's guardian; 0: it has none at this moment."""
    children = psutil.Process(worker_pid).children()
    found = [child.pid for child in children if any(word.endswith("guardian.py") for word in _command(child))]
    return found[0] if found else 0


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def kill_with_guardian(process: Process) -> None:
    """``kill -9`` to a worker and its guardian, the guardian first frozen so that neither outlives the other."""
    other = guardian(process.pid)
    os.kill(other, signal.SIGSTOP)
    kill(process)
    os.kill(other, signal.SIGKILL)
