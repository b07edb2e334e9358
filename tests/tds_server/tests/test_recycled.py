"""A database that several tests use in turn: whatever one test does, the next one does not see it."""

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from tests.tds_server import harness, postgres
from tests.tds_server.harness import TestServer
from tests.tds_server.recycled import Recycled

TABLES = """
CREATE TABLE dbo.item (id bigint IDENTITY PRIMARY KEY, name nvarchar(20) NOT NULL);
CREATE TABLE dbo.part (id bigint IDENTITY PRIMARY KEY, item_id bigint NOT NULL REFERENCES dbo.item (id));
CREATE TABLE dbo.version (number int NOT NULL);
INSERT INTO dbo.version VALUES (7);
"""
Use = Callable[..., list[tuple[object, ...]]]


@pytest.fixture
def pool(server: TestServer) -> Iterator[Recycled]:
    """A pool whose template has two empty tables and one with a row."""
    with server.database("recycled_template") as template:
        _execute(server, template, TABLES)
        made = Recycled(server, template)
        yield made
        made.close()


def _execute(server: TestServer, name: str, *texts: str) -> list[tuple[object, ...]]:
    engine = sa.create_engine(harness.url(server.port, harness.DRIVERS[0], name), isolation_level="AUTOCOMMIT")
    rows: list[tuple[object, ...]] = []
    with engine.connect() as conn:
        for text in texts:
            result = conn.exec_driver_sql(text)
            rows = [tuple(row) for row in result] if result.returns_rows else []
    engine.dispose()
    return rows


@pytest.fixture
def use(pool: Recycled, server: TestServer) -> Use:
    """Take a database, execute texts in it and give it back; returns its name and the rows of the last text."""

    def used(*texts: str) -> list[tuple[object, ...]]:
        with pool.database() as name:
            return [(name,), *_execute(server, name, *texts)]

    return used


def test_rows_are_removed_and_identities_restart(use: Use) -> None:
    first, *_ = use("INSERT INTO dbo.item (name) VALUES ('a'), ('b')", "INSERT INTO dbo.part (item_id) VALUES (2)")
    assert use("SELECT * FROM dbo.item") == [first]
    assert use("SELECT * FROM dbo.part") == [first]
    inserted = "INSERT INTO dbo.item (name) OUTPUT inserted.id VALUES ('c')"
    assert use(inserted) == [first, (1,)]
    assert use("SELECT number FROM dbo.version") == [first, (7,)]


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE dbo.other (id int)",
        "ALTER TABLE dbo.item ADD size int",
        "CREATE INDEX ix ON dbo.item (name)",
        "DROP TABLE dbo.part",
        "CREATE VIEW dbo.names AS SELECT name FROM dbo.item",
        "CREATE SCHEMA other",
        "TRUNCATE TABLE dbo.part",
        "UPDATE dbo.version SET number = 8",
        "DELETE FROM dbo.version",
        "INSERT INTO dbo.version VALUES (8)",
        "ALTER DATABASE CURRENT SET READ_COMMITTED_SNAPSHOT OFF",
    ],
)
def test_a_database_with_another_definition_or_row_is_dropped(use: Use, server: TestServer, change: str) -> None:
    (changed,) = use(change)
    (other, row) = use("SELECT number FROM dbo.version")
    assert other != changed
    assert row == (7,)
    names = postgres.databases(server.dsn)
    assert changed[0] not in names
    assert other[0] in names


def test_a_session_finds_nothing_of_the_one_before(pool: Recycled, server: TestServer) -> None:
    with pool.database() as name:
        lock = "EXEC sp_getapplock @Resource = 'one', @LockMode = 'Exclusive', @LockOwner = 'Session'"
        _execute(server, name, "SET LOCK_TIMEOUT 5", lock, "INSERT INTO dbo.item (name) VALUES ('a')")
        assert _execute(server, name, "SELECT @@LOCK_TIMEOUT, @@TRANCOUNT, SCOPE_IDENTITY()") == [(-1, 0, None)]
        free = "DECLARE @found int; EXEC @found = sp_getapplock @Resource = 'one', @LockMode = 'Exclusive', "
        assert _execute(server, name, f"{free}@LockOwner = 'Session', @LockTimeout = 0; SELECT @found") == [(0,)]
        _execute(server, name, "BEGIN TRANSACTION", "UPDATE dbo.item SET name = 'b'")
        assert _execute(server, name, "SELECT name FROM dbo.item") == [("a",)]


def test_a_session_that_is_left_open_is_ended(use: Use, pool: Recycled, server: TestServer) -> None:
    with pool.database() as name:
        engine = sa.create_engine(harness.url(server.port, harness.DRIVERS[0], name))
        conn = engine.connect()
        conn.exec_driver_sql("INSERT INTO dbo.item (name) VALUES ('a')")
    assert use("SELECT * FROM dbo.item")[1:] == []
    with pytest.raises(sa.exc.DBAPIError):
        conn.exec_driver_sql("SELECT 1")
    conn.invalidate()
    conn.close()
    engine.dispose()
