"""The folder of spool files: one for each worker process, so that what a dead one left can be told from what lives."""

import fcntl
import os
import shutil
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.database.tables import attempt, run, worker
from jobfac.definitions import Job
from jobfac.programs import Spool, SpoolName, StartError, kill_marked, recover
from jobfac.secret_references import SecretError, resolve
from jobfac.states import RunState
from jobfac.store import jobs, output
from jobfac.telemetry.logs import logger

log = logger("jobfac.spool")


class SpoolFolder:
    """This worker's own folder inside the spool; it holds a lock on it for as long as the process lives."""

    def __init__(self, spool: Path, token: str, worker: str) -> None:
        self._log = log.bind(worker=worker)
        self._spool = spool
        self.token = token
        self.path = spool / token
        self._lock: int | None = None

    def settle_dead(self, db: Database) -> None:
        """End the programs that dead workers of this machine left running, and store what they wrote.

        Raises:
            Unreachable: the database is away.
        """
        if not self._spool.is_dir():
            return
        for folder in sorted(self._spool.iterdir()):
            if (lock := _lock_of_dead(folder)) is not None:
                try:
                    self._settle(folder, db)
                finally:
                    os.close(lock)

    def ensure(self) -> None:
        """Make the folder if it is gone. Its lock is held before it has its name: nobody takes us for dead.

        Raises:
            OSError: it cannot be made.
        """
        lock = self.path / "lock"
        if self._lock is not None and lock.exists():
            return
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        self.path.mkdir(mode=0o711, parents=True, exist_ok=True)
        unnamed = self.path / "lock.new"
        self._lock = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        unnamed.rename(lock)

    def _settle(self, folder: Path, db: Database) -> None:
        """Its worker is dead: its guardian has ended its programs, or else this does; then store what they wrote."""
        for who in db.query(_unfinished, folder.name):
            if killed := kill_marked(f"{folder.name}/{who['run']}/{who['attempt']}"):
                self._log.warning("a dead worker's programs were killed", action="orphans_killed", count=killed, **who)
        for name, path in recover(folder):
            try:
                db.transact(_recover, name, path)
            except (StartError, SecretError) as error:
                who = db.query(_who, name)
                self._log.warning(
                    "output not recovered", action="output_lost", stream=name.stream, reason=str(error), **who
                )
        shutil.rmtree(folder, ignore_errors=True)

    def size(self) -> int:
        """Bytes that its files take on the disk."""
        try:
            return sum(entry.stat().st_blocks * 512 for entry in os.scandir(self.path))
        except OSError:  # a file or all of it is just going
            return 0

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)


_WHO = sa.select(
    attempt.c.run_id.label("run"), attempt.c.number.label("attempt"), run.c.job, attempt.c.worker
).select_from(attempt.join(run, run.c.id == attempt.c.run_id).join(worker, worker.c.id == attempt.c.worker_id))


def _unfinished(conn: sa.Connection, token: str) -> list[dict[str, Any]]:
    """The executions that a worker with this token did not bring to their end, as the log names them."""
    query = _WHO.where(worker.c.token == token, sa.or_(attempt.c.ended_at.is_(None), attempt.c.state == RunState.LOST))
    return [dict(row) for row in conn.execute(query).mappings()]


def _who(conn: sa.Connection, name: SpoolName) -> dict[str, Any]:
    query = _WHO.where(attempt.c.run_id == name.run, attempt.c.number == name.attempt)
    return dict(conn.execute(query).mappings().first() or {"run": name.run, "attempt": name.attempt})


def _recover(conn: sa.Connection, name: SpoolName, path: Path) -> None:
    """Store what a stream's file holds beyond what is in the database, under the limit and the secrets of its job."""
    row = conn.execute(sa.select(run.c.job, run.c.job_version).where(run.c.id == name.run)).first()
    if row is None:
        return  # purged
    job = jobs.load_version(conn, row.job, row.job_version)
    assert isinstance(job, Job)
    secrets = [resolve(value).encode() for value in job.environment.values() if not isinstance(value, str)]
    stored = output.end_of(conn, *name)
    spool = Spool(path, max(1, job.output.limit), secrets)
    try:
        while chunks := spool.read(final=True):
            news = [(max(stored, c.offset), c.data[max(0, stored - c.offset) :]) for c in chunks]
            output.append(conn, [output.Stored(*name, offset, data) for offset, data in news if data])
    finally:
        spool.close(delete=False)


def _lock_of_dead(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock until it is closed; None: its worker is alive, or just leaving."""
    try:
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle
