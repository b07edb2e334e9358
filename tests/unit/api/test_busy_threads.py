"""An API whose threads are all busy."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from anyio.to_thread import current_default_thread_limiter
from starlette.requests import Request

from jobfac.api.resources import service
from jobfac.api.routing import dispatcher


def test_the_health_is_answered_while_all_threads_are_busy() -> None:
    (health,) = (one for one in service.ENDPOINTS if one.path == "/healthz")
    state = SimpleNamespace(service=SimpleNamespace(db=SimpleNamespace(damage=SimpleNamespace(is_suspected=False))))
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/healthz", "query_string": b"", "headers": []}
    request = Request({**scope, "path_params": {}, "app": SimpleNamespace(state=state)})

    async def answer() -> bytes:
        limiter = current_default_thread_limiter()
        limiter.total_tokens = 1
        async with limiter:
            response = await asyncio.wait_for(dispatcher({"GET": health})(request), 1)
        return cast(bytes, response.body)

    assert asyncio.run(answer()) == b'{"status":"ok"}'
