"""Logins, transactions, locks and cancelled statements, through both drivers."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from tests.tds_server import harness
from tests.tds_server.harness import TestServer
from tests.tds_server.tests import queue_table
from tests.tds_server.tests.queue_table import run


@pytest.fixture
def queue(engine: sa.Engine) -> sa.Engine:
    """The queue's tables with two queued rows."""
    queue_table.create(engine, 2)
    return engine


def count(conn: sa.Connection) -> int:
    return conn.execute(sa.select(sa.func.count()).select_from(run)).scalar_one()


@contextmanager
def in_background(work: Any) -> Iterator[list[BaseException | None]]:
    """Run ``work`` in a thread and join it at the end of the block; yields a list for its exception."""
    raised: list[BaseException | None] = []

    def catching() -> None:
        try:
            work()
        except sa.exc.DBAPIError as error:
            raised.append(error)

    thread = threading.Thread(target=catching)
    thread.start()
    try:
        yield raised
    finally:
        thread.join(20)
        assert not thread.is_alive()


# Logins


@pytest.mark.parametrize(
    ("changes", "message"), [({"password": "wrong"}, "Login failed"), ({"database": "nothing"}, "nothing")]
)
def test_a_login_is_refused(url: sa.URL, changes: dict[str, str], message: str) -> None:
    refused = sa.create_engine(url.set(**changes))  # type: ignore[arg-type]
    with pytest.raises(sa.exc.DBAPIError, match=message):
        refused.connect()
    refused.dispose()


# Transactions


def test_a_rollback_undoes_all_changes(queue: sa.Engine) -> None:
    with queue.connect() as conn:
        conn.execute(run.delete())
        assert count(conn) == 0
        conn.rollback()
        assert count(conn) == 2


def test_changes_are_visible_after_the_commit(queue: sa.Engine) -> None:
    with queue.connect() as writer, queue.connect() as reader:
        writer.execute(run.insert().values(queue="new"))
        assert count(reader) == 2
        reader.rollback()
        writer.commit()
        assert count(reader) == 3


def test_a_rollback_to_a_savepoint_undoes_later_changes(queue: sa.Engine) -> None:
    with queue.begin() as conn:
        conn.execute(run.insert().values(queue="kept"))
        part = conn.begin_nested()
        conn.execute(run.insert().values(queue="taken back"))
        with pytest.raises(sa.exc.IntegrityError):
            conn.execute(run.insert().values(state="nothing"))
        part.rollback()
        conn.execute(run.insert().values(queue="kept too"))
    with queue.connect() as conn:
        found = conn.execute(sa.select(run.c.queue).order_by(run.c.id)).scalars().all()
    assert found == ["default", "default", "kept", "kept too"]


def test_an_unknown_savepoint_leaves_the_transaction_unchanged(queue: sa.Engine) -> None:
    with queue.begin() as conn:
        conn.execute(run.insert().values(queue="kept"))
        with pytest.raises(sa.exc.DBAPIError, match="No transaction or savepoint of that name"):
            conn.exec_driver_sql("ROLLBACK TRANSACTION nowhere")
    with queue.connect() as conn:
        assert count(conn) == 3


def test_a_failed_statement_leaves_its_transaction_open(queue: sa.Engine) -> None:
    with queue.begin() as conn:
        conn.execute(run.insert().values(queue="a"))
        with pytest.raises(sa.exc.IntegrityError):
            conn.execute(run.insert().values(state="nothing"))
        conn.execute(run.insert().values(queue="b"))
    with queue.connect() as conn:
        assert count(conn) == 4


def test_with_xact_abort_a_failed_statement_ends_its_transaction(queue: sa.Engine) -> None:
    with queue.connect() as conn:
        conn.exec_driver_sql("SET XACT_ABORT ON")
        conn.execute(run.insert().values(queue="a"))
        with pytest.raises(sa.exc.IntegrityError):
            conn.execute(run.insert().values(state="nothing"))
        assert count(conn) == 2


def test_with_xact_abort_a_refused_named_lock_ends_no_transaction(queue: sa.Engine) -> None:
    lock = (
        "DECLARE @got int; EXEC @got = sp_getapplock @Resource = 'a', @LockMode = 'Exclusive', @LockOwner = "
        "'Transaction', @LockTimeout = 0; SELECT @got"
    )
    with queue.connect() as other, queue.connect() as conn:
        assert other.exec_driver_sql(lock).scalar() == 0
        conn.exec_driver_sql("SET XACT_ABORT ON")
        conn.execute(run.insert().values(queue="a"))
        assert conn.exec_driver_sql(lock).scalar() == -1
        assert count(conn) == 3


def test_the_isolation_level_belongs_to_the_session(queue: sa.Engine) -> None:
    with queue.connect().execution_options(isolation_level="SERIALIZABLE") as conn:
        assert conn.get_isolation_level() == "SERIALIZABLE"
        assert count(conn) == 2
    with queue.connect() as conn:
        assert conn.get_isolation_level() == "READ COMMITTED"


def test_without_transactions_each_statement_is_committed(queue: sa.Engine) -> None:
    with queue.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        assert conn.exec_driver_sql("SELECT @@TRANCOUNT").scalar_one() == 0
        conn.execute(run.insert().values(queue="a"))
    with queue.connect() as conn:
        assert count(conn) == 3


def test_a_closed_connection_rolls_back(queue: sa.Engine) -> None:
    conn = queue.connect()
    conn.execute(run.delete())
    conn.invalidate()
    conn.close()
    with queue.connect() as other:
        assert count(other) == 2


# Locks


def change(conn: sa.Connection, number: int) -> None:
    conn.execute(run.update().where(run.c.id == number).values(attempt=run.c.attempt + 1))


