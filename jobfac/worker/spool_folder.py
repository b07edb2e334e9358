"""The spool folder of a worker process. Each process has its own and locks it, so others can see when it is dead."""

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.database.tables import attempt, run, worker
from jobfac.definitions import DefinitionError, Job
from jobfac.definitions.parameters import secrets as secrets_in
from jobfac.errors import Unreachable
from jobfac.machine.faults import OF_NO_FILE
from jobfac.programs import (
    Chunk,
    Spool,
    SpoolName,
    StartError,
    UnsafeFolder,
    explain_file,
    kill_marked,
    open_private,
    recover,
)
from jobfac.programs.files.removal import remove_folder, unread_for
from jobfac.programs.files.spool import EMPTIED
from jobfac.programs.masking import Mask, in_encoding
from jobfac.secret_references import SecretError, resolve
from jobfac.states import RunState
from jobfac.store import jobs, output, parameters
from jobfac.store.workers import Fenced
from jobfac.telemetry.logs import logger
from jobfac.worker.executions.fingerprints import SecretChanged, check, fingerprints_path, secrets_of

log = logger("jobfac.spool")

UNKNOWN = (
    "this database knows no worker that left it; if no other database uses this spool, and nobody needs the output in "
    "it, remove it"
)

SAMPLE = 4096
"""Bytes of a stream's stored beginning and end by which a file is found to continue it."""

KEPT = 86400.0
"""Seconds for which output is kept that no worker can read, from the first one that tried: it may show secrets."""

_INSIDE = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class SpoolFolder:
    """This worker's folder inside the spool. The process holds a lock on it as long as it lives.

    Only this user may access the spool and the folder. Both are checked before use: a file that another user placed
    there would be stored as a run's output, or overwritten.
    """

    def __init__(self, spool: Path, token: str, worker: str) -> None:
        self._log = log.bind(worker=worker)
        self._spool = spool
        self.token = token
        self.path = spool / token
        self._lock: int | None = None
        self.is_left = False  # to the next worker of this machine, which stores the output in it, as after a kill
        self._logged_as_skipped: set[str] = set()
        self._fenced: list[Fenced] = []  # lost executions whose programs may still run

    def clear_dead(self, db: Database) -> None:
        """Kill the programs that dead workers of this machine left running, and store their output.

        Logs a folder that cannot be read once, and skips it.

        Raises:
            Unreachable: the database does not answer.
        """
        if not self._spool.is_dir():
            return
        try:
            spool = open_private(self._spool, "the spool")
        except (UnsafeFolder, OSError) as error:
            self._log_skipped(str(self._spool), error)
            return
        try:
            for name in sorted(os.listdir(spool)):  # noqa: PTH208 (a descriptor)
                try:
                    with _locked(name, spool) as lock:
                        if lock is not None:
                            self._clear(name, db, lock)
                except Unreachable:
                    raise
                except Exception as error:  # one bad folder must not stop this worker
                    self._log_skipped(str(self._spool / name), error)
        finally:
            os.close(spool)

    def end_fenced(self, lost: Iterable[Fenced] = ()) -> None:
        """Kill the programs of executions that were lost with workers of this spool, before the next ones begin.

        Such a worker may stand still, and its guardian with it, so it ends none of them. If it has died and its folder
        was cleared, or if it was on another machine, there is nothing to find.

        Raises:
            OSError: the machine cannot show its processes now. The next call ends these programs, too.
        """
        self._fenced += [one for one in lost if (self._spool / one.token).is_dir()]
        prefixes = [f"{one.token}/{one.run}/{one.attempt}" for one in self._fenced]
        if prefixes and (killed := kill_marked(*prefixes)):
            runs = sorted({one.run for one in self._fenced})
            self._log.warning(
                "programs of lost executions were killed", action="orphans_killed", count=killed, runs=runs
            )
        self._fenced = []

    def begin(self) -> None:
        """Create the folder at the worker's start. Raises StartError, with the remedy."""
        try:
            self.ensure()
        except OSError as error:
            raise StartError(explain_file("the spool", self._spool, error)) from error

    def ensure(self) -> None:
        """Create the folder if it is missing.

        The lock is taken before the lock file gets its final name. Otherwise another worker could find it unlocked and
        treat this worker as dead.

        Raises:
            UnsafeFolder: other users may change or read the spool.
            OSError: the folder cannot be created.
        """
        lock = self.path / "lock"
        if self._lock is not None and lock.exists():
            return
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        spool = open_private(self._spool, "the spool")
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(self.token, 0o700, dir_fd=spool)
            inside = os.open(self.token, _INSIDE, dir_fd=spool)
        finally:
            os.close(spool)
        try:
            os.fchmod(inside, 0o700)  # independent of the umask
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._lock = os.open("lock.new", flags, 0o600, dir_fd=inside)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            os.rename("lock.new", "lock", src_dir_fd=inside, dst_dir_fd=inside)
        finally:
            os.close(inside)

    def _clear(self, token: str, db: Database, lock: int) -> None:
        """Kill the programs that a dead worker's guardian may have left running, and store their output.

        A folder of a worker of another database is left: the setting ``spool`` may be the same for both.
        ``lock``: this process holds the folder's lock by this descriptor.
        """
        folder = self._spool / token
        if not db.query(_is_known, token) and any(path.name != "lock" for path in folder.iterdir()):
            self._log_skipped(str(folder), UNKNOWN)
            return
        lost = db.query(_unfinished, token)
        if killed := kill_marked(*(f"{token}/{one.run}/{one.attempt}" for one in lost)) if lost else 0:
            runs = sorted({one.run for one in lost})
            self._log.warning("a dead worker's programs were killed", action="orphans_killed", count=killed, runs=runs)
        unread = False
        for name, path in recover(folder):
            try:
                _recover(db, token, name, path)
            except DefinitionError as error:  # its limit and its secrets are not known
                unread = True
                self._log_skipped(str(path), f"the job's definition cannot be read by this version of jobfac: {error}")
            except (StartError, SecretError, OSError, ValueError, KeyError) as error:
                if _passes(error) and unread_for(path) < KEPT:
                    unread = True
                    self._log_skipped(str(path), str(error))
                    continue
                fields = db.query(_log_fields, name)
                self._log.bind(**fields).warning(
                    "output not recovered", action="output_lost", stream=name.stream, reason=str(error)
                )
        if not unread:  # otherwise another worker recovers it
            remove_folder(folder, os.dup(lock))

    def _log_skipped(self, path: str, why: Exception | str) -> None:
        if path not in self._logged_as_skipped:
            self._logged_as_skipped.add(path)
            what = why.strerror if isinstance(why, OSError) else why
            reason = str(why) if isinstance(why, UnsafeFolder) else f"{path}: {what}"
            unknown = isinstance(why, Exception) and not isinstance(why, OSError | UnsafeFolder)
            self._log.warning("a spool folder is skipped", action="spool_unreadable", reason=reason, exc_info=unknown)

    def close(self) -> None:
        """Remove the folder, unless it is left."""
        if self._lock is None:
            return
        if self.is_left:
            os.close(self._lock)
        else:
            remove_folder(self.path, self._lock)


