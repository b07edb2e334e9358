"""The interface of the two engines: everything that needs different SQL or different code.

All other statements are SQLAlchemy Core for both engines. Lock hints are added with ``with_hint(..., "mssql")``. SQLite
needs no hints, because its write transactions exclude each other.
"""

import enum
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from jobfac.database.dialects.clock import current_time, utcnow
from jobfac.database.dialects.hints import (
    CLAIMING,
    DIRTY,
    FOUND_BY_KEY,
    LOCKED,
    LOCKED_BY_KEY,
    PASS,
    PASS_BY_KEY,
    SKIP,
)
from jobfac.database.dialects.lease_clock import lease_now
from jobfac.database.dialects.octets import characters, octets, unless_longer
from jobfac.database.dialects.survey import HOLD_WEIGHT, SURVEY, Survey, hold_number, read_survey
from jobfac.database.tables import run, worker_lease
from jobfac.database.types import sql_literals
from jobfac.states import ALIVE, HELD, RunState

__all__ = [
    "CLAIMED", "CLAIMING", "CLAIM_VALUES", "DIRTY", "FIRST_END", "FITS", "FOUND_BY_KEY", "HOLD_WEIGHT", "IS_ALIVE",
    "LOCKED", "LOCKED_BY_KEY", "ONE", "PASS", "PASS_BY_KEY", "RENEW", "RENEW_PROMISED", "SKIP", "SOUND", "SURVEY",
    "WEIGHT", "Dialect", "Survey", "Waiter", "WorkSignal", "characters", "current_time", "dialect_for", "dialect_of",
    "hold_number", "lease_now", "octets", "read_survey", "unless_longer", "utcnow", "work_expression",
]  # fmt: skip

IS_ALIVE = sa.text(f"worker.state IN ({sql_literals(ALIVE)})")
"""Condition on a worker: it is active or draining."""

CLAIMED = (
    run.c.id,
    run.c.job,
    run.c.job_version,
    run.c.kind,
    run.c.attempt,
    run.c.failures,
    run.c.priority,
    run.c.arguments,
    run.c.payload,
    run.c.sequence_run_id,
    run.c.queue,
    run.c.created_at,
    run.c.started_at,
    run.c.notify,
    run.c.already_running,
    run.c.concurrency_key,
    run.c.lost,
    run.c.slots,
    run.c.parameters,
    run.c.sensitive,
    run.c.origin,
    run.c.due_at,
)
"""The columns of a run that a claim returns, in the order of ``Claimed``."""


RENEW_PROMISED = (
    worker_lease.update()
    .where(worker_lease.c.worker_id == sa.bindparam("p_id"), sa.text("ended = 0"))
    .values(
        seen_at=utcnow(),
        lease_until=lease_now(sa.bindparam("p_lease", type_=sa.BigInteger)),
        cpu_pressure=sa.func.coalesce(sa.bindparam("p_pressure", type_=sa.Float), worker_lease.c.cpu_pressure),
        free_memory=sa.func.coalesce(sa.bindparam("p_memory", type_=sa.BigInteger), worker_lease.c.free_memory),
    )
)
"""The heartbeat after a promise that has held up to now: the lease may have run out, but nobody could end it."""

RENEW = RENEW_PROMISED.where(worker_lease.c.lease_until > lease_now())
"""The heartbeat. It writes the worker's row in ``worker_lease`` and reads no other table."""

FIRST_END = sa.select(
    lease_now().label("now"),
    sa.select(sa.func.min(worker_lease.c.lease_until))
    .with_hint(worker_lease, PASS, "mssql")
    .where(sa.text("ended = 0"))
    .scalar_subquery()
    .label("first_end"),
)


class WorkSignal(enum.IntFlag):
    """Why a wait for work ended."""

    NOTHING = 0
    WORK = 1  # a run may be claimed, or a scheduled run is due
    STOP = 2  # the number of runs that this worker must stop has changed


