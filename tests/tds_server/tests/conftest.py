"""One server and one database for the session, emptied after each test, and an engine for each driver."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from tests.tds_server import harness
from tests.tds_server.harness import TestServer

try:
    import pyodbc

    pyodbc.pooling = False  # else connections stay open after the engine is closed
except ImportError:
    collect_ignore_glob = ["test_server_*.py"]  # the summary of the test run lists skipped drivers


@pytest.fixture(scope="session")
def server(postgres_dsn: str) -> Iterator[TestServer]:
    """A separate TDS server, whose statements are not checked with the grammar."""
    with harness.serving(postgres_dsn) as serving:
        yield serving


@pytest.fixture(scope="session")
def database(server: TestServer) -> Iterator[str]:
    """An empty database."""
    with server.database("tests") as name:
        yield name


@pytest.fixture(params=harness.DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    """Each driver."""
    return str(request.param)


@pytest.fixture
def url(server: TestServer, database: str, driver: str) -> sa.URL:
    """The URL of the database."""
    return harness.url(server.port, driver, database)


@pytest.fixture(scope="session")
def behind(server: TestServer, database: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to the database in PostgreSQL, past the server."""
    with psycopg.connect(f"{server.dsn} dbname={database}", autocommit=True) as conn:
        yield conn


@pytest.fixture
def engine(url: sa.URL, server: TestServer, behind: psycopg.Connection[Any]) -> Iterator[sa.Engine]:
    """An engine on the database. After the test, faults and the schema ``jobfac`` are removed."""
    made = sa.create_engine(url)
    yield made
    made.dispose()
    server.faults()
    server.command(cut="")
    behind.execute("DROP SCHEMA IF EXISTS jobfac CASCADE")
    behind.execute("DELETE FROM sys.procedure_text")