def _passes(error: Exception) -> bool:
    """Whether a later look may succeed: another worker here may have the secret, and the machine may get well."""
    if isinstance(error, StartError):
        return isinstance(error.__cause__, OSError) and error.__cause__.errno in OF_NO_FILE
    return isinstance(error, SecretError | OSError) and not isinstance(error, SecretChanged)


class _Attempt(NamedTuple):
    """An execution, with the fields of a log line."""

    run: int
    attempt: int
    job: str
    worker: str


_ATTEMPTS = sa.select(
    attempt.c.run_id.label("run"), attempt.c.number.label("attempt"), run.c.job, attempt.c.worker
).select_from(attempt.join(run, run.c.id == attempt.c.run_id).join(worker, worker.c.id == attempt.c.worker_id))


def _unfinished(conn: sa.Connection, token: str) -> list[_Attempt]:
    """Return the executions that the worker with this token did not finish."""
    is_unfinished = sa.or_(attempt.c.ended_at.is_(None), attempt.c.state == RunState.LOST)
    return [_Attempt(*row) for row in conn.execute(_ATTEMPTS.where(worker.c.token == token, is_unfinished))]


def _is_known(conn: sa.Connection, token: str) -> bool:
    """Whether this database has or had the worker with this token. One that is long dead is forgotten."""
    known = sa.select(worker.c.id).where(worker.c.token == token)
    return conn.execute(known.limit(1)).first() is not None


def _log_fields(conn: sa.Connection, name: SpoolName) -> dict[str, Any]:
    row = conn.execute(_ATTEMPTS.where(attempt.c.run_id == name.run, attempt.c.number == name.attempt)).first()
    return {"run": name.run, "attempt": name.attempt} if row is None else _Attempt(*row)._asdict()


