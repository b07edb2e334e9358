"""One server and one database for the session, emptied after each test; an engine with each of the drivers."""

from collections.abc import Iterator

import psycopg
import pytest
import sqlalchemy as sa

from tests.tds_server import harness
from tests.tds_server.harness import TestServer

try:
    import pyodbc

    pyodbc.pooling = False  # else connections stay open behind a closed engine
except ImportError:
    collect_ignore_glob = ["test_server_*.py"]  # the summary of the run says so


@pytest.fixture(scope="session")
def server(postgres_dsn: str) -> Iterator[TestServer]:
    """A TDS server of its own: what it is asked here is not for the grammar."""
    with harness.serving(postgres_dsn) as serving:
        yield serving


@pytest.fixture(scope="session")
def database(server: TestServer) -> Iterator[str]:
    """A database with nothing in it."""
    with server.database("tests") as name:
        yield name


@pytest.fixture(params=harness.DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    """Each of the drivers in turn."""
    return str(request.param)


@pytest.fixture
def url(server: TestServer, database: str, driver: str) -> sa.URL:
    """Where the database is."""
    return harness.url(server.port, driver, database)


@pytest.fixture
def engine(url: sa.URL, server: TestServer) -> Iterator[sa.Engine]:
    """An engine on the database. After the test no fault and nothing in the schema ``jobfac`` is left of it."""
    made = sa.create_engine(url)
    yield made
    made.dispose()
    server.faults()
    server.command(cut="")
    with psycopg.connect(f"{server.dsn} dbname={url.database}", autocommit=True) as conn:
        conn.execute("DROP SCHEMA IF EXISTS jobfac CASCADE")
        conn.execute("DELETE FROM sys.procedure_text")
