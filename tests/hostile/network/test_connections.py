"""Idle, slow and endless clients: the API answers other clients meanwhile, and the other roles continue."""

import asyncio
import os
import re
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
from uvicorn.protocols.http.h11_impl import H11Protocol

from jobfac.api import validation
from jobfac.api.serving import connections, server
from jobfac.database.engine import Database
from jobfac.settings import Settings
from jobfac.store.api_keys import Role
from tests.support.api_stage import Served
from tests.support.factory import wait_for
from tests.support.fleet import Fleet

IDLE = 1000


@contextmanager
def descriptors(soft: int) -> Iterator[None]:
    """Set the limit of open files for processes that are started inside the block."""
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


def connect(port: int, stack: ExitStack) -> socket.socket:
    return stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))


def is_closed(client: socket.socket) -> bool:
    """Whether the server has closed the connection. Waits at most for its timeout."""
    try:
        while client.recv(65536):  # perhaps the end of an answer
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


def test_idle_connections_block_no_run_and_no_answer(sqlite_fleet: Fleet) -> None:
    """All roles in one process with few descriptors, and more connections than descriptors."""
    fleet = sqlite_fleet
    fleet.define(job={"command": ["echo", "made"]})
    with descriptors(256):
        up = fleet.factory.role("up", "--slots", "4", "--port", "0")
    link = wait_for(lambda: re.search(r"is up: http://127\.0\.0\.1:(\d+)/", fleet.log(up)), "the link")
    port = int(link[1])
    wait_for(lambda: _answers(port), "the API answers")
    with descriptors(min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1])), ExitStack() as stack:
        for _ in range(IDLE):
            connect(port, stack)
        before = time.monotonic()
        assert httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=10).status_code == 200
        assert time.monotonic() - before < 5
        rows = fleet.finish(*fleet.start("job", 8))
        assert {row["state"] for row in rows} == {"succeeded"}
        assert _answers(port)
    log = fleet.log(up)
    assert "Too many open files" not in log
    assert log.count("connection_limit") == 1
    assert len(log) < 20_000, log


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=10).status_code == 200
    except httpx.TransportError:
        return False


def test_a_client_that_sends_no_header_is_closed(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADER_TIMEOUT", 0.3)
    with ExitStack() as stack:
        silent, slow, second = (connect(served.server.port, stack) for _ in range(3))
        slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        second.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert second.recv(65536).startswith(b"HTTP/1.1 200")
        second.sendall(b"GET /healthz HT")  # the header of a further request counts too
        assert is_closed(silent)
        assert is_closed(slow)
        assert is_closed(second)


def is_healthy(client: socket.socket) -> bool:
    """Whether a request on this connection is answered, in as many pieces as it comes."""
    client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = b""
    while not answer.endswith(b"}") and (piece := client.recv(65536)):
        answer += piece
    return answer.startswith(b"HTTP/1.1 200")


def test_a_kept_alive_connection_may_be_silent_for_longer(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADER_TIMEOUT", 0.2)
    with ExitStack() as stack:
        kept, silent = connect(served.server.port, stack), connect(served.server.port, stack)
        assert is_healthy(kept)
        assert is_closed(silent)  # so that the timeout is over
        assert is_healthy(kept)


def test_clients_without_http_fill_no_log(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5):
        with ExitStack() as stack:
            client = connect(served.server.port, stack)
            client.sendall(b"\x16\x03\x01 no http\r\n\r\n")
            assert is_closed(client)
    assert [record.getMessage() for record in caplog.records].count("Invalid HTTP request received.") == 1


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Leave this process no free descriptor."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_without_descriptors_idle_connections_are_closed_and_new_ones_refused(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    address = ("127.0.0.1", served.server.port)
    key = served.viewer.headers["authorization"]
    with ExitStack() as stack:
        busy, first, second = (stack.enter_context(socket.socket()) for _ in range(3))
        busy.connect(address)
        busy.sendall(f"GET /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: {key}\r\n\r\n".encode())
        assert busy.recv(65536).startswith(b"HTTP/1.1 200")
        first.settimeout(3)
        with no_descriptors():
            first.connect(address)
            assert is_closed(first), "it does not stay in the queue of the kernel"
        idle = connect(served.server.port, stack)
        assert is_healthy(idle)
        with no_descriptors():
            second.connect(address)
            assert is_closed(idle), "it makes room"
        assert is_healthy(connect(served.server.port, stack))
        assert served.server.app.state.service.live.open.total() == 1
    assert sum(getattr(record, "fields", {}).get("action") == "descriptors_exhausted" for record in caplog.records) == 1


def test_a_client_that_takes_no_answer_is_closed(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "WRITE_TIMEOUT", 0.2)
    with ExitStack() as stack:
        client = stack.enter_context(socket.socket())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.connect(("127.0.0.1", served.server.port))
        client.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 40)
        wait_for(lambda: len(served.server.connections) == 1, "it is accepted")
        wait_for(lambda: len(served.server.connections) == 0, "it is closed")


def test_an_idle_connection_stays_longer_than_proxies_use_it() -> None:
    """nginx and the load balancers of clouds send requests into connections that have been idle for 60 s."""
    assert server.KEEP_ALIVE > 60


def test_an_idle_connection_is_closed(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "KEEP_ALIVE", 0.1)
    db = Database(sqlite_url)
    with Served(db, Settings(api_port=0)) as served, ExitStack() as stack:
        idle = connect(served.server.port, stack)
        assert is_healthy(idle)
        assert is_closed(idle)
    db.close()


def test_a_missing_body_is_answered(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "BODY_TIMEOUT", 0.2)
    served.define("a")
    with ExitStack() as stack:
        client = connect(served.server.port, stack)
        key = served.operator.headers["authorization"]
        head = f"POST /v1/jobs/a/runs HTTP/1.1\r\nHost: localhost\r\nAuthorization: {key}\r\n"
        client.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode())
        assert client.recv(65536).startswith(b"HTTP/1.1 408")


