"""SQL Server's answers: a time limit for them, and which errors pass.

When the network drops a connection's packets, TCP reports it after a quarter of an hour. The kernel gives up earlier
(see ``dead_network``), and so does the driver if the server is silent. All connections of the pool are then discarded.

Errors that pass by themselves, or when a DBA has helped, stop no role. Sources: Microsoft, "Troubleshoot transient
connection errors" and "Database engine events and errors".
"""

import copy
import math
import re
import threading
import time
from typing import Any

import sqlalchemy as sa

from jobfac.database.dialects.lease_clock import ForwardSteps, forward_steps
from jobfac.errors import Unreachable
from jobfac.machine import threads
from jobfac.machine.dead_network import given_up_when_dead

LOCKS = 20.0
"""Seconds that a statement waits for a lock."""

LONGEST_WAIT = 20.0
"""The longest wait for work inside the server, in seconds."""

ANSWER = max(LOCKS, LONGEST_WAIT) + 10.0
"""Timeout in seconds for an answer. It is four seconds longer if the server does not confirm the cancellation."""

CONNECTION_TIMEOUT = 113
"""The ODBC attribute for the timeout of calls other than statements, such as a commit."""


def set_time_limit(engine: sa.Engine) -> None:
    """Make the engine's connections give up an answer after ``ANSWER`` seconds, from their login on."""
    # First of all: SQLAlchemy, too, sends statements to a new connection.
    sa.event.listen(engine, "connect", lambda connection, record: give_up_after(connection, ANSWER), insert=True)
    sa.event.listen(engine, "checkout", lambda connection, record, proxy: give_up_after(connection, ANSWER))
    sa.event.listen(engine, "handle_error", _discard_broken)


def give_up_after(connection: Any, seconds: float) -> None:
    """Make a driver's connection give up an answer after ``seconds``, rounded up, until the next call; 0: never.

    It costs no round trip.
    """
    whole = math.ceil(seconds)
    connection.timeout = whole
    if hasattr(connection, "set_attr"):  # mssql-python; pyodbc sets both limits at once
        connection.set_attr(CONNECTION_TIMEOUT, whole)


def _discard_broken(context: sa.ExceptionContext) -> None:
    text = str(context.original_exception)
    if "timeout expired" in text.lower():
        context.is_disconnect = True
    elif any(phrase in text for phrase in ENDED):
        context.is_disconnect, context.invalidate_pool_on_disconnect = True, False  # the other sessions may live


ENDED = (
    "Connection may have been terminated by the server",
    "The driver did not supply an error",
    "Unknown DDBC error",
    "Connection operation failed",
)
"""What the drivers say if the server ends a session, as KILL and a failover do, and its answer gives no reason. Then
there is no number, and the SQLSTATE says nothing: HY000, or none."""


CONNECTING = ANSWER + 15.0
"""Timeout in seconds for a new connection. The drivers limit the login, but in the first connection of a process pyodbc
then asks what types the server has, and waits without a limit."""


def _connected(dialect: sa.Dialect, arguments: Any, named: Any) -> Any:
    def connect() -> Any:
        return given_up_when_dead(lambda: dialect.connect(*arguments, **named))

    try:
        return threads.within(CONNECTING, connect, lambda late: late.close())
    except RuntimeError:  # the machine refuses threads
        return connect()
    except TimeoutError:
        why = "the server took the login and then answered nothing; timeout expired"
        raise dialect.loaded_dbapi.OperationalError("HYT00", why) from None


FIRST_PAUSE, LAST_PAUSE = 1.0, 60.0
"""The shortest and the longest pause in seconds before the next login after a refused one."""


def login_pause(refused_for: float) -> float:
    """Return the pause in seconds before the next login, when logins have been refused for so many seconds: a quarter.

    A failover that refuses logins for some seconds costs no worker its lease.
    """
    return min(max(FIRST_PAUSE, refused_for / 4), LAST_PAUSE)


