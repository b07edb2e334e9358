"""Which of SQL Server's errors pass, and which login is refused."""

import pytest
from mssql_python.exceptions import DatabaseError, OperationalError, raise_exception

from jobfac.database.dialects.answers import NOT_AUTHORIZED, PASSING, STATES, error_parts
from jobfac.database.dialects.mssql import Mssql

SAID = "[Microsoft][ODBC Driver 18 for SQL Server][SQL Server]"


def of_mssql_python(state: str, text: str = "Something.") -> Exception:
    """Return the exception of mssql-python for a SQLSTATE, made as the driver makes it."""
    with pytest.raises(Exception, match="Driver Error") as caught:
        raise_exception(state, SAID + text)
    return caught.value


@pytest.mark.parametrize("state", [*STATES.values(), *PASSING, "42000", "23000", "IMC06"])
def test_the_state_of_an_error_is_read_from_what_mssql_python_makes_of_it(state: str) -> None:
    error = of_mssql_python(state)
    assert Mssql().is_transient(error) == (state in PASSING)
    if state in (*STATES.values(), *PASSING):
        assert error_parts(error)[1] == state


@pytest.mark.parametrize(
    ("state", "text", "passes"),
    [
        ("40001", "Transaktion wurde als Deadlockopfer ausgewählt. (1205) (SQLExecDirectW)", True),
        ("42000", "The log is full. (9002) (SQLExecDirectW); [01000] [Microsoft]Ended. (3621)", True),
        ("42000", "Ended. (3621) (SQLExecDirectW); [42000] [Microsoft]The log is full. (9002)", True),
        ("HY000", "Not now. (701) (SQLSetConnectAttr(SQL_ATTR_AUTOCOMMIT))", True),
        ("HY000", "Could not find database ID 5. Database may not be activated yet. (913) (SQLExecDirectW)", True),
        ("HY000", "Database 'jobfac' cannot be opened because it is not started. (941) (SQLExecDirectW)", True),
        ("23000", "Cannot insert the key 'import (1205) of today'. (2627) (SQLExecDirectW)", False),
        ("42000", "The job 'Cannot open database' is no job. (50003) (SQLExecDirectW)", False),
    ],
)
def test_the_number_of_an_error_is_read_where_pyodbc_puts_it(state: str, text: str, passes: bool) -> None:
    assert Mssql().is_transient(Exception(state, f"[{state}] {SAID}{text}")) == passes


def test_a_number_in_a_name_is_none_of_mssql_python() -> None:
    assert not Mssql().is_transient(of_mssql_python("23000", "Cannot insert the key 'import (1205)'"))


def test_a_login_that_is_refused_in_another_language_is_recognised() -> None:
    text = "Fehler bei der Anmeldung für den Benutzer 'j'."
    shown = "Fehler bei der Anmeldung für den Benutzer 'j'; have a DBA look at the login and its user"
    assert Mssql().lasting_fault(of_mssql_python(NOT_AUTHORIZED, text)) == shown
    of_pyodbc = Exception(NOT_AUTHORIZED, f"[{NOT_AUTHORIZED}] {SAID}{text} (18456) (SQLDriverConnect)")
    assert Mssql().lasting_fault(of_pyodbc) == shown


@pytest.mark.parametrize(
    "text",
    [
        "Resource ID : 1. The request limit for the database is 400 and has been reached. See '' for assistance.",
        "Cannot continue the execution because the session is in the kill state.",
        "SHUTDOWN is in progress.",
        "Database 'jobfac' has not been recovered yet. Wait and try again.",
        "Database 'jobfac' is being recovered. Waiting until recovery is finished.",
        "Unable to access availability database 'jobfac' because the database replica is not in the PRIMARY or "
        "SECONDARY role.",
        "There is insufficient system memory in resource pool 'default' to run this query.",
        "A timeout occurred while waiting for memory resources to execute the query in resource pool 'default' (2).",
        "Could not allocate space for object 'jobfac.run' in database 'jobfac' because the 'DATA' filegroup is full.",
        "The transaction log for database 'jobfac' is full due to 'LOG_BACKUP'.",
        'Failed to update database "jobfac" because the database is read-only.',
        "The database 'jobfac' has reached its size quota. Partition or delete data, drop indexes, or consult the "
        "documentation for possible resolutions.",
        "Version store is full. New version(s) could not be added. A transaction that needs to access the version "
        "store may be rolled back. Please refer to BOL on how to increase database tempdb max size.",
    ],
)
def test_transient_errors_are_recognised_by_their_text(text: str) -> None:
    """By their texts, because errors of mssql-python contain no number."""
    assert Mssql().is_transient(Exception(f"[Microsoft][SQL Server]{text}"))
    assert not Mssql().is_transient(Exception("[Microsoft][SQL Server]Invalid object name 'jobfac.run'."))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[SQL Server]Login failed for user 'j'. (18456) (SQLDriverConnect)", "Login failed for user 'j'; have a DBA"),
        ("[Microsoft][ODBC Driver 18]Cannot generate SSPI context; more", "Cannot generate SSPI context; have a DBA"),
        ("Invalid object name 'x'.", None),
        ("Cannot open database 'jobfac' requested by the login. Login failed for user 'j'. (4060)", None),  # it passes
    ],
)
def test_a_refused_login_is_a_sentence_and_is_not_retried_at_once(text: str, shown: str | None) -> None:
    found = Mssql().lasting_fault(Exception("42000", text))
    assert found == shown if shown is None else (found or "").startswith(shown)


