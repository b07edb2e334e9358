"""Clients without a valid key, or with one: any number of their connections keeps out no key that is in use."""

import asyncio
import threading
from contextlib import ExitStack
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from jobfac.api.problems import Problem
from jobfac.api.serving.connections import GONE
from jobfac.api.serving.shares import Limits, Shares
from jobfac.api.serving.strangers import CHECKS, LastFirst, Strangers
from jobfac.store import api_keys
from jobfac.store.api_keys import Role
from tests.hostile.network.test_connections import connect
from tests.support.api_stage import Served
from tests.support.factory import wait_for


def test_made_up_keys_keep_out_no_valid_one(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """600 connections of one client kept all others out; 60 that were closed at once made a queue without an end."""
    served.define("job")
    served.start("job")
    assert served.viewer.get("/v1/runs").is_success
    real, checked, done = api_keys.check, list[str](), threading.Event()

    def slow(conn: Any, key: str) -> Any:
        if key.startswith("jf_madeup"):
            checked.append(key)
            done.wait(30)
        return real(conn, key)

    monkeypatch.setattr(api_keys, "check", slow)
    served.server.connections.limit = 20
    outside = served.client(None)
    with ExitStack() as stack:
        stack.callback(done.set)
        clients = stack.enter_context(ExitStack())
        for number in range(60):
            head = f"GET /v1/runs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer jf_madeup{number:06}_x\r\n"
            head += "Cookie: of=another application\r\n" if number % 2 else ""
            connect(served.server.port, clients).sendall(f"{head}\r\n".encode())
        wait_for(lambda: len(checked) == CHECKS and len(served.server.connections) <= 20, "the others wait")
        assert served.client(served.keys[Role.VIEWER], timeout=5).get("/v1/runs").is_success
        assert served.client(served.keys[Role.OPERATOR], timeout=5).post("/v1/jobs/job/runs").status_code == 201
        assert outside.get("/healthz", timeout=5).is_success
        assert outside.get("/login", timeout=5).is_success
        clients.close()
        wait_for(lambda: len(served.server._server.server_state.tasks) <= CHECKS, "nobody waits for those who left")
    assert served.client("jf_other0000000_x").get("/v1/runs").status_code == 401
    assert len(checked) == CHECKS, "what those who left had sent is not checked"


def test_a_second_request_keeps_no_connection(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server does not read then, and did not notice that it had shut the connection down itself."""
    real, done = api_keys.check, threading.Event()
    monkeypatch.setattr(api_keys, "check", lambda conn, key: done.wait(30) and real(conn, key))
    served.server.connections.limit = 8
    with ExitStack() as stack:
        stack.callback(done.set)
        for number in range(20):
            head = f"GET /v1/runs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer jf_madeup{number:06}_x\r\n\r\n"
            connect(served.server.port, stack).sendall(head.encode() * 2)
        wait_for(lambda: len(served.server._server.server_state.tasks) >= CHECKS, "the first are checked")
        wait_for(lambda: len(served.server.connections) <= 8, "the others are closed")


def test_who_left_before_a_page_was_made_is_no_error_in_the_log() -> None:
    strangers = Strangers(Shares(Limits(1, 1), 1), 1)
    request = Request({"type": "http", GONE: True})
    assert asyncio.run(strangers.answer(request, Response)).status_code == 400


def test_connections_of_one_key_keep_out_no_other(served: Served) -> None:
    """Those whose keys were being checked and those that waited were half of all connections each."""
    served.define("job")
    waiting = f"GET /v1/runs/{served.start('job')}?wait=25 HTTP/1.1\r\nHost: localhost\r\n"
    assert served.viewer.get("/v1/runs").is_success
    served.server.connections.limit, live = 12, served.server.app.state.service.live
    with ExitStack() as stack:
        for _ in range(15):
            key = f"Authorization: {served.viewer.headers['Authorization']}\r\n\r\n"
            connect(served.server.port, stack).sendall((waiting + key).encode())
        wait_for(lambda: live.open.total() >= 8 and len(served.server.connections) <= 12, "they wait for the run")
        for _ in range(3):
            assert served.client(served.keys[Role.OPERATOR], timeout=5).post("/v1/jobs/job/runs").status_code == 201
        assert live.open.total() >= 3, "those within the share stay"


def test_all_sessions_of_one_key_have_one_share() -> None:
    """Each had half of the threads for the checks of its key, which may wait for a lock of the database."""
    strangers, request = Strangers(Shares(Limits(1, 1), 1), 1), Request({"type": "http"})
    begun, done = threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        assert done.wait(30)
        return "anna"

    async def both() -> None:
        for session in ("first", "second"):
            await strangers.check(request, session, str, lambda: "anna")
        first = asyncio.create_task(strangers.check(request, "first", str, slow))
        await asyncio.to_thread(begun.wait, 30)
        with pytest.raises(Problem, match="The anna has 1 requests"):
            await strangers.check(Request({"type": "http"}), "second", str, lambda: "anna")
        done.set()
        await first

    asyncio.run(both())


def test_a_key_stays_known_while_the_database_is_away() -> None:
    """Sessions did not: in a flood they were strangers again after each outage."""
    strangers = Strangers(Shares(Limits(1, 1), 1), 1)

    async def known_after(status: int) -> bool:
        await strangers.check(Request({"type": "http"}), "session", str, lambda: "anna")
        answer = await strangers.check(Request({"type": "http"}), "session", str, Response, "", status)
        assert isinstance(answer, Response)
        return "session" in strangers

    assert asyncio.run(known_after(503))
    assert not asyncio.run(known_after(303))


def test_whoever_came_last_is_the_next() -> None:
    """In the order of arrival a flood kept out all that were not known: their connections were closed before."""

    async def play() -> None:
        places, served = LastFirst(1), list[str]()
        go = asyncio.Event()

        async def come(name: str) -> None:
            async with places:
                served.append(name)
                await go.wait()

        async with asyncio.TaskGroup() as group:
            tasks = []
            for name in ("first", "second", "gone", "last", "given up"):
                tasks.append(group.create_task(come(name)))
                await asyncio.sleep(0)
            tasks[2].cancel()
            await asyncio.sleep(0)
            go.set()
            while len(served) < 2:
                await asyncio.sleep(0)
            tasks[4].cancel()
        assert served == ["first", "given up", "last", "second"]
        async with places:
            served.append("free again")

    asyncio.run(asyncio.wait_for(play(), 10))


def test_who_leaves_while_a_place_becomes_free_is_passed_over() -> None:
    """Its wait is over at once, but its task goes on later: meanwhile the place is given to another one."""

    async def hold(place: LastFirst) -> str:
        async with place:
            return "served"

    async def flood() -> list[Any]:
        place = LastFirst(1)
        async with place:
            waiting = [asyncio.create_task(hold(place)) for _ in range(3)]
            await asyncio.sleep(0)
            for one in waiting[1:]:
                one.cancel()
        return await asyncio.gather(*waiting, return_exceptions=True)

    first, *gone = asyncio.run(asyncio.wait_for(flood(), 20))
    assert first == "served"
    assert [type(one) for one in gone] == [asyncio.CancelledError] * 2
