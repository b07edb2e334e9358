"""A connection to SQL Server whose packets nobody acknowledges ends soon, and not after the driver's long waiting."""

import socket
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from jobfac.database.dialects.answers import LoginPause, is_transient
from jobfac.database.dialects.mssql import Mssql
from jobfac.machine import dead_network
from jobfac.machine.dead_network import UNACKNOWLEDGED, sockets

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the limit")


def limit(connection: socket.socket) -> float:
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) / 1000


def test_the_kernel_gives_up_a_connection_of_the_driver_and_no_other_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as other:
        dialect: Any = SimpleNamespace(connect=lambda: socket.create_connection(server.getsockname()))
        with LoginPause()._connect(dialect, None, (), {}) as connection:
            assert (limit(connection), limit(other)) == (UNACKNOWLEDGED, 0.0)
            assert {connection.fileno(), other.fileno()} <= set(sockets().values())


def test_a_statement_without_a_limit_survives_a_probe_that_is_lost() -> None:
    """`db upgrade` builds the index of a large table for an hour, and the driver sends a hundred of them."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        dialect: Any = SimpleNamespace(connect=lambda: socket.create_connection(server.getsockname()))
        with LoginPause()._connect(dialect, None, (), {}) as connection:
            driver = SimpleNamespace()
            pooled: Any = SimpleNamespace(connection=SimpleNamespace(driver_connection=driver))
            Mssql().give_up_after(pooled, 3.0)
            assert (limit(connection), driver.timeout) == (UNACKNOWLEDGED, 3)
            Mssql().give_up_after(pooled, 0)
            assert (limit(connection), driver.timeout) == (0.0, 0)


def test_a_machine_that_does_not_show_them_keeps_nobody_from_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_network, "OPEN", "/proc/self/missing")
    dialect: Any = SimpleNamespace(connect=lambda: "connected")
    assert LoginPause()._connect(dialect, None, (), {}) == "connected"


def test_a_token_that_cannot_be_had_for_a_while_is_an_outage() -> None:
    """The service that gives tokens may be away for an hour. Workers ended after a minute, and their programs."""

    class Error(Exception):
        """As the driver's."""

    def connect() -> None:
        raise Error("Driver Error: Failed to acquire an Entra ID access token for authentication type 'msi': timed out")

    dialect: Any = SimpleNamespace(connect=connect, loaded_dbapi=SimpleNamespace(Error=Error, __name__="mssql_python"))
    with pytest.raises(Error) as caught:
        LoginPause()._connect(dialect, None, (), {})
    assert is_transient(caught.value)
