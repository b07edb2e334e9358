"""Tests that need a real SQL Server. Without JOBFAC_TEST_MSSQL_URL they are not collected; the summary says so."""

import os
from collections.abc import Iterator

import pytest

from jobfac.database.engine import Database
from jobfac.database.tables import metadata

URL = os.environ.get("JOBFAC_TEST_MSSQL_URL", "")
collect_ignore_glob = [] if URL else ["test_*.py"]


@pytest.fixture
def real() -> Iterator[Database]:
    """The real server's database, migrated and empty."""
    db = Database(URL)
    db.upgrade()
    with db.begin() as conn:
        for table in metadata.sorted_tables:
            conn.execute(table.delete())
    yield db
    db.close()