class Waiter(Protocol):
    """Waits for work for one worker. One thread at a time may use it."""

    busy_seconds: float
    """The maximum duration of one wait while the worker has no free slot; it may not end when a slot becomes free."""

    def wait(self, queues: Sequence[str], worker_id: int, stopping: int, seconds: float) -> WorkSignal:
        """Wait until there is something to do, at most ``seconds``, or until interrupted.

        Args:
            queues: the queues whose queued runs end the wait; empty: only stops and scheduled runs end it.
            stopping: how many runs ``worker_id`` already knows that it must stop.
        """

    survey: Survey | None
    """The survey that the last wait returned; None: this engine needs a separate query for it."""

    polls_a_second: float
    """The maximum number of waits per second, on average."""

    def interrupt(self) -> None:
        """Make a waiting thread return, if the engine supports it. Safe for any thread."""

    def close(self) -> None:
        """Release all resources."""


def work_expression(schema: str, now: str, hint: str = "") -> str:
    """Return a SQL expression that yields a ``WorkSignal`` as a number. Binds queues, worker_id and stopping."""
    return f"""\
CASE WHEN EXISTS (SELECT 1 FROM {schema}run {hint} WHERE state = '{RunState.QUEUED}' AND queue IN :queues)
          OR EXISTS (SELECT 1 FROM {schema}run {hint} WHERE state = '{RunState.SCHEDULED}' AND ready_at <= {now})
     THEN {WorkSignal.WORK:d} ELSE 0 END
+ CASE WHEN (SELECT COUNT(*) FROM {schema}run {hint}
             WHERE state IN ({sql_literals(HELD)}) AND worker_id = :worker_id
                   AND state = '{RunState.STOPPING}') <> :stopping
       THEN {WorkSignal.STOP:d} ELSE 0 END"""


class Dialect(Protocol):
    """The interface of an engine.

    Attributes:
        poll_interval: seconds between two polls of an idle scheduler, according to the cost of a poll.
    """

    name: str
    poll_interval: float

    @property
    def pause_between_writes(self) -> float:
        """Seconds between two long transactions of one caller, so that waiting writers proceed."""

    def engine(self, url: sa.URL, isolation_level: str = "READ COMMITTED", lock_wait: float | None = None) -> sa.Engine:
        """Create an engine with fixed isolation level, durability and session settings.

        ``lock_wait``: seconds that a statement waits for a lock; None: as long as is usual for this engine.
        """

    def create(self) -> None:
        """Create the database's file, private to this user, if the database is a file and is missing."""

    def is_missing(self) -> bool:
        """Whether the database is a file that is missing and that this process never opened."""

    def check_file(self) -> None:
        """Check that the file which this process has open is still the database.

        Raises:
            DatabaseReplaced: the file or its write-ahead log was deleted or replaced.
        """

    def back_up(self, url: sa.URL, target: Path) -> None:
        """Copy the database into a new file while it is in use.

        Raises:
            Refused: the engine has its own backups; the text names them.
        """

    def begin(self, conn: sa.Connection, write: bool) -> None:
        """Begin a transaction, before its first statement."""

    def write_turn(self) -> AbstractContextManager[None]:
        """Return a context for each transaction that may write. It may admit one thread at a time."""

    def claim(self, limit: int, *conditions: sa.ColumnElement[bool]) -> sa.Executable:
        """Return the statement that claims up to ``limit`` queued runs in order and returns ``CLAIMED`` of each.

        Binds ``p_queue``, ``p_worker_id`` and ``p_worker``. The last two are None for sequences, which no worker holds.

        Args:
            conditions: of ``FITS``, ``SOUND`` and ``ONE``; each binds a parameter of its own.
        """

    def renew(
        self, conn: sa.Connection, worker_id: int, milliseconds: int, pressure: float | None, memory: int | None
    ) -> Any:
        """Send a heartbeat in one round trip: extend the lease to ``milliseconds`` from now, if it is still valid.

        Also stores the CPU pressure (percent) and the free memory (bytes) of the worker's machine, if they are given.
        Returns ``now`` and ``first_end``, when the first lease in the fleet ends; None: the lease is lost.
        """

    gives_notice: bool  # whether a worker's lease is ended only after notice (see ``lease_notice``)

    def require_notice(self, conn: sa.Connection, worker_id: int, milliseconds: int) -> None:
        """Have this worker's lease ended only so long after notice, where the engine gives notice."""

    def endable(self, conn: sa.Connection, worker_ids: Sequence[int]) -> Sequence[int]:
        """Those of these workers, whose leases have run out, whose leases may be ended now. The others get notice, or
        the server's clock was set forward or the server was silent, and they may not know yet."""

    def promised(self, conn: sa.Connection, worker_id: int) -> float | None:
        """Seconds from now within which nobody can end the worker's lease; None: there is no such promise."""

    def lock_names(self, conn: sa.Connection, names: Sequence[str], wait: bool) -> None:
        """Take the exclusive locks of these names in this order, until the transaction ends.

        Raises a transient error if a lock is not free in time; without ``wait``, at once.
        """

    def lock_free_names(self, conn: sa.Connection, names: Sequence[str], milliseconds: int) -> Sequence[str]:
        """Take the locks of the names that are free, and return these names.

        Waits this long for each until it has waited for one in vain.
        """

    def is_transient(self, error: BaseException) -> bool:
        """Whether the whole transaction may be retried: deadlock, lock timeout, failover, lost connection."""

    def lasting_fault(self, error: BaseException) -> str | None:
        """Return why a retry cannot succeed after this error, as a clause with the remedy; None: it may succeed."""

    def is_damaged(self, error: BaseException) -> bool:
        """Whether this error says that the database's file is damaged."""

    def passing_fault(self, error: BaseException) -> str | None:
        """Return a cause that the driver does not name, as a clause with the remedy; None: none is known."""

    def unmet_requirement(self, conn: sa.Connection) -> str | None:
        """Return which requirement of jobfac the engine does not meet, as a sentence with the remedy, or None."""

    def give_up_after(self, conn: sa.Connection, seconds: float) -> None:
        """Treat the connection as lost if an answer takes longer than ``seconds`` (0: never), until it is returned."""

    def waiter(self, engine: sa.Engine, how: str) -> Waiter:
        """Return a waiter. ``how`` is the setting ``wait``."""

    def with_program_name(self, url: sa.URL, program: str) -> sa.URL:
        """Return the URL with a program name for the list of sessions, if the driver supports it."""