PASSING_TEXTS = {
    615: "Could not find database ID 7, name 'jobfac'.",
    617: "Descriptor for object ID 5 in database ID 7 not found in the hash table during attempt to un-hash it.",
    924: "Database 'jobfac' is already open and can only have one user at a time.",
    978: "The target database ('jobfac') is in an availability group and is currently accessible for connections when "
    "the application intent is set to read only. For more information about application intent, see SQL Server Books "
    "Online.",
    4221: "Login to read-secondary failed due to long wait on 'HADR_DATABASE_WAIT_FOR_TRANSITION_TO_VERSIONING'.",
    8642: "The query processor could not start the necessary thread resources for parallel query execution.",
    8651: "Could not perform the operation because the requested memory was not available in resource pool 'default'.",
    10929: "Resource ID: 1. The request minimum guarantee is 0, maximum limit is 180 and the current usage for the "
    "database is 150. However, the server is currently too busy to support requests greater than 150 for this one.",
    17142: "SQL Server service has been paused. No new connections will be allowed.",
    17187: "SQL Server is not ready to accept new client connections. Wait a few minutes before trying again.",
    17188: "SQL Server cannot accept new connections, because it is shutting down. The connection has been closed.",
    17189: "SQL Server failed with error code 0xc0000000 to spawn a thread to process a new login or connection.",
    17197: "Login failed due to timeout; the connection has been closed. This error may indicate heavy server load.",
    17300: "SQL Server was unable to run a new system task, either because there is insufficient memory or the number "
    "of configured sessions exceeds the maximum allowed in the server.",
    17803: "There was a memory allocation failure during connection establishment. Reduce nonessential memory load.",
    17809: "Could not connect because the maximum number of '32767' user connections has already been reached.",
    40549: "Session is terminated because you have a long-running transaction.",
    40642: "The server is currently too busy. Please try again later.",
    49919: "Cannot process create or update request. Too many create or update operations in progress for subscription "
    '"1".',
    49920: 'Cannot process request. Too many operations in progress for subscription "1".',
}
"""Microsoft's texts by number. Sources: "Database engine events and errors", "Troubleshoot transient connection
errors"."""


@pytest.mark.parametrize("number", PASSING_TEXTS)
def test_an_error_that_passes_is_recognised_by_number_and_by_text(number: int) -> None:
    text = PASSING_TEXTS[number]
    of_pyodbc = Exception("42000", f"[42000] {SAID}{text} ({number}) (SQLDriverConnect)")
    of_another_language = Exception("42000", f"[42000] {SAID}Nicht jetzt. ({number}) (SQLDriverConnect)")
    for error in (of_pyodbc, of_another_language, of_mssql_python("42000", text)):
        assert Mssql().is_transient(error)
        assert Mssql().lasting_fault(error) is None


def test_the_end_of_a_session_without_a_reason_passes() -> None:
    text = "Unspecified error occurred on SQL Server. Connection may have been terminated by the server."
    of_driver = f"[HY000] [Microsoft][ODBC Driver 18 for SQL Server]{text} (0) (SQLEndTran)"
    for error in (
        Exception("HY000", of_driver),
        Exception("HY000", f"{of_driver}; [01000] [Microsoft]Ended. (0)"),
        Exception("HY000", "The driver did not supply an error!"),
        of_mssql_python("HY000", text),
        DatabaseError("An error occurred with SQLSTATE code: ", "Unknown DDBC error"),
        OperationalError("Connection operation failed", ""),
    ):
        assert Mssql().is_transient(error)
