"""Which of SQL Server's errors pass by themselves, or when a DBA has helped: they stop no role.

Sources: Microsoft, "Troubleshoot transient connection errors" and "Database engine events and errors".
"""

import re
from typing import Any

import sqlalchemy as sa

TRANSIENT = frozenset(
    {
        1205,  # deadlock victim
        1222,  # lock request timeout
        1204, 8645, 8651, 8657,  # no memory for locks or for the statement at the moment
        701, 802, 8628,  # no memory in the pool or the buffer pool, or no time to optimize the statement
        1101, 1105, 1132, 40544,  # the database, its disk or its quota is full
        3958, 3959, 3960,  # tempdb is full of row versions; snapshot update conflict
        -2,  # client timeout
        233, 10053, 10054, 10060, 10061, 11001,  # the connection broke or was refused
        4060, 4221, 40197, 40501, 40540, 40613, 49918, 49919, 49920,  # Azure: moving, busy, failing over
        10928, 10929, 10936, 40549, 40550, 40551, 40552, 40553,  # Azure: a limit of database, pool or session
        596, 6005, 17142, 18401,  # the session was killed, the server is paused, shuts down or is being upgraded
        615, 617, 921, 922, 924, 926, 927, 942, 945, 952, 976, 978, 983, 988, 9001, 9002,
        # database closing, recovering, offline, being restored, no replica; log full
        3906,  # the database is read-only, as a secondary is
        51222,  # thrown by jobfac: a named lock was not free in time
    }
)  # fmt: skip
"""Error numbers after which the whole transaction may be retried."""

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
    "lacks a quorum of nodes",
    "Cannot open database",
    "cannot be opened",
    "is in transition. Try",
    "because the database is read-only",
    "cannot obtain a LOCK resource",
    "insufficient system memory",
    "insufficient memory available in the buffer pool",
    "waiting for memory resources",
    "memory grant",
    "waiting to optimize the query",
    "Could not allocate",
    "reached its storage limit",
    "reached its size quota",
    "The transaction log for database",
    "The log for database",
    "accessing versioned row",
    "Version store is full",
    "The session has been terminated because",
    "error processing your request",
    "Not enough resources to process",
    "Communication link failure",
    "TCP Provider",
    "timeout expired",
    "lock could not be had in time",
)
"""Texts of the same errors, because exceptions of mssql-python contain no number."""

BROKEN = ("08001", "08003", "08004", "08007", "08S01", "HYT00", "HYT01", "IMC06")
"""SQLSTATEs of a connection that broke or could not be made."""

REFUSED = ("Login failed", "Cannot generate SSPI context", "is not able to access the database")
"""Texts of errors of a login that a DBA has to mend. A retry at once would only lock the login out."""


def is_transient(error: BaseException) -> bool:
    """Whether the whole transaction may be retried."""
    if isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated:
        return True
    numbers, state, text = error_parts(error.orig if isinstance(error, sa.exc.DBAPIError) else error)
    return bool(numbers & TRANSIENT) or state in BROKEN or any(phrase in text for phrase in PHRASES)


def refusal(error: BaseException) -> str | None:
    """Return the text of the server if it refuses the login, or None."""
    _, _, text = error_parts(error.orig if isinstance(error, sa.exc.DBAPIError) else error)
    at = [text.find(phrase) for phrase in REFUSED if phrase in text]
    if not at:
        return None
    return re.split(r" \(\d+\)|;", text[min(at) :])[0].rstrip(". ") + "; have a DBA look at the login and its user"


def error_parts(error: Any) -> tuple[frozenset[int], str, str]:
    """Return SQL Server's error numbers, the SQLSTATE, and the text of a driver's exception, as far as it has them."""
    text = " ".join(str(argument) for argument in getattr(error, "args", ()))
    numbers = frozenset(int(found) for found in re.findall(r"\((-?\d+)\)", text))
    state = str(error.args[0]) if getattr(error, "args", ()) else ""
    return numbers, state, text