class LoginPause:
    """Pauses between the logins of a process while the server refuses them: more of them would only lock the login out.

    A connection that is wanted meanwhile fails at once, with the same error. Open ones are not affected.
    ``_lock`` protects the other fields; times are monotonic seconds.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._error: Exception | None = None
        self._since = self._until = 0.0
        self._steps: ForwardSteps | None = None

    def install(self, engine: sa.Engine) -> None:
        """Make the engine's logins obey the pause."""
        self._steps = forward_steps(engine.url)
        sa.event.listen(engine, "do_connect", self._connect)

    def _connect(self, dialect: sa.Dialect, record: Any, arguments: Any, named: Any) -> Any:
        with self._lock:
            now = time.monotonic()
            if self._error is not None and now < self._until:
                raise copy.copy(self._error)  # not itself: each thread adds its traceback to what it raises
            if self._error is not None:
                self._until = now + login_pause(now - self._since)  # one thread tries again
        try:
            connection = _connected(dialect, arguments, named)
        except Exception as error:
            self._tried(error if (is_refused := not is_transient(error) and refusal(error) is not None) else None)
            if not is_refused and isinstance(error, dialect.loaded_dbapi.Error) and MAY_PASS.search(str(error)):
                vars(error)["at_login"] = True
            driver = dialect.loaded_dbapi
            if type(error).__module__.partition(".")[0] == driver.__name__ and not isinstance(error, driver.Error):
                # mssql-python does not take an option.
                raise Unreachable(f"JOBFAC_DATABASE_URL cannot be used: {error}") from error
            raise
        self._tried(None)
        return connection

    def _tried(self, error: Exception | None) -> None:
        """Record that a login was refused with this error; None: it was not refused."""
        with self._lock:
            now = time.monotonic()
            self._since = now if self._error is None else self._since
            self._until = now + login_pause(now - self._since)
            self._error = None if error is None else copy.copy(error)
            if self._error is not None and self._steps is not None:
                self._steps.refused(self._until - now)


TRANSIENT = frozenset(
    {
        1205,  # deadlock victim
        1222,  # lock request timeout
        1204, 8642, 8645, 8651, 8657,  # no memory for locks, or no memory or threads for the statement at the moment
        701, 802, 8628,  # no memory in the pool or the buffer pool, or no time to optimize the statement
        1101, 1105, 1132, 40544,  # the database, its disk or its quota is full
        3958, 3959, 3960, 3966, 3967,  # tempdb is full of row versions; snapshot update conflict
        601, 605, 844, 845,  # a row or a page moved while NOLOCK read it; the disk of a page is too slow
        -2,  # client timeout
        233, 10053, 10054, 10060, 10061, 11001,  # the connection broke or was refused
        4060, 4221, 40197, 40501, 40540, 40613, 49918, 49919, 49920,  # Azure: moving, busy, failing over
        40143, 40166, 40642,  # the same
        10928, 10929, 10936, 40549, 40550, 40551, 40552, 40553,  # Azure: a limit of database, pool or session
        596, 6005, 17142, 18401,  # the session was killed, the server is paused, shuts down or is being upgraded
        17187, 17188, 17189, 17197, 17300, 17803, 17809,  # the server starts, ends, or takes no more logins now
        615, 617, 904, 913, 921, 922, 924, 926, 927, 941, 942, 945, 952, 954, 955, 956, 976, 978, 983, 988, 9001, 9002,
        # database closing, recovering, not started, offline, being restored, a mirror, no replica; log full
        3906, 3908,  # the database is read-only, as a secondary is, or in emergency mode
        51222,  # thrown by jobfac: a named lock was not free in time
    }
)  # fmt: skip
"""Error numbers after which the whole transaction may be retried."""

PHRASES = (
    *ENDED,
    "was deadlocked on lock",
    "Lock request time out",
    "Snapshot isolation transaction aborted due to update conflict",
    "is not currently available",
    "is currently busy",
    "is currently too busy",
    "operations in progress for subscription",
    "has been reached. See",
    "because the session is in the kill state",
    "SHUTDOWN is in progress",
    "not been recovered yet",
    "is being recovered",
    "script upgrade mode",
    "is participating in an availability group",
    "is in an availability group",
    "Login to read-secondary failed",
    "not in the PRIMARY or SECONDARY role",
    "lacks a quorum of nodes",
    "Cannot open database",
    "cannot be opened",
    "is in transition. Try",
    "can only have one user at a time",
    "Could not find database ID",
    "in the hash table during attempt to un-hash it",
    "SQL Server service has been paused",
    "is not ready to accept new client connections",
    "cannot accept new connections, because it is shutting down",
    "to spawn a thread to process a new login",
    "Login failed due to timeout",
    "was unable to run a new system task",
    "memory allocation failure during connection establishment",
    "user connections has already been reached",
    "because the database is read-only",
    "cannot obtain a LOCK resource",
    "insufficient system memory",
    "insufficient memory available in the buffer pool",
    "waiting for memory resources",
    "requested memory was not available",
    "thread resources for parallel query",
    "memory grant",
    "waiting to optimize the query",
    "Could not allocate",
    "reached its storage limit",
    "reached its size quota",
    "The transaction log for database",
    "The log for database",
    "accessing versioned row",
    "accessing version store",
    "to hold row versions",
    "Version store is full",
    "due to data movement",
    "Attempt to fetch logical page",
    "waiting for buffer latch",
    "Could not run BEGIN TRANSACTION in database",
    "The session has been terminated because",
    "Session is terminated because",
    "error processing your request",
    "Not enough resources to process",
    "could not be had in time",
)
"""Texts of the same errors, because exceptions of mssql-python contain no number."""

