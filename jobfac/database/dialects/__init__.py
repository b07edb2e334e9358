"""The seam between the two engines: what cannot be said in one SQL for both.

Everything else is SQLAlchemy Core, written once; lock hints are given with ``with_hint(..., "mssql")``, which SQLite
never sees because its write transactions exclude each other anyway.
"""

import enum
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import sqlalchemy as sa

from jobfac.database.dialects.clock import utcnow
from jobfac.database.dialects.lease_clock import lease_now
from jobfac.database.dialects.octets import octets
from jobfac.database.tables import queue, run, worker, worker_lease
from jobfac.database.types import sql_literals
from jobfac.states import ALIVE, HELD, RunState, WorkerState

__all__ = [
    "CLAIMED", "CLAIMING", "CLAIM_VALUES", "DIRTY", "FIRST_END", "IS_ALIVE", "LOCKED", "LOCKED_BY_KEY", "PASS", "RENEW",
    "SKIP", "SURVEY", "Dialect", "Found", "Survey", "Waiter", "choose", "lease_now", "look", "octets", "of",
    "read_survey", "utcnow",
]  # fmt: skip

DIRTY = "WITH (NOLOCK)"
"""Hint for a figure that need not be exact and must wait for nothing (SQL Server)."""

LOCKED = "WITH (ROWLOCK, UPDLOCK)"
"""Hint for a SELECT whose rows are about to be changed in the same transaction (SQL Server)."""

LOCKED_BY_KEY = "WITH (ROWLOCK, UPDLOCK, FORCESEEK)"
"""The same for rows whose ids are known: found one by one however small the table is, since a scan would wait for what
others have locked, and they for what it has (SQL Server)."""

IS_ALIVE = f"worker.state IN ({sql_literals(ALIVE)})"
"""Condition on a worker, sql_literals as the filtered index has it."""

SKIP = "WITH (UPDLOCK, READPAST, ROWLOCK, READCOMMITTEDLOCK)"
"""Hint for taking rows that no other transaction has locked (SQL Server)."""

PASS = "WITH (READPAST, ROWLOCK, READCOMMITTEDLOCK)"
"""Hint for reading without waiting: rows that another transaction has changed are passed over, and a later read finds
them (SQL Server). Rows that are only locked for a change (UPDLOCK) are read, since that lock admits readers.

READ_COMMITTED_SNAPSHOT takes no locks that could be passed over, so READPAST is refused there unless READCOMMITTEDLOCK
asks for them. Locks of whole pages are never passed over, hence ROWLOCK. Source: Microsoft, "Table hints"."""

CLAIMING = "WITH (UPDLOCK, READPAST, ROWLOCK, READCOMMITTEDLOCK, FORCESEEK)"
"""``SKIP`` for the claim, which seeks its index whatever the statistics say of a queue that was empty a moment ago."""

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
    run.c.parameters,
    run.c.sensitive,
    run.c.origin,
    run.c.due_at,
    run.c.sequence_run_id,
    run.c.queue,
    run.c.created_at,
    run.c.started_at,
    run.c.notify,
    run.c.already_running,
    run.c.concurrency_key,
    run.c.lost,
)
"""The columns of a run that its worker needs; what a claim returns."""


RENEW = (
    worker_lease.update()
    .where(
        worker_lease.c.worker_id == sa.bindparam("p_id"), sa.text("ended = 0"), worker_lease.c.lease_until > lease_now()
    )
    .values(seen_at=utcnow(), lease_until=lease_now(sa.bindparam("p_lease", type_=sa.BigInteger)))
)
"""The heartbeat: it writes the worker's row of ``worker_lease`` and reads no other table."""

FIRST_END = sa.select(
    lease_now().label("now"),
    sa.select(sa.func.min(worker_lease.c.lease_until))
    .with_hint(worker_lease, PASS, "mssql")
    .where(sa.text("ended = 0"))
    .scalar_subquery()
    .label("first_end"),
)