def test_the_longest_silent_connection_is_closed_for_a_new_one(served: Served) -> None:
    limits = served.server.connections
    limits.limit = 4
    key = served.viewer.headers["authorization"]
    with ExitStack() as stack:
        busy = connect(served.server.port, stack)
        busy.sendall(f"GET /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: {key}\r\n\r\n".encode())
        assert busy.recv(65536).startswith(b"HTTP/1.1 200")
        idle = [connect(served.server.port, stack) for _ in range(8)]
        assert all(is_closed(one) for one in idle[:5])
        assert httpx.get(f"{served.url}/healthz").status_code == 200
        assert served.server.app.state.service.live.open.total() == 1  # the stream is still served


def test_slow_forms_block_no_other_client(served: Served) -> None:
    """Nobody has to log in for them, so anybody could otherwise occupy all connections for as long as they like."""
    served.server.connections.limit = 8
    head = "POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    with ExitStack() as stack:
        for _ in range(12):
            connect(served.server.port, stack).sendall(f"{head}Content-Length: 1000\r\n\r\nkey=".encode())
        wait_for(lambda: len(served.server.connections) == 8, "the limit is reached")
        assert httpx.get(f"{served.url}/healthz").status_code == 200


def test_a_slow_body_with_a_key_is_awaited(served: Served) -> None:
    """In a flood each start with a payload over a slow line was cut."""
    served.define("job")
    served.start("job")
    served.server.connections.limit = 8
    key = f"Authorization: {served.operator.headers['Authorization']}\r\nContent-Type: application/json\r\n"
    head = f"POST /v1/jobs/job/runs HTTP/1.1\r\nHost: localhost\r\n{key}Content-Length: 14\r\n\r\n"
    with ExitStack() as stack:
        slow = connect(served.server.port, stack)
        slow.sendall(f'{head}{{"pay'.encode())
        assert is_healthy(connect(served.server.port, stack)), "the head has been read"
        assert all(is_healthy(connect(served.server.port, stack)) for _ in range(20))
        slow.sendall(b'load":""}')
        assert slow.recv(65536).startswith(b"HTTP/1.1 201")


def test_clients_that_take_no_answers_block_no_other_client(served: Served) -> None:
    """Who sends many requests at once and reads nothing would otherwise occupy a connection without a key."""
    served.server.connections.limit = 8
    uvicorn = served.server._server.server_state
    with ExitStack() as stack:
        for _ in range(8):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            client.connect(("127.0.0.1", served.server.port))
            client.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 40)

        def are_stalled() -> bool:
            protocols = [one for one in list(uvicorn.connections) if isinstance(one, H11Protocol)]
            handled = [one for one in protocols if one.flow.write_paused and not one.cycle.response_complete]
            return len(handled) == 8

        wait_for(are_stalled, "all connections wait for their clients")
        assert httpx.get(f"{served.url}/healthz").status_code == 200


def test_a_form_of_somebody_who_may_not_send_it_is_not_read(served: Served) -> None:
    large = {"key": "x" * 20_000}
    assert served.client(None).post("/login", data=large).status_code == 413
    viewer = served.keys[Role.VIEWER]
    head = "POST /jobs/a/enable HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    with ExitStack() as stack:
        for authorization, status in (("", 303), (f"Authorization: Bearer {viewer}\r\n", 403)):
            client = connect(served.server.port, stack)
            client.sendall(f"{head}{authorization}Content-Length: 1000\r\n\r\nback=".encode())
            assert client.recv(65536).startswith(f"HTTP/1.1 {status}".encode())


@pytest.mark.parametrize("path", ["/v1/jobs/a/runs", "/login"])
def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_error(served: Served, path: str) -> None:
    """The log had a traceback of it."""
    kinds = {"/login": "application/x-www-form-urlencoded"}
    headers = {"host": "localhost", "content-type": kinds.get(path, "application/json"), "content-length": "1000"}
    headers["authorization"] = served.operator.headers["Authorization"]
    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
        "scheme": "http", "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
    }  # fmt: skip
    messages = iter([{"type": "http.request", "body": b"{", "more_body": True}])
    sent: list[str] = []

    async def receive() -> Any:
        return next(messages, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        sent.append(message["type"])

    asyncio.run(served.server.app(scope, receive, send))
    assert sent[0] == "http.response.start"
