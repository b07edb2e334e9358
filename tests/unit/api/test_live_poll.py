"""The poll behind open pages goes on, whatever happens to it."""

import asyncio
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from jobfac.api.live import feed
from jobfac.errors import Unreachable
from jobfac.web import live


def test_an_error_of_one_poll_does_not_end_the_next_ones_nor_fill_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(live, "INTERVAL", 0.0)
    away = Unreachable("away")
    answers: Iterator[Any] = iter([(1,), RuntimeError("no thread"), away, away, away, (2,)])

    def query(work: Any, retry_for: float) -> Any:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    service: Any = SimpleNamespace(db=SimpleNamespace(query=query), live=SimpleNamespace(closed=False))

    async def heard() -> list[bytes]:
        events = live.Changes()._events(service)
        return [await asyncio.wait_for(anext(events), 5.0) for _ in range(2)]

    with caplog.at_level(logging.WARNING):
        assert b"changed" in asyncio.run(heard())[1]
    assert len([one for one in caplog.records if one.levelno == logging.WARNING]) == 1


def test_an_outage_does_not_fill_the_log_while_streams_are_open(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An open stream wrote a line each second."""
    monkeypatch.setattr(feed, "RETRY_DELAY", 0.0)
    polls = asyncio.Semaphore(0)

    def query(work: Any, *arguments: Any, retry_for: float) -> Any:
        raise Unreachable("out of reach")

    async def watch() -> None:
        live_feed = feed.LiveFeed(cast(Any, SimpleNamespace(query=query)))
        monkeypatch.setattr(live_feed, "_poll", counted(live_feed._poll))
        poller = asyncio.create_task(live_feed.run())
        with live_feed.watch(1, output=False):
            for _ in range(5):
                await asyncio.wait_for(polls.acquire(), 5.0)
        poller.cancel()

    def counted(poll: Any) -> Any:
        async def one() -> None:
            polls.release()
            await poll()

        return one

    with caplog.at_level(logging.WARNING):
        asyncio.run(watch())
    assert len([one for one in caplog.records if "live poll failed" in one.getMessage()]) == 1
