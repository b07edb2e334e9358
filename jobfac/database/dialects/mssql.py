"""SQL Server 2016 and later, and Azure SQL Database, by pyodbc or mssql-python."""

import contextlib
import functools
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from jobfac.database.dialects import CLAIM_VALUES, CLAIMED, CLAIMING, DIRTY, PASS, Found, Survey, look, read_survey
from jobfac.database.dialects.answers import ANSWER, LOCKS, LONGEST_WAIT, bound, give_up_after
from jobfac.database.dialects.nulls import give_types
from jobfac.database.dialects.rows import SEEK
from jobfac.database.tables import SCHEMA, run
from jobfac.database.types import sql_literals
from jobfac.errors import Refused
from jobfac.states import HELD, RunState

TRANSIENT = frozenset(
    {
        1205,  # deadlock victim
        1222,  # lock request timeout
        1204, 8645, 8651,  # no memory for locks, or for the statement, just now
        3960,  # snapshot update conflict
        -2,  # client timeout
        233, 10053, 10054, 10060, 10061, 11001,  # the connection broke, or nobody listens
        4060, 4221, 40197, 40501, 40540, 40613, 49918, 49919, 49920,  # Azure: moving, busy, failing over
        10928, 10929, 10936,  # Azure: a limit of the database or its pool is reached
        596, 6005, 18401,  # the session was killed, the server shuts down or is being upgraded
        615, 617, 921, 922, 926, 976, 978, 983, 988, 9001, 9002,  # database closing, recovering, no replica; log full
        51222,  # our own: a named lock could not be had in time
    }
)  # fmt: skip
"""Error numbers after which the whole transaction may be tried again.
Source: Microsoft, "Troubleshoot transient connection errors" and "Database engine events and errors"."""

PHRASES = (
    "was deadlocked on lock",
    "Lock request time out",
    "Snapshot isolation transaction aborted due to update conflict",
    "is not currently available",
    "is currently busy",
    "has been reached. See",
    "because the session is in the kill state",
    "SHUTDOWN is in progress",
    "not been recovered yet",
    "is being recovered",
    "script upgrade mode",
    "is participating in an availability group",
    "not in the PRIMARY or SECONDARY role",
    "Cannot open database",
    "cannot obtain a LOCK resource",
    "error processing your request",
    "Not enough resources to process",
    "Communication link failure",
    "TCP Provider",
    "timeout expired",
    "lock could not be had in time",
)
"""The same in words: mssql-python's exceptions carry no number."""

BROKEN = ("08001", "08003", "08004", "08007", "08S01", "HYT00", "HYT01", "IMC06")
"""SQLSTATEs of a connection that is gone or never came."""

LOCKED_FOR = f"{LOCKS * 1000:.0f}"
SESSION = (
    f"SET XACT_ABORT ON; SET LOCK_TIMEOUT {LOCKED_FOR}; SET NOCOUNT OFF; SET QUOTED_IDENTIFIER ON; SET ANSI_NULLS ON;"
)
"""XACT_ABORT: an error ends the whole transaction, so nothing half done can be committed. NOCOUNT: a server may have it
ON for everybody ('user options'), and then no statement says how many rows it changed."""

PAUSE = "00:00:00.040"
"""How often a wait inside the server looks; half of it is the median pickup."""