def test_a_deadlock_rolls_back_one_victim(queue: sa.Engine) -> None:
    met = threading.Barrier(2)
    victims = []

    def cross(first: int, second: int) -> None:
        with queue.connect() as conn:
            change(conn, first)
            met.wait(10)
            try:
                change(conn, second)
            except sa.exc.DBAPIError as error:
                victims.append(str(error))
                change(conn, second)  # the victim holds no lock any more, so this waits for the other's commit
            conn.commit()

    with in_background(lambda: cross(1, 2)) as raised:
        cross(2, 1)
    assert raised == []
    assert len(victims) == 1
    assert "deadlock victim" in victims[0]
    with queue.connect() as conn:
        assert sorted(conn.execute(sa.select(run.c.attempt)).scalars()) == [1, 2]


def test_the_lock_timeout_limits_the_wait_for_a_lock(queue: sa.Engine) -> None:
    with queue.begin() as holder, queue.begin() as waiter:
        change(holder, 1)
        waiter.exec_driver_sql("SET LOCK_TIMEOUT 50")
        change(waiter, 2)
        with pytest.raises(sa.exc.DBAPIError, match="Lock request time out"):
            change(waiter, 1)
        assert waiter.exec_driver_sql("SELECT @@TRANCOUNT").scalar_one() == 1
    with queue.connect() as conn:
        assert conn.execute(sa.select(run.c.attempt)).scalars().all() == [1, 1]


def test_updlock_locks_rows_until_the_transaction_ends(queue: sa.Engine) -> None:
    locking = sa.text("SELECT id FROM jobfac.run WITH (UPDLOCK, ROWLOCK) WHERE id = 1")
    with queue.connect() as holder, queue.connect() as other:
        holder.execute(locking).all()
        other.exec_driver_sql("SET LOCK_TIMEOUT 0")
        with pytest.raises(sa.exc.DBAPIError, match="Lock request time out"):
            other.execute(locking)
        holder.commit()
        assert other.execute(locking).all() == [(1,)]


GET_LOCK = sa.text(
    "DECLARE @r INT; EXEC @r = sp_getapplock @Resource = :name, @LockMode = N'Exclusive', "
    "@LockOwner = N'Transaction', @LockTimeout = :patience; SELECT @r"
)


def test_an_application_lock_excludes_others_until_the_transaction_ends(queue: sa.Engine) -> None:
    def take(conn: sa.Connection, name: str) -> int:
        return int(conn.execute(GET_LOCK, {"name": name, "patience": 30}).scalar_one())

    with queue.connect() as one, queue.connect() as two:
        assert take(one, "leader") == 0
        assert (take(two, "leader"), take(two, "other")) == (-1, 0)
        one.commit()
        assert take(two, "leader") == 0


# Cancelling


@contextmanager
def cursor_with_timeout(engine: sa.Engine) -> Iterator[Any]:
    """A cursor whose statements are cancelled after one second."""
    connection = engine.raw_connection()
    driver_connection: Any = connection.driver_connection
    driver_connection.timeout = 1
    cursor = connection.cursor()
    try:
        yield cursor
    finally:
        cursor.close()
        connection.invalidate()


def test_a_statement_that_exceeds_the_timeout_is_cancelled(engine: sa.Engine) -> None:
    with cursor_with_timeout(engine) as cursor:
        started = time.monotonic()
        with pytest.raises(Exception, match=r"(?i)timeout"):
            cursor.execute("WAITFOR DELAY '00:00:20'")
        assert time.monotonic() - started < 10
        assert cursor.execute("SELECT 1").fetchall()[0][0] == 1


@pytest.mark.parametrize(("xact_abort", "stored"), [("OFF", [1, 6]), ("ON", [1, 1])])
def test_a_cancelled_wait_for_a_lock_ends_the_transaction_with_xact_abort(
    queue: sa.Engine, xact_abort: str, stored: list[int]
) -> None:
    with queue.begin() as holder, cursor_with_timeout(queue) as cursor:
        change(holder, 1)
        cursor.execute(f"SET XACT_ABORT {xact_abort}")
        cursor.execute("UPDATE jobfac.run SET attempt = 5 WHERE id = 2")
        with pytest.raises(Exception, match=r"(?i)timeout"):
            cursor.execute("UPDATE jobfac.run SET attempt = 5 WHERE id = 1")
        cursor.execute("UPDATE jobfac.run SET attempt = attempt + 1 WHERE id = 2")
        cursor.connection.commit()
    with queue.connect() as conn:
        assert conn.execute(sa.select(run.c.attempt).order_by(run.c.id)).scalars().all() == stored


def is_lock_awaited(server: TestServer) -> bool:
    with psycopg.connect(f"{server.dsn} dbname=postgres") as conn:
        return conn.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone() is not None


def test_the_locks_of_a_client_that_dies_are_released(server: TestServer, queue: sa.Engine) -> None:
    dying = sa.create_engine(harness.url(server.port, "pyodbc", queue.url.database or "", program="dying"))
    with queue.begin() as holder:
        change(holder, 1)

        def wait() -> None:
            with dying.begin() as conn:
                change(conn, 2)
                change(conn, 1)

        with in_background(wait) as raised:
            while not is_lock_awaited(server):
                time.sleep(0.02)
            assert server.command(cut="dying") == {"cut": 1}
        assert len(raised) == 1
    dying.dispose()
    with queue.begin() as conn:
        conn.exec_driver_sql("SET LOCK_TIMEOUT 5000")
        change(conn, 2)
        assert conn.execute(sa.select(run.c.attempt).order_by(run.c.id)).scalars().all() == [1, 1]
