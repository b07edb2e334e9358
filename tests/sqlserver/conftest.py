"""One server for the session; a database and an engine for each test, with each of the drivers."""

from collections.abc import Iterator
from itertools import count

import pyodbc
import pytest
import sqlalchemy as sa

from sqlserver import harness
from sqlserver.harness import TestServer

pyodbc.pooling = False  # else connections stay open behind a closed engine
_numbers = count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[TestServer]:
    """PostgreSQL and the TDS server."""
    with harness.running() as running:
        yield running


@pytest.fixture
def database(server: TestServer) -> Iterator[str]:
    """A fresh database."""
    with server.database(f"test{next(_numbers)}") as name:
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
    """An engine on the database; the faults that a test set end with it."""
    made = sa.create_engine(url)
    yield made
    server.faults()
    made.dispose()
