"""Which of SQL Server's errors pass, and which login is refused."""

import pytest

from jobfac.database.dialects.mssql import Mssql


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
    found = Mssql().lasting_fault(Exception("28000", text))
    assert found == shown if shown is None else (found or "").startswith(shown)