def dialect_for(url: sa.URL) -> Dialect:
    """Return the dialect for a URL.

    Raises:
        ValueError: the URL is for another engine.
    """
    name = url.get_backend_name()
    if name == "sqlite":
        from jobfac.database.dialects.sqlite import Sqlite

        file, options = url.database or "", url.query
        is_in_memory = options.get("mode") == "memory" or options.get("vfs") == "memdb"
        if file in ("", ":memory:") or file.startswith("file::memory:") or is_in_memory:
            raise ValueError(
                "a database in memory is not shared between processes; give a file, as in sqlite:///jobfac.db"
            )
        return Sqlite()
    if name == "mssql":
        from jobfac.database.dialects.mssql import Mssql

        return Mssql()
    raise ValueError(
        f"'{name}' is not an engine of jobfac: use sqlite:///FILE, mssql+pyodbc://... or mssql+mssqlpython://..."
    )


def dialect_of(conn: sa.Connection) -> Dialect:
    """Return the dialect of a connection."""
    return dialect_for(conn.engine.url)


WEIGHT = sa.func.coalesce(run.c.slots, sa.literal_column("1"))
"""How many slots a run takes."""

FITS = sa.bindparam("p_free", type_=sa.Integer) >= WEIGHT
"""Condition on a run: it takes at most ``p_free`` slots."""

SOUND = sa.bindparam("p_losses", type_=sa.Integer) > sa.func.coalesce(run.c.lost, sa.literal_column("0"))
"""Condition on a run: it has lost fewer than ``p_losses`` attempts with their workers."""

ONE = run.c.id == sa.bindparam("p_run_id")
"""Condition on a run: it is this one."""

CLAIM_VALUES: dict[str, Any] = {
    "state": RunState.RUNNING.value,
    "attempt": run.c.attempt + 1,
    "worker_id": sa.bindparam("p_worker_id"),
    "worker": sa.bindparam("p_worker"),
    "started_at": sa.func.coalesce(run.c.started_at, utcnow()),
    **dict.fromkeys(("exit_code", "signal", "reason"), sa.null()),
}
"""The columns that a claim changes, on both engines. ``started_at`` stays that of the first start. How the attempt
before ended is not how this one does."""
