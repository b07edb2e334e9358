"""Who sends many requests at once, or for what takes seconds, keeps nobody else out."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AsyncExitStack
from itertools import islice
from types import ModuleType
from typing import Any

import pytest

from jobfac.api import app
from jobfac.api.problems import Problem
from jobfac.api.serving.shares import Limits, Shares
from jobfac.store import schedulers, schedules, workers
from tests.support.api_stage import Served


def test_many_requests_for_the_load_leave_threads_to_others(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 300 jobs that are often due it takes ten seconds, and each request had one of the API's threads. Later each
    waited for its turn, and a later request of another caller waited for all of them."""
    begun, goes_on = threading.Semaphore(0), threading.Event()
    read_load = schedules.read_load

    def slowly(*arguments: Any) -> Any:
        begun.release()
        assert goes_on.wait(60)
        return read_load(*arguments)

    monkeypatch.setattr(schedules, "read_load", slowly)
    number = 2 * app.THREADS
    with ThreadPoolExecutor(number + 1) as clients:
        answers = [clients.submit(served.viewer.get, "/v1/schedules/load", timeout=60) for _ in range(number)]
        try:
            assert begun.acquire(timeout=60)
            refused = [one.result() for one in islice(as_completed(answers, timeout=60), number - 4)]
            assert {one.status_code for one in refused} == {503}
            assert "Retry-After" in refused[0].headers
            other = clients.submit(served.operator.get, "/v1/schedules/load", timeout=60)
            for _ in range(number):
                assert served.operator.get("/v1/overview", timeout=20).is_success
            assert not begun.acquire(blocking=False)
        finally:
            goes_on.set()
        assert other.result().is_success
        assert sum(one.result().is_success for one in answers) == 4


@pytest.mark.parametrize(
    ("path", "module", "name"), [("/v1/workers", workers, "workers"), ("/fleet", schedulers, "schedulers")]
)
def test_one_caller_leaves_threads_to_others(
    served: Served, path: str, module: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many requests of one key as there are threads had all of them, and the health of the API waited."""
    begun, goes_on = threading.Semaphore(0), threading.Event()
    read = getattr(module, name)

    def slowly(*arguments: Any, **named: Any) -> Any:
        begun.release()
        assert goes_on.wait(60)
        return read(*arguments, **named)

    monkeypatch.setattr(module, name, slowly)
    number = 2 * app.THREADS
    with ThreadPoolExecutor(number) as clients:
        answers = [clients.submit(served.viewer.get, path, timeout=60) for _ in range(number)]
        try:
            for _ in range(app.OF_ONE.any_kind):
                assert begun.acquire(timeout=60)
            for _ in range(number):
                assert served.operator.get("/v1/jobs", timeout=20).is_success
            assert not begun.acquire(blocking=False)
        finally:
            goes_on.set()
        assert all(one.result().is_success for one in answers)


def test_one_caller_leaves_connections_to_others() -> None:
    """A request that waits for its turn has a connection."""

    async def fill() -> None:
        shares = Shares(Limits(1, 1), 3)
        async with AsyncExitStack() as running:
            await running.enter_async_context(shares.turn("busy"))
            waiting = [asyncio.create_task(running.enter_async_context(shares.turn("busy"))) for _ in range(2)]
            await asyncio.sleep(0)  # they wait now
            with pytest.raises(Problem, match="busy has 3 requests that run or wait"):
                await running.enter_async_context(shares.turn("busy"))
            await running.enter_async_context(shares.turn("other"))
            for one in waiting:
                one.cancel()
        async with shares.turn("busy"):  # the cancelled requests have freed their places
            pass

    asyncio.run(fill())