def _recover(db: Database, token: str, name: SpoolName, path: Path) -> None:
    """Store the part of a stream's file that is not in the database. The job's limit and secrets apply.

    Each piece is stored in its own transaction, so a long file does not block other writers.
    """
    found = db.query(_job_of, name, token)
    if found is None:
        return  # purged, or forgotten by a database that was restored
    job, sensitive = found
    resolved = {one.secret: resolve(one) for one in job.environment.values() if not isinstance(one, str)}
    secrets = [value.encode() for value in resolved.values()] + [text.encode() for text in sensitive]
    if job.sql is not None:
        url = resolve(job.sql.connection)
        secrets += secrets_of(url)
        resolved[job.sql.connection if isinstance(job.sql.connection, str) else job.sql.connection.secret] = url
    check(fingerprints_path(path), resolved)
    stored = db.query(output.end_of, *name)
    spool = Spool(path, max(1, job.output.limit), Mask(in_encoding(secrets, job.encoding)))
    begins = 0 if spool.is_sealed or not stored else None
    try:
        while chunks := spool.read(final=True):
            if begins is None:
                begins, chunks = db.query(_placed, name, chunks, stored)
            chunks = [Chunk(begins + c.offset, c.data) for c in chunks]
            fresh = [(max(stored, c.offset), c.data[max(0, stored - c.offset) :]) for c in chunks]
            rows = [output.Stored(*name, offset, data) for offset, data in fresh if data]
            db.transact(_append, name, rows)
    finally:
        spool.close(delete=False)


def _placed(conn: sa.Connection, name: SpoolName, chunks: list[Chunk], stored: int) -> tuple[int, list[Chunk]]:
    """Return where in the stream a file without a seal begins, and its first chunks, perhaps with a sentence before.

    Its program has emptied it after some of the stream was stored, or a worker of an older version has made it.
    """
    content = b"".join(chunk.data for chunk in chunks)
    run_id, number, stream = name
    first = b"".join(piece.data for piece in output.read(conn, run_id, number, {stream: 0}, limit=SAMPLE))[:SAMPLE]
    if first[: len(content)] == content[: len(first)]:
        return 0, chunks
    last = output.read(conn, run_id, number, {stream: max(0, stored - SAMPLE)}, limit=2 * SAMPLE)
    known = b"".join(piece.data for piece in last)[-SAMPLE:]
    if (at := content.find(known)) >= 0:
        return stored - at - len(known), chunks
    if both := next((size for size in range(len(content[: len(known)]), 0, -1) if known.endswith(content[:size])), 0):
        return stored - both, chunks
    sentence = EMPTIED if known.endswith(b"\n") else b"\n" + EMPTIED
    return stored + len(sentence), [Chunk(-len(sentence), sentence), *chunks]


def _job_of(conn: sa.Connection, name: SpoolName, token: str) -> tuple[Job, list[str]] | None:
    """Return the job of an attempt and the texts of its run's sensitive parameters.

    None: the worker with this token had no such attempt. Its number may be another one's by now: a restored database
    counts on from where it was.
    """
    query = _ATTEMPTS.add_columns(run.c.job_version).where(worker.c.token == token)
    row = conn.execute(query.where(attempt.c.run_id == name.run, attempt.c.number == name.attempt)).first()
    if row is None:
        return None
    job = jobs.load_version(conn, row.job, row.job_version)
    assert isinstance(job, Job)
    return job, list(secrets_in(parameters.sensitive_of(conn, name.run)))


def _append(conn: sa.Connection, name: SpoolName, chunks: list[output.Stored]) -> None:
    """Store the chunks that are not stored yet. An earlier commit may have succeeded although its answer was lost."""
    known = output.end_of(conn, *name)
    output.append(conn, [one for one in chunks if one.offset >= known])


@contextlib.contextmanager
def _locked(name: str, spool: int) -> Iterator[int | None]:
    """Yield a descriptor with the folder's lock if its worker is dead, and otherwise None.

    Raises:
        OSError: the folder or its lock cannot be opened, or belongs to another user.
    """
    try:
        inside = os.open(name, _INSIDE, dir_fd=spool)
    except (FileNotFoundError, NotADirectoryError):  # removed since the listing, or not a folder
        yield None
        return
    try:
        if os.fstat(inside).st_uid != os.geteuid():
            raise PermissionError(None, "it belongs to another user")
        lock = os.open("lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=inside)
    except FileNotFoundError:  # its worker is creating or removing it
        yield None
        return
    finally:
        os.close(inside)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield lock
    finally:
        os.close(lock)
