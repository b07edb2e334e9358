"""SQL Server's errors: their numbers, what each of them ends, and how errors of PostgreSQL are mapped to them."""

import psycopg
from psycopg import errors as pg

DEADLOCK, LOCK_TIMEOUT = 1205, 1222
ENDS_STATEMENT = frozenset({229, 266, 515, 547, 1222, 2601, 2627, 2628, 8134})
ENDS_CONNECTION = frozenset({-2, 596, 4060, 18456, 40197, 40501, 40613, 49918})
DEADLOCK_MESSAGE = (
    "Transaction (Process ID {spid}) was deadlocked on lock resources with another process and has been chosen as the "
    "deadlock victim. Rerun the transaction."
)
MESSAGES = {
    1205: DEADLOCK_MESSAGE.format(spid=0),
    102: "Incorrect syntax near 'END'.",
    1222: "Lock request time out period exceeded.",
    40613: "Database 'jobfac' on server 'testserver' is not currently available. Please retry the connection later.",
    3960: "Snapshot isolation transaction aborted due to update conflict. Retry the transaction.",
    40197: "The service has encountered an error processing your request. Please try again.",
    40501: "The service is currently busy. Retry the request after 10 seconds.",
    49918: "Cannot process request. Not enough resources to process request.",
    4060: 'Cannot open database "jobfac" requested by the login. The login failed.',
    18456: "Login failed for user 'sa'.",
    40615: "Cannot open server 'testserver' requested by the login. Client with IP address '10.0.0.1' is not allowed "
    "to access the server.",
    334: "The target table 'jobfac.run' of the DML statement cannot have any enabled triggers if the statement "
    "contains an OUTPUT clause without INTO clause.",
    978: "The target database ('jobfac') is in an availability group and is currently accessible for connections when "
    "the application intent is set to read only. For more information about application intent, see SQL Server Books "
    "Online.",
    983: "Unable to access availability database 'jobfac' because the database replica is not in the PRIMARY or "
    "SECONDARY role.",
    3906: 'Failed to update database "jobfac" because the database is read-only.',
    8645: "A timeout occurred while waiting for memory resources to execute the query in resource pool 'default' (2).",
    9002: "The transaction log for database 'jobfac' is full due to 'LOG_BACKUP'.",
    10928: "Resource ID: 1. The request limit for the database is 180 and has been reached. See "
    "'http://go.microsoft.com/fwlink/?LinkId=267637' for assistance.",
    601: "Could not continue scan with NOLOCK due to data movement.",
    824: "SQL Server detected a logical consistency-based I/O error: incorrect checksum. It occurred during a read of "
    "page (1:1) in database ID 5.",
    829: "Database ID 5, Page (1:1) is marked RestorePending, which may indicate disk corruption. To recover from this "
    "state, perform a restore.",
    845: "Time-out occurred while waiting for buffer latch type 2 for page (1:1), database ID 5.",
    3908: "Could not run BEGIN TRANSACTION in database 'jobfac' because the database is in emergency mode or is "
    "damaged and must be restarted.",
    3966: "Transaction is rolled back when accessing version store. It was earlier marked as victim when the version "
    "store was shrunk due to insufficient space in tempdb.",
    7139: "Length of LOB data (262144) to be replicated exceeds configured maximum 65536. Use the stored procedure "
    "sp_configure to increase the configured maximum value for max text repl size option.",
    8622: "Query processor could not produce a query plan because of the hints defined in this query. Resubmit the "
    "query without specifying any hints and without using SET FORCEPLAN.",
    8653: "The query processor is unable to produce a plan for the table or view 'run' because the table resides in a "
    "filegroup which is not online.",
    8655: "The query processor is unable to produce a plan because the index 'pk_run' on table or view 'run' is "
    "disabled.",
    701: "There is insufficient system memory in resource pool 'default' to run this query.",
    1105: "Could not allocate space for object 'jobfac.run' in database 'jobfac' because the 'DATA' filegroup is full.",
    229: "The SELECT permission was denied on the object 'job', database 'jobfac', schema 'jobfac'.",
}


