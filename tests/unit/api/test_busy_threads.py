"""An API whose threads are all busy."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from anyio.to_thread import current_default_thread_limiter
from starlette.requests import Request

from jobfac.api.app import DOCUMENT
from jobfac.api.resources import service
from jobfac.api.routing import dispatcher


@pytest.mark.parametrize("path", ["/healthz", "/openapi.json"])
def test_what_needs_no_key_is_answered_while_all_threads_are_busy(path: str) -> None:
    (endpoint,) = (one for one in service.ENDPOINTS if one.path == path)
    a_service = SimpleNamespace(db=SimpleNamespace(damage=SimpleNamespace(is_suspected=False)))
    state = SimpleNamespace(service=a_service, document=DOCUMENT)
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
    request = Request({**scope, "path_params": {}, "app": SimpleNamespace(state=state)})

    async def answer() -> bytes:
        limiter = current_default_thread_limiter()
        limiter.total_tokens = 1
        async with limiter:
            response = await asyncio.wait_for(dispatcher({"GET": endpoint})(request), 1)
        return cast(bytes, response.body)

    asyncio.run(DOCUMENT.kept())
    assert json.loads(asyncio.run(answer()))