_mine = run.alias("mine")
_HELD = (
    sa.select(sa.func.count())
    .select_from(_mine)
    .with_hint(_mine, DIRTY, "mssql")
    .where(sa.text(f"mine.state IN ({sql_literals(HELD)})"), _mine.c.worker_id == worker.c.id)
    .scalar_subquery()
)
_active = worker.alias("active")
_FLEET = (
    sa.select(sa.func.count())
    .select_from(_active)
    .with_hint(_active, PASS, "mssql")
    .where(sa.text(f"active.state = '{WorkerState.ACTIVE}'"))
    .scalar_subquery()
)
SURVEY = (
    sa.select(
        worker.c.state,
        _FLEET.label("fleet"),
        sa.select(sa.func.count()).select_from(queue).with_hint(queue, PASS, "mssql").scalar_subquery().label("queues"),
        _HELD.label("held"),
        run.c.id,
        run.c.attempt,
        run.c.stop,
    )
    .with_hint(worker, PASS, "mssql")
    .with_hint(run, PASS, "mssql")
    .select_from(
        worker.outerjoin(
            run,
            sa.text(f"run.state IN ({sql_literals(HELD)})")
            & (run.c.worker_id == worker.c.id)
            & (run.c.state == sa.literal_column(f"'{RunState.STOPPING}'")),
        )
    )
    .where(worker.c.id == sa.bindparam("p_id", type_=sa.BigInteger, literal_execute=True))
)
"""One row for each run that the worker is to stop, or one without a run; no row: there is no such worker, or its row is
locked."""


class Survey(NamedTuple):
    """What the database says of a worker: its state, what it is to stop, how many queues there are.

    ``stops``: runs to stop, as (run, attempt, how).
    ``held``: how many runs the worker holds. It is read without locks, so it may count a change that is not committed.
    ``fleet``: how many workers take new runs.
    """

    state: WorkerState
    stops: list[tuple[int, int, str]]
    queues: int
    held: int
    fleet: int = 1


def read_survey(rows: Sequence[Any]) -> Survey | None:
    """The rows of ``SURVEY`` as one object."""
    if not rows:
        return None
    stops = [(row.id, row.attempt, row.stop) for row in rows if row.id is not None]
    return Survey(WorkerState(rows[0].state), stops, rows[0].queues, rows[0].held, rows[0].fleet)


class Found(enum.IntFlag):
    """What a wait ended with."""

    NOTHING = 0
    WORK = 1  # a run is queued that may be claimed, or a scheduled run's time has come
    STOP = 2  # the number of runs this worker was asked to stop has changed


class Waiter(Protocol):
    """Waits for work on behalf of one worker or scheduler, at next to no cost. Used by one thread at a time."""

    busy_seconds: float
    """For how long a worker without a free slot waits at once: the shorter it is, the sooner it hears of a slot."""

    def wait(self, queues: Sequence[str], worker_id: int, stopping: int, seconds: float) -> Found:
        """Return as soon as there is something to do, or ``NOTHING`` after ``seconds``, or earlier if interrupted.

        Args:
            queues: in which a queued run is of interest; none: only stops and scheduled runs are.
            stopping: how many runs ``worker_id`` knows that it has to stop.
        """

    survey: Survey | None
    """What the last wait brought back about the worker; None: this engine is asked for it separately."""

    polls_a_second: float
    """How many waits may begin in a second at most, on average."""

    def interrupt(self) -> None:
        """Make a waiting thread return, from another thread, where the engine can; else it returns at its time."""

    def close(self) -> None:
        """Give back what the waiter holds."""


def look(schema: str, now: str, hint: str = "") -> str:
    """The SQL expression, a number as in ``Found``, of what there is to do. Binds queues, worker_id, stopping."""
    return f"""\
CASE WHEN EXISTS (SELECT 1 FROM {schema}run {hint} WHERE state = '{RunState.QUEUED}' AND queue IN :queues)
          OR EXISTS (SELECT 1 FROM {schema}run {hint} WHERE state = '{RunState.SCHEDULED}' AND ready_at <= {now})
     THEN {Found.WORK:d} ELSE 0 END
+ CASE WHEN (SELECT COUNT(*) FROM {schema}run {hint}
             WHERE state IN ({sql_literals(HELD)}) AND worker_id = :worker_id
                   AND state = '{RunState.STOPPING}') <> :stopping
       THEN {Found.STOP:d} ELSE 0 END"""


