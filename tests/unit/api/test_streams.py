"""An event stream while the check of its key waits for a lock of the database."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from anyio import CapacityLimiter

from jobfac.api.live import streams


def test_events_do_not_wait_for_the_check_of_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "CHECK", 0.0)
    monkeypatch.setattr(streams, "AT_MOST", 0.0)
    answered = threading.Event()

    async def events() -> AsyncGenerator[bytes, None]:
        for number in range(2):
            yield b"%d" % number
        answered.set()
        while True:  # the stream ends once the key was found to be revoked
            await asyncio.sleep(0)
            yield b"more"

    def is_valid() -> bool:
        return not answered.wait(30)

    async def read() -> list[Any]:
        live = cast(Any, SimpleNamespace(checks=CapacityLimiter(1)))
        response = streams.Streamed(live, "viewer", events(), is_valid)
        return [one async for one in response.body_iterator]

    found = asyncio.run(asyncio.wait_for(read(), 20))
    assert found[:2] == [b"0", b"1"]


def test_a_stream_that_has_ended_asks_nothing_of_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that come and go while a check waits for a lock made a queue of checks, each as slow as that one."""
    monkeypatch.setattr(streams, "CHECK", 0.0)
    monkeypatch.setattr(streams, "AT_MOST", 0.0)
    asked: list[str] = []

    async def events() -> AsyncGenerator[bytes, None]:
        yield b"one"
        yield b"more"

    def is_valid() -> bool:
        asked.append("it")
        return True

    async def leave() -> None:
        checks, others = CapacityLimiter(1), asyncio.all_tasks()
        live = cast(Any, SimpleNamespace(checks=checks))
        async with checks:  # as the check of another stream
            for _ in range(3):
                stream = streams.Streamed(live, "viewer", events(), is_valid).body_iterator
                assert await anext(aiter(stream)) == b"one"
                await cast(AsyncGenerator[bytes, None], stream).aclose()
        while asyncio.all_tasks() - others:
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(leave(), 20))
    assert asked == []
