"""The number of its transaction, which a driver sends with each request, without a driver."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from tests.tds_server.harness import TestServer
from tests.tds_server.protocol import Conversation
from tests.tds_server.session.backends import Backends
from tests.tds_server.session.executor import Session
from tests.tds_server.session.storage import Storage
from tests.tds_server.wire import requests, tokens, transport
from tests.tds_server.wire.transport import Transport

FIRST, NONE = (1).to_bytes(8, "little"), bytes(8)
BEGIN = struct.pack("<HBB", requests.BEGIN, 0, 0)


class Nobody:
    """Observes nothing."""

    def request(self, text: str, kind: str) -> None: ...
    def answered(self) -> None: ...
    def record(self, text: str, declarations: str) -> None: ...


@pytest.fixture
def client(server: TestServer, database: str) -> Iterator[Transport]:
    """The client's side of a session."""
    ours, theirs = socket.socketpair()
    wire = Transport(theirs)
    storage = Storage(Backends(server.dsn).take(database), wire.interrupted)

    def serve() -> None:
        with contextlib.suppress(ConnectionError):
            Conversation(wire, Session(storage), Nobody()).run()

    thread = threading.Thread(target=serve)
    thread.start()
    yield Transport(ours)
    ours.close()
    thread.join(10)
    storage.close()
    theirs.close()
    assert not thread.is_alive()


def ask(client: Transport, kind: int, descriptor: bytes, payload: bytes) -> bytes:
    """Send a request in a transaction; returns the answer."""
    header = struct.pack("<IH", 18, requests.TRANSACTION_HEADER) + descriptor + struct.pack("<I", 1)
    client.write(kind, struct.pack("<I", 4 + len(header)) + header + payload)
    return client.read().payload


def batch(client: Transport, descriptor: bytes, text: str) -> bytes:
    return ask(client, transport.BATCH, descriptor, text.encode("utf-16-le"))


def error(number: int) -> bytes:
    """How an answer with this error begins, apart from its length."""
    return struct.pack("<I", number) + b"\x01\x10"


def test_a_request_in_the_transaction_that_is_open_is_executed(client: Transport) -> None:
    assert tokens.environment(tokens.BEGAN, FIRST) in ask(client, transport.TRANSACTION, NONE, BEGIN)
    assert b"\xaa" not in batch(client, FIRST, "SELECT 1 AS a")


def test_a_request_in_a_transaction_that_is_over_is_not(client: Transport) -> None:
    ask(client, transport.TRANSACTION, NONE, BEGIN)
    ended = batch(client, FIRST, "ROLLBACK")
    assert tokens.environment(tokens.ROLLED_BACK, b"", FIRST) in ended
    assert error(3971) in batch(client, FIRST, "SELECT 1 AS a")


def test_a_request_outside_the_transaction_that_is_open_is_not(client: Transport) -> None:
    ask(client, transport.TRANSACTION, NONE, BEGIN)
    assert error(3989) in batch(client, NONE, "SELECT 1 AS a")
