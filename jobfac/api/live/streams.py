"""Server-sent events and their encoding, and the response that is streamed."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from anyio import to_thread
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from jobfac.api.live.feed import LiveFeed
from jobfac.errors import Unreachable

MEDIA = "text/event-stream"

KEEP_ALIVE = 15.0
"""Seconds without an event after which a comment is sent, so that no proxy closes the connection as idle."""

COMMENT = b": still here\n\n"

CHECK = 30.0
"""Seconds after which a stream checks again whether its key is valid. It may have been revoked, or have expired."""

AT_MOST = 1.0
"""Seconds for which events wait for that check."""


def event(kind: str, data: Any, position: object = None) -> bytes:
    """Encode an event. ``position``: the Last-Event-ID that resumes after it."""
    lines = [f"event: {kind}", f"data: {json.dumps(data, ensure_ascii=False)}"]
    if position is not None:
        lines.insert(0, f"id: {position}")
    return ("\n".join(lines) + "\n\n").encode()


class Streamed(StreamingResponse):
    """A streaming response. It counts against the caller's share of streams until it ends."""

    def __init__(
        self,
        live: LiveFeed,
        caller: str,
        parts: AsyncGenerator[bytes, None],
        is_valid: Callable[[], bool],
        media_type: str = MEDIA,
    ) -> None:
        """``is_valid``: whether the caller's key or session is still accepted; it may read the database."""
        self._is_valid = is_valid
        self._is_over = False
        headers = {"X-Accel-Buffering": "no", "Vary": "Accept"}
        super().__init__(self._while_valid(parts), media_type=media_type, headers=headers)
        self._live = live
        self._caller = caller

    async def _while_valid(self, events: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
        """Yield the events, and end soon after the caller's key was revoked."""
        checked, check = time.monotonic(), None
        try:
            async with aclosing(events) as following:
                async for one in following:
                    if check is None and time.monotonic() - checked >= CHECK:
                        check = asyncio.create_task(to_thread.run_sync(self._still_valid, limiter=self._live.checks))
                        # The check of another stream may wait for a lock of the database, and this one behind it.
                        await asyncio.wait({check}, timeout=AT_MOST)
                    if check is not None and check.done():
                        if not check.result():
                            return
                        checked, check = time.monotonic(), None
                    yield one
        finally:
            self._is_over = True

    def _still_valid(self) -> bool:
        # Its turn may come after the end. The task is not cancelled: then the thread of a check would go on alone.
        try:
            return not self._is_over and self._is_valid()
        except Unreachable:  # nothing new can be read either
            return True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD":
            # After the header, proxies send the next request into this connection: a stream would let it wait.
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send({"type": "http.response.body"})
            return
        with self._live.admitted(self._caller):  # raises before the response begins
            await super().__call__(scope, receive, send)
