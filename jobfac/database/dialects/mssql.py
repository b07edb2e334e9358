"""SQL Server 2016 and later, and Azure SQL Database, by pyodbc or mssql-python."""

import contextlib
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from jobfac.database import locks
from jobfac.database.dialects import CLAIM_VALUES, CLAIMED, CLAIMING, PASS, answers, lists, utcnow
from jobfac.database.dialects.answers import ANSWER, LOCKS, give_up_after, set_time_limit
from jobfac.database.dialects.lease_clock import boot_ms, forward_steps
from jobfac.database.dialects.parameter_types import declare_types
from jobfac.database.dialects.rows import SEEK
from jobfac.database.dialects.waiting import ChoosingWaiter, PollingWaiter, ServerWaiter, sql_literal
from jobfac.database.tables import SCHEMA, run, worker_lease
from jobfac.errors import Refused
from jobfac.machine.dead_network import be_patient
from jobfac.states import RunState

SESSION = (
    "SET XACT_ABORT ON; SET LOCK_TIMEOUT {milliseconds:.0f}; SET NOCOUNT OFF; SET QUOTED_IDENTIFIER ON; "
    "SET ANSI_NULLS ON; SET NUMERIC_ROUNDABORT OFF; SET LANGUAGE us_english;"
)
"""LOCK_TIMEOUT: named locks wait as long, because that is the default of sp_getapplock. XACT_ABORT: an error ends the
whole transaction, so nothing half done can be committed. NOCOUNT: a server may have it ON for everybody ('user
options'), and then no statement says how many rows it changed. NUMERIC_ROUNDABORT: writes to a table with filtered
indexes need it OFF. LANGUAGE: the phrases of ``answers`` are English, and a login may have another language."""


BEGAN = "jobfac_began"
"""Where a connection notes when its transaction began, in milliseconds since the machine was booted."""