class SqlError(Exception):
    """An error as the client receives it."""

    def __init__(self, number: int, message: str, severity: int = 16, state: int = 1) -> None:
        super().__init__(message)
        self.number = number
        self.severity = severity
        self.state = state
        self.line = 0
        """The line of its statement, from 1 in its batch or procedure; 0: not known yet."""
        self.procedure = ""

    @property
    def ends_batch(self) -> bool:
        """Whether the error ends the batch. Some errors end only their statement."""
        return self.number not in ENDS_STATEMENT

    @property
    def ends_transaction(self) -> bool:
        return self.number == DEADLOCK or self.ends_connection

    @property
    def ends_connection(self) -> bool:
        return self.number in ENDS_CONNECTION


class CancelledError(Exception):
    """The client sent an attention or disconnected, so its request is cancelled."""


def standard(number: int) -> SqlError:
    """Return the error with this number and its usual message, for fault scripts."""
    severity = {1205: 13, 2627: 14, 701: 17, 1105: 17, 40613: 17, 18456: 14}.get(number, 16)
    return SqlError(number, MESSAGES.get(number, f"Error {number}, injected by the fault script."), severity)


_NUMBERS: list[tuple[type[psycopg.Error], int, int]] = [
    (pg.ForeignKeyViolation, 547, 16),
    (pg.CheckViolation, 547, 16),
    (pg.NotNullViolation, 515, 16),
    (pg.UndefinedTable, 208, 16),
    (pg.InvalidSchemaName, 208, 16),
    (pg.UndefinedColumn, 207, 16),
    (pg.UndefinedFunction, 195, 15),
    (pg.DuplicateTable, 2714, 16),
    (pg.DuplicateSchema, 2714, 16),
    (pg.DuplicateColumn, 2705, 16),
    (pg.AmbiguousColumn, 209, 16),
    (pg.SyntaxError, 102, 15),
    (pg.StringDataRightTruncation, 2628, 16),
    (pg.DivisionByZero, 8134, 16),
    (pg.NumericValueOutOfRange, 8115, 16),
    (pg.InvalidTextRepresentation, 245, 16),
    (pg.InvalidDatetimeFormat, 241, 16),
    (pg.InvalidCatalogName, 4060, 11),
]


def from_postgres(error: psycopg.Error, spid: int, key: str, statement: str) -> SqlError:
    """Return the error that SQL Server would have reported.

    Args:
        key: the kind of constraint that refused a row, if any.
        statement: the statement that PostgreSQL executed. It is part of the text of error 50000, which stands for all
            errors without a counterpart.
    """
    diagnostic = error.diag
    table = f"{diagnostic.schema_name}.{diagnostic.table_name}"
    message = (diagnostic.message_primary or str(error)).strip()
    if isinstance(error, pg.DeadlockDetected):
        return SqlError(DEADLOCK, DEADLOCK_MESSAGE.format(spid=spid), 13)
    if isinstance(error, pg.LockNotAvailable):
        return standard(LOCK_TIMEOUT)
    if isinstance(error, pg.SerializationFailure):
        return standard(3960)
    if isinstance(error, pg.UniqueViolation):
        name, values = diagnostic.constraint_name, (diagnostic.message_detail or "").split("=")[-1].split(" already")[0]
        tail = f"The duplicate key value is {values}."
        if key:
            text = f"Violation of {key} constraint '{name}'. Cannot insert duplicate key in object '{table}'. {tail}"
            return SqlError(2627, text, 14)
        text = f"Cannot insert duplicate key row in object '{table}' with unique index '{name}'. {tail}"
        return SqlError(2601, text, 14)
    if isinstance(error, pg.CheckViolation | pg.ForeignKeyViolation):
        message = f'The statement conflicted with the constraint "{diagnostic.constraint_name}" of table "{table}".'
    if isinstance(error, pg.UndefinedTable | pg.InvalidSchemaName):
        _, name, _ = message.split('"')
        message = f"Invalid object name '{name}'."
    if isinstance(error, pg.NotNullViolation):
        message = f"Cannot insert the value NULL into column '{diagnostic.column_name}', table '{table}'."
    for kind, number, severity in _NUMBERS:
        if isinstance(error, kind):
            return SqlError(number, message, severity)
    return SqlError(50000, f"{message} [{statement[:1000]}]")