PASSING = ("08001", "08003", "08004", "08007", "08S01", "40001", "HYT00", "HYT01", "IMC06")
"""SQLSTATEs of a connection that broke or could not be made, of a timeout, and of a deadlock."""

SERVER = "[SQL Server]"
MAY_PASS = re.compile(rf"{re.escape(SERVER)}|acquire an Entra ID access token")
"""In the text of an error of the server itself, and of the service that gives tokens. If it answers a login with one,
and does not refuse it, that passes: it may be in the language of the login, and mssql-python tells no number."""

NOT_AUTHORIZED = "28000"
STATES = {
    "Client unable to establish connection": "08001",
    "Connection not open": "08003",
    "Server rejected the connection": "08004",
    "Connection failure during transaction": "08007",
    "Communication link failure": "08S01",
    "Invalid authorization specification": NOT_AUTHORIZED,
    "Serialization failure": "40001",
    "Timeout expired": "HYT00",
    "Connection timeout expired": "HYT01",
}
"""SQLSTATEs by the texts that mssql-python has for them. Source: its module ``exceptions``."""

UNNAMED = "An error occurred with SQLSTATE code: "
"""The beginning of its text for any other SQLSTATE."""
NUMBER = re.compile(r" \((-?\d+)\)(?= \(SQL|; \[\w{5}\] |$)")
"""Where pyodbc puts an error's number: ``[SQLSTATE] text (number) (ODBC function); [SQLSTATE] text (number)``."""
REFUSED = (
    "Login failed",
    "Logon failed for login",
    "Cannot generate SSPI context",
    "is not able to access the database",
    "Cannot open server",
    "Connection was denied",
    "Failed to authenticate the user",
)
"""Texts of errors of a login that a DBA has to mend. A retry at once would only lock the login out."""

_INDEX = "an index of jobfac is missing, disabled or offline; have a DBA rebuild it"
_PAGE = "a page of it is damaged or cannot be read; have a DBA restore it"
OBSTACLES = (
    (334, "cannot have any enabled triggers", "a table of jobfac has a trigger; have a DBA drop it"),
    (
        8622,
        "because of the hints defined in this query",
        "an index of jobfac is missing, disabled or offline; have a DBA rebuild it, or set the database to "
        "PARAMETERIZATION SIMPLE if it is FORCED",
    ),
    (8653, "a filegroup which is not online", _INDEX),
    (8655, "unable to produce a plan because the index", _INDEX),
    (823, "The operating system returned error", _PAGE),
    (824, "consistency-based I/O error", _PAGE),
    (829, "is marked RestorePending", _PAGE),
    (
        7139,
        "to be replicated exceeds configured maximum",
        "replication or Change Data Capture takes no text of this length; have a DBA set the server's option "
        "'max text repl size (B)' to -1",
    ),
)
"""What a DBA has to mend in jobfac's tables: the error's number and text, and the cause with the remedy.

A worker waits for it. By any other unknown error that stays it ends, and its programs with it."""


def is_transient(error: BaseException) -> bool:
    """Whether the whole transaction may be retried."""
    if isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated:
        return True
    if getattr(getattr(error, "orig", error), "at_login", False):
        return True
    numbers, state, text = error_parts(error)
    if numbers:  # they say it for certain; a text may quote the name of anything
        return bool(numbers & TRANSIENT) or state in PASSING
    return state in PASSING or any(phrase in text for phrase in PHRASES)


def refusal(error: BaseException) -> str | None:
    """Return the text of the server if it refuses the login, or None. It may be in the server's language."""
    _, state, text = error_parts(error)
    at = [text.find(phrase) for phrase in REFUSED if phrase in text]
    if not at and state != NOT_AUTHORIZED:
        return None
    said = text[min(at) :] if at else text.partition("[SQL Server]")[2] or text
    return re.split(r" \(\d+\)|;", said)[0].rstrip(". ") + "; have a DBA look at the login and its user"


def obstacle(error: BaseException) -> str | None:
    """Return what a DBA has to mend (see ``OBSTACLES``), as a clause with the remedy, or None."""
    numbers, _, text = error_parts(error)
    for number, phrase, clause in OBSTACLES:
        if number in numbers or (not numbers and phrase in text):
            return clause
    return None


def error_parts(error: Any) -> tuple[frozenset[int], str, str]:
    """Return SQL Server's error numbers, the SQLSTATE, and the text of a driver's exception, as far as it has them.

    The exception may be inside one of SQLAlchemy.
    """
    error = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    arguments = [str(argument) for argument in getattr(error, "args", ())]
    text = " ".join(arguments)
    if (named := getattr(error, "driver_error", None)) is not None:  # mssql-python
        return frozenset(), STATES.get(named, named.removeprefix(UNNAMED)), text
    numbers = frozenset(int(found) for found in NUMBER.findall(text) if found != "0")  # 0: the driver's own errors
    return numbers, arguments[0] if arguments else "", text