class Mssql:
    """See ``Dialect``."""

    name = "mssql"
    breath = 0.0
    look_interval = 5.0

    def engine(self, url: sa.URL, isolation_level: str = "READ COMMITTED") -> sa.Engine:
        _one_pool(url.get_driver_name())
        engine = sa.create_engine(
            with_driver(url),
            isolation_level=isolation_level,
            paramstyle="qmark",
            pool_pre_ping=False,  # a broken connection is retried as a whole transaction anyway
            pool_size=20,
            max_overflow=100,
            execution_options={"schema_translate_map": {None: SCHEMA}},
        )
        engine.dialect.statement_compiler = _hinting(engine.dialect.statement_compiler)
        sa.event.listen(engine, "connect", _on_connect)
        give_types(engine)
        bound(engine)
        return engine

    def create(self) -> None:
        """Nothing to do: a DBA makes the database."""

    def is_missing(self) -> bool:
        return False

    def check_file(self) -> None:
        """Nothing to do: the files are the server's."""

    def back_up(self, url: sa.URL, target: Path) -> None:
        raise Refused(
            f"SQL Server makes its own backups: have a DBA run BACKUP DATABASE [{url.database}] TO DISK = N'...' WITH "
            "CHECKSUM, and back up the log as the shop's plan says."
        )

    def turn(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()  # the server queues its writers itself

    def claim(self, limit: int) -> sa.Executable:
        return _claim(limit)

    def renew(self, conn: sa.Connection, worker_id: int, milliseconds: int) -> Any:
        return conn.execute(_RENEW, {"p_id": worker_id, "p_lease": milliseconds}).first()

    def lock_name(self, conn: sa.Connection, name: str) -> None:
        conn.execute(_GETAPPLOCK, {"name": name[:255]})

    def is_transient(self, error: BaseException) -> bool:
        if isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated:
            return True
        numbers, state, text = _told(error.orig if isinstance(error, sa.exc.DBAPIError) else error)
        return bool(numbers & TRANSIENT) or state in BROKEN or any(phrase in text for phrase in PHRASES)

    def lasting_fault(self, error: BaseException) -> str | None:
        return None

    def unmet_requirement(self, conn: sa.Connection) -> str | None:
        try:
            conn.exec_driver_sql("SELECT COUNT(*) FROM OPENJSON(N'[]')").scalar()
        except sa.exc.ProgrammingError:
            return (
                "The database's compatibility level is below 130, jobfac needs OPENJSON; have a DBA run ALTER DATABASE "
                "CURRENT SET COMPATIBILITY_LEVEL = 130, or higher."
            )
        return None

    def give_up_after(self, conn: sa.Connection, seconds: float) -> None:
        give_up_after(conn.connection.driver_connection, min(seconds, ANSWER))

    def waiter(self, engine: sa.Engine, how: str) -> "ServerWaiter | PollingWaiter":
        return ServerWaiter(engine) if how == "server" else PollingWaiter(engine)


def _hinting(usual: type[Any]) -> type[Any]:
    """A compiler that writes ``SEEK`` in the FROM of an UPDATE alone. SQLAlchemy would repeat it behind UPDATE, where
    T-SQL knows hints of locking only. Source: Microsoft, "Table hints", table_hint_limited."""

    class Compiler(usual):  # type: ignore[misc]
        def format_from_hint_text(self, sqltext: str, table: Any, hint: str, iscrud: bool) -> Any:
            return sqltext if iscrud and hint == SEEK else super().format_from_hint_text(sqltext, table, hint, iscrud)

    return Compiler


@functools.cache
def _claim(limit: int) -> sa.Executable:
    nxt = (
        sa.select(run)
        .with_hint(run, CLAIMING, "mssql")
        .where(sa.text(f"state = '{RunState.QUEUED}'"), run.c.queue == sa.bindparam("p_queue"))
        .order_by(run.c.priority.desc(), run.c.id)
        .limit(limit)
        .cte("next")
    )
    values = CLAIM_VALUES | {"attempt": nxt.c.attempt + 1}
    return sa.update(nxt).values(values).returning(*(nxt.c[column.name] for column in CLAIMED))


_GETAPPLOCK = sa.text(
    "DECLARE @taken INT; EXEC @taken = sp_getapplock @Resource = :name, @LockMode = N'Exclusive', "
    f"@LockOwner = N'Transaction', @LockTimeout = {LOCKED_FOR}; "
    "IF @taken < 0 THROW 51222, N'The lock could not be had in time.', 1;"
)


def with_driver(url: sa.URL) -> sa.URL:
    """The URL with Microsoft's newest installed ODBC driver, if it is for pyodbc and names none."""
    if url.get_driver_name() != "pyodbc" or "driver" in url.query or "odbc_connect" in url.query or not url.host:
        return url
    ours = ("ODBC Driver 18 for SQL Server", "ODBC Driver 17 for SQL Server")
    known = [name for name in odbc_drivers() if name in ours]
    return url.update_query_dict({"driver": max(known, default="ODBC Driver 18 for SQL Server")})


def odbc_drivers() -> list[str]:
    """The names of the ODBC drivers that are installed."""
    import pyodbc

    _one_pool("pyodbc")
    return list(pyodbc.drivers())


def _one_pool(driver: str) -> None:
    """SQLAlchemy pools connections; a second pool in the driver would keep dead ones and hand them out again."""
    if driver == "pyodbc":
        import pyodbc

        pyodbc.pooling = False  # pyodbc looks at it once, when it is first asked for anything, be it its drivers
    else:
        import mssql_python

        mssql_python.pooling(enabled=False)


def _on_connect(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute(SESSION)
    cursor.close()


def _told(error: Any) -> tuple[frozenset[int], str, str]:
    """SQL Server's error numbers and the SQLSTATE, where a driver's exception carries them, and its text."""
    text = " ".join(str(argument) for argument in getattr(error, "args", ()))
    numbers = frozenset(int(found) for found in re.findall(r"\((-?\d+)\)", text))
    state = str(error.args[0]) if getattr(error, "args", ()) else ""
    return numbers, state, text


def _spelled(name: str) -> sa.BindParameter[int]:
    """A number that is written into the text: pyodbc gives up a parametrized statement in a round trip of its own."""
    return sa.bindparam(name, type_=sa.BigInteger(), literal_execute=True)


_RENEW = sa.text(
    f"""\
SET NOCOUNT ON;
DECLARE @renewed INT;
UPDATE l SET seen_at = SYSUTCDATETIME(), lease_until = DATEADD(MILLISECOND, CAST(:p_lease AS INT), SYSUTCDATETIME())
FROM {SCHEMA}.worker_lease AS l {SEEK}
WHERE l.worker_id = :p_id AND l.ended = 0 AND l.lease_until > SYSUTCDATETIME();
SET @renewed = @@ROWCOUNT;
SET NOCOUNT OFF; -- else the next statements of this connection would not say how many rows they changed
SELECT SYSUTCDATETIME() AS now, (SELECT MIN(e.lease_until) FROM {SCHEMA}.worker_lease AS e {PASS} WHERE e.ended = 0)
    AS first_end
WHERE @renewed = 1;"""
).bindparams(_spelled("p_id"), _spelled("p_lease"))
_WAIT = sa.text(
    f"""\
SET NOCOUNT ON;
DECLARE @until DATETIME2(3) = DATEADD(MILLISECOND, CAST(:milliseconds AS INT), SYSUTCDATETIME());
DECLARE @work INT = 0;
WHILE @work = 0 AND SYSUTCDATETIME() < @until
BEGIN
    SET @work = {look(f"{SCHEMA}.", "SYSUTCDATETIME()", PASS)};
    IF @work = 0 WAITFOR DELAY '{PAUSE}';
END;
SET NOCOUNT OFF;
SELECT @work AS work, w.state, (SELECT COUNT(*) FROM {SCHEMA}.queue {PASS}) AS queues,
    (SELECT COUNT(*) FROM {SCHEMA}.run {DIRTY} WHERE worker_id = :worker_id AND state IN ({sql_literals(HELD)}))
        AS held,
    r.id, r.attempt, r.stop
FROM (SELECT 1 AS one) AS o
LEFT JOIN {SCHEMA}.worker AS w {PASS} ON w.id = :worker_id
LEFT JOIN {SCHEMA}.run AS r {PASS}
    ON r.worker_id = w.id AND r.state IN ({sql_literals(HELD)}) AND r.state = '{RunState.STOPPING}';"""
).bindparams(
    _spelled("milliseconds"),
    sa.bindparam("queues", type_=sa.Unicode(), expanding=True, literal_execute=True),
    _spelled("worker_id"),
    _spelled("stopping"),
)


class ServerWaiter:
    """Waits inside the server: one round trip for up to ``seconds``, and a pickup within ``PAUSE``."""

    busy_seconds = 0.5
    polls_a_second = 20.0

    def __init__(self, engine: sa.Engine) -> None:
        self.survey: Survey | None = None
        self._engine = engine

    def wait(self, queues: Sequence[str], worker_id: int, stopping: int, seconds: float) -> Found:
        with self._engine.connect() as conn:
            values = {
                "milliseconds": int(min(seconds, LONGEST_WAIT) * 1000),
                "queues": list(queues) or [""],
                "worker_id": worker_id,
                "stopping": stopping,
            }
            rows = conn.execute(_WAIT, values).all()
            self.survey = None if rows[0].state is None else read_survey(rows)
            return Found(rows[0].work)

    def interrupt(self) -> None:
        """A wait inside the server ends by itself; nobody stands in its way meanwhile."""

    def close(self) -> None:
        """Nothing is held between two waits."""


class PollingWaiter(ServerWaiter):
    """Looks from outside, less and less often while nothing comes: for servers where waiting batches are unwelcome."""

    SHORTEST = 0.05
    LONGEST = 1.0

    def wait(self, queues: Sequence[str], worker_id: int, stopping: int, seconds: float) -> Found:
        end = time.monotonic() + seconds
        pause = self.SHORTEST
        while (left := end - time.monotonic()) > 0:
            if found := super().wait(queues, worker_id, stopping, 0.001):
                return found
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, self.LONGEST)
        return Found.NOTHING