class Dialect(Protocol):
    """What an engine does in its own way."""

    name: str
    breath: float  # seconds between two long transactions of one caller, so that others who wait get the lock
    look_interval: float  # seconds between two looks of an idle scheduler: what one costs differs

    def engine(self, url: sa.URL, isolation_level: str = "READ COMMITTED") -> sa.Engine:
        """An engine with everything pinned: isolation level, durability, session settings."""

    def create(self) -> None:
        """Make the database's file, private to this user, where the database is one and is missing."""

    def is_missing(self) -> bool:
        """Whether the database is a file that is not there, and was not when this process began."""

    def check_file(self) -> None:
        """Make sure that the file which this process has open is still the database.

        Raises:
            DatabaseReplaced: it, or its write-ahead log, was deleted or replaced.
        """

    def back_up(self, url: sa.URL, target: Path) -> None:
        """Copy the database into a new file while it is in use.

        Raises:
            Refused: the engine has means of its own; the text names them.
        """

    def turn(self) -> AbstractContextManager[None]:
        """Held around each transaction that may write, by one thread of this process at a time where that helps."""

    def claim(self, limit: int) -> sa.Executable:
        """The one statement that takes up to ``limit`` queued runs in order and returns ``CLAIMED`` of each.

        Binds ``p_queue``, ``p_worker_id`` and ``p_worker``; no worker: the runs are sequences, which nobody holds while
        they run. The statement for a limit is built once: it is the hottest of all.
        """

    def renew(self, conn: sa.Connection, worker_id: int, milliseconds: int) -> Any:
        """The heartbeat, in one round trip: let the lease end so much from now if it still holds.

        Returns ``now`` and ``first_end``, when the first lease in the fleet ends; None: the lease is lost.
        """

    def lock_names(self, conn: sa.Connection, names: Sequence[str], wait: bool) -> None:
        """Hold the exclusive locks of these names, taken in this order, until the transaction ends.

        Raises an error that ``is_transient`` where one of them cannot be had; without ``wait`` at once.
        """

    def lock_free_names(self, conn: sa.Connection, names: Sequence[str]) -> Sequence[str]:
        """The same for those that are free: the names of these. It never waits."""

    def is_transient(self, error: BaseException) -> bool:
        """Whether the whole transaction may be tried again: deadlock, lock timeout, failover, lost connection."""

    def lasting_fault(self, error: BaseException) -> str | None:
        """Why trying again does not help although the error is one of those, as a clause with the remedy."""

    def unmet_requirement(self, conn: sa.Connection) -> str | None:
        """What this engine lacks that jobfac needs, as a sentence with the remedy."""

    def give_up_after(self, conn: sa.Connection, seconds: float) -> None:
        """In this use of the connection, take an answer that does not come in time for a lost connection; 0: never."""

    def waiter(self, engine: sa.Engine, how: str) -> Waiter:
        """A waiter; ``how`` is the setting ``wait``."""

    def named(self, url: sa.URL, program: str) -> sa.URL:
        """The URL with which a DBA sees this program's name in the list of sessions, where the driver can say it."""


def choose(url: sa.URL) -> Dialect:
    """The dialect for a URL.

    Raises:
        ValueError: the URL is for another engine.
    """
    name = url.get_backend_name()
    if name == "sqlite":
        from jobfac.database.dialects.sqlite import Sqlite

        if url.database in (None, "", ":memory:"):
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


def of(conn: sa.Connection) -> Dialect:
    """The dialect of a connection."""
    return choose(conn.engine.url)


CLAIM_VALUES: dict[str, Any] = {
    "state": RunState.RUNNING.value,
    "attempt": run.c.attempt + 1,
    "worker_id": sa.bindparam("p_worker_id"),
    "worker": sa.bindparam("p_worker"),
    "started_at": utcnow(),
}
"""What a claim writes into each run, the same on every engine."""