class Mssql:
    """See ``Dialect``."""

    name = "mssql"
    pause_between_writes = 0.0
    poll_interval = 5.5  # with the report of each minute an idle scheduler sends 12 requests a minute
    gives_notice = False  # a heartbeat waits for nobody: it has a row of its own

    def __init__(self) -> None:
        self._login_pause = answers.LoginPause()

    def engine(self, url: sa.URL, isolation_level: str = "READ COMMITTED", lock_wait: float | None = None) -> sa.Engine:
        driver = url.get_driver_name()
        _one_pool(driver)
        engine = sa.create_engine(
            with_driver(url),
            isolation_level=isolation_level,
            paramstyle="qmark",
            hide_parameters=True,  # payloads and sensitive values, in errors
            pool_pre_ping=False,  # after a broken connection the whole transaction is retried
            pool_size=20,
            max_overflow=100,
            execution_options={"schema_translate_map": {None: SCHEMA}},
        )
        engine.dialect.statement_compiler = _compiler_with_hints(engine.dialect.statement_compiler)
        settings = SESSION.format(milliseconds=1000 * (LOCKS if lock_wait is None else lock_wait))
        sa.event.listen(engine, "connect", lambda connection, record: _set_up(connection, settings, driver))
        declare_types(engine)
        set_time_limit(engine)
        self._login_pause.install(engine)
        return engine

    def create(self) -> None:
        """Do nothing: a DBA creates the database."""

    def is_missing(self) -> bool:
        return False

    def check_file(self) -> None:
        """Do nothing: the server owns the files."""

    def back_up(self, url: sa.URL, target: Path) -> None:
        raise Refused(
            f"SQL Server makes its own backups: have a DBA run BACKUP DATABASE [{url.database}] TO DISK = N'...' WITH "
            "CHECKSUM, and back up the log as the shop's plan says."
        )

    def begin(self, conn: sa.Connection, write: bool) -> None:
        """Only note the time: the driver begins a transaction with its first statement."""
        conn.info[BEGAN] = boot_ms()

    def write_turn(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()  # the server queues its writers

    def claim(self, limit: int, *conditions: sa.ColumnElement[bool]) -> sa.Executable:
        return _claim(limit, *conditions)

    def renew(
        self, conn: sa.Connection, worker_id: int, milliseconds: int, pressure: float | None, memory: int | None
    ) -> Any:
        statement, values = _RENEW, {"p_id": worker_id, "p_lease": milliseconds}
        if pressure is not None or memory is not None:
            statement = _RENEW_WITH_LOAD
            values["p_pressure"] = -1 if pressure is None else round(pressure)
            values["p_memory"] = -1 if memory is None else memory
        sent = boot_ms()
        row = conn.execute(statement, values).first()
        if row is not None:
            forward_steps(conn.engine.url).note(row.now, sent)
        return row

    def require_notice(self, conn: sa.Connection, worker_id: int, milliseconds: int) -> None:
        """Nothing to do: see ``gives_notice``."""

    def endable(self, conn: sa.Connection, worker_ids: Sequence[int]) -> Sequence[int]:
        sent, steps = boot_ms(), forward_steps(conn.engine.url)
        lease = (worker_lease.c.worker_id, worker_lease.c.seen_at, worker_lease.c.lease_until)
        query = sa.select(*lease, utcnow().label("now")).with_hint(worker_lease, PASS, "mssql")
        rows = conn.execute(query.where(lists.by_id(worker_lease.c.worker_id, worker_ids))).all()
        for row in rows[:1]:
            steps.note(row.now, sent, conn.info.get(BEGAN))
        return [row.worker_id for row in rows if steps.is_over(row.lease_until - row.seen_at)]

    def promised(self, conn: sa.Connection, worker_id: int) -> float | None:
        return None

    def lock_names(self, conn: sa.Connection, names: Sequence[str], wait: bool) -> None:
        for batch in _batches(names):
            values = {f"name{place}": name[:255] for place, name in enumerate(batch)}
            try:
                conn.execute(_lock(len(batch), wait), values).scalar_one()  # behind it no error can be left unread
            except sa.exc.DBAPIError as error:
                locks.note_timeout(error, batch)
                raise

    def lock_free_names(self, conn: sa.Connection, names: Sequence[str], milliseconds: int) -> Sequence[str]:
        taken: list[str] = []
        for batch in _batches(names):
            values = {f"name{place}": name[:255] for place, name in enumerate(batch)}
            marks = conn.execute(_lock_free(len(batch), milliseconds), values).scalar_one()
            milliseconds = 0 if "0" in marks else milliseconds
            taken += [name for name, mark in zip(batch, marks, strict=True) if mark == "1"]
        return taken

    def is_transient(self, error: BaseException) -> bool:
        return answers.is_transient(error)

    def is_damaged(self, error: BaseException) -> bool:
        return False  # SQL Server names a damaged page itself (823, 824)

    def lasting_fault(self, error: BaseException) -> str | None:
        return None if self.is_transient(error) else answers.refusal(error) or answers.obstacle(error)

    def passing_fault(self, error: BaseException) -> str | None:
        """What the server itself says. It was reached, so the URL is right."""
        _, _, text = answers.error_parts(error)
        if not (said := text.partition(answers.SERVER)[2]):
            return None
        number = answers.NUMBER.search(said)
        words = said[: number.start()] if number else said
        return f"SQL Server says: {words.strip().rstrip('.')}" + (f" (error {number[1]})" if number else "")

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
        if not seconds:
            be_patient()
        give_up_after(conn.connection.driver_connection, min(seconds, ANSWER))

    def waiter(self, engine: sa.Engine, how: str) -> ServerWaiter:
        return {"server": ServerWaiter, "polling": PollingWaiter}.get(how, ChoosingWaiter)(engine)

    def with_program_name(self, url: sa.URL, program: str) -> sa.URL:
        if url.get_driver_name() != "pyodbc" or "odbc_connect" in url.query or {"APP", "app"} & set(url.query):
            return url
        return url.update_query_dict({"APP": program[:128]})


def _compiler_with_hints(base: type[Any]) -> type[Any]:
    """Return a compiler that writes ``SEEK`` only in the FROM clause of an UPDATE.

    SQLAlchemy would repeat it after UPDATE, where T-SQL allows only locking hints. Source: Microsoft, "Table hints",
    table_hint_limited.
    """

    class Compiler(base):  # type: ignore[misc]
        def format_from_hint_text(self, sqltext: str, table: Any, hint: str, iscrud: bool) -> Any:
            return sqltext if iscrud and hint == SEEK else super().format_from_hint_text(sqltext, table, hint, iscrud)

    return Compiler


@functools.cache
def _claim(limit: int, *conditions: sa.ColumnElement[bool]) -> sa.Executable:
    following = (
        sa.select(run)
        .with_hint(run, CLAIMING, "mssql")
        .where(sa.text(f"state = '{RunState.QUEUED}'"), run.c.queue == sa.bindparam("p_queue"), *conditions)
        .order_by(run.c.priority.desc(), run.c.id)
        .limit(limit)
        .cte("next")
    )
    first = sa.func.coalesce(following.c.started_at, utcnow())
    values = CLAIM_VALUES | {"attempt": following.c.attempt + 1, "started_at": first}
    return sa.update(following).values(values).returning(*(following.c[column.name] for column in CLAIMED))


NAMES = 8
"""The maximum number of named locks taken in one round trip. This also bounds the number of different statements."""


def _batches(names: Sequence[str]) -> list[Sequence[str]]:
    return [names[at : at + NAMES] for at in range(0, len(names), NAMES)]


def _getapplock(place: int, timeout: str = "") -> str:  # by default its timeout is the session's
    return (
        f"EXEC @taken = sp_getapplock @Resource = :name{place}, @LockMode = N'Exclusive', "
        f"@LockOwner = N'Transaction'{timeout};"
    )


def _name_parameters(number: int) -> list[sa.BindParameter[str]]:
    return [sa.bindparam(f"name{place}", type_=sa.Unicode(255)) for place in range(number)]


@functools.cache
def _lock(number: int, wait: bool) -> sa.TextClause:
    timeout = "" if wait else ", @LockTimeout = 0"
    each = [
        f"{_getapplock(place, timeout)} IF @taken < 0 THROW 51222, N'Lock {place} could not be had in time.', 1;"
        for place in range(number)
    ]
    text = f"DECLARE @taken INT; {' '.join(each)} SELECT @taken AS taken;"
    return sa.text(text).bindparams(*_name_parameters(number))


@functools.cache
def _lock_free(number: int, milliseconds: int) -> sa.TextClause:
    """Return a statement whose result is one text with a digit for each name: 1 if its lock is held now, else 0.

    ``milliseconds``: how long it waits for each until it has waited for one in vain.
    """
    mark = "SET @marks = CONCAT(@marks, CASE WHEN @taken >= 0 THEN '1' ELSE '0' END);"
    stop = "IF @taken < 0 SET @wait = 0;" if milliseconds else ""
    timeout = ", @LockTimeout = @wait" if milliseconds else ", @LockTimeout = 0"
    each = [f"{_getapplock(place, timeout)} {mark} {stop}" for place in range(number)]
    wait = f", @wait INT = {milliseconds}" if milliseconds else ""
    text = f"DECLARE @taken INT, @marks VARCHAR({NAMES}) = ''{wait}; {' '.join(each)} SELECT @marks AS marks;"
    return sa.text(text).bindparams(*_name_parameters(number))


def with_driver(url: sa.URL) -> sa.URL:
    """Return the URL with Microsoft's newest installed ODBC driver, if it is for pyodbc and names no driver."""
    if url.get_driver_name() != "pyodbc" or "driver" in url.query or "odbc_connect" in url.query or not url.host:
        return url
    supported = ("ODBC Driver 18 for SQL Server", "ODBC Driver 17 for SQL Server")
    installed = [name for name in odbc_drivers() if name in supported]
    return url.update_query_dict({"driver": max(installed, default="ODBC Driver 18 for SQL Server")})


def odbc_drivers() -> list[str]:
    """Return the names of the installed ODBC drivers."""
    import pyodbc

    _one_pool("pyodbc")
    return list(pyodbc.drivers())


def _one_pool(driver: str) -> None:
    """Disable the driver's own connection pool. It would return broken connections to SQLAlchemy's pool."""
    if driver == "pyodbc":
        import pyodbc

        pyodbc.pooling = False  # pyodbc reads it once, at its first call, even if that call only lists drivers
    else:
        import mssql_python

        mssql_python.pooling(enabled=False)


WIDE = (-8, -9, -10)
"""The ODBC types of NCHAR, NVARCHAR and NTEXT."""


def _set_up(connection: Any, settings: str, driver: str) -> None:
    if driver == "pyodbc":  # mssql-python has no such choice for every column
        for kind in WIDE:
            connection.add_output_converter(kind, _decoded)
    cursor = connection.cursor()
    cursor.execute(settings)
    cursor.close()


def _decoded(text: bytes) -> str:
    """Return a text. Half of a character becomes U+FFFD: the driver would raise an error, and a worker could not claim
    from a queue in which such a run waits."""
    return text.decode("utf-16-le", "replace")


_RENEW_TEXT = f"""\
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

_RENEW = sa.text(_RENEW_TEXT).bindparams(sql_literal("p_id"), sql_literal("p_lease"))
"""Without parameters: the drivers release a parameterised statement in one more round trip."""

_RENEW_WITH_LOAD = sa.text(
    _RENEW_TEXT.replace(
        "\nFROM", ",\n    cpu_pressure = NULLIF(:p_pressure, -1), free_memory = NULLIF(:p_memory, -1)\nFROM", 1
    )
).bindparams(*map(sql_literal, ("p_id", "p_lease", "p_pressure", "p_memory")))
"""Its values are coarse (see ``worker.load``), because each text leaves a plan in the server's cache. -1: not known."""
