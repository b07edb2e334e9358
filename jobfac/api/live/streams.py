"""Server-sent events: their encoding, and the streaming response."""

import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from jobfac.api.live.feed import LiveFeed

MEDIA = "text/event-stream"

KEEP_ALIVE = 15.0
"""Seconds without an event after which a comment is sent, so that no proxy closes the connection as idle."""

COMMENT = b": still here\n\n"


def event(kind: str, data: Any, position: object = None) -> bytes:
    """Encode an event. ``position``: the Last-Event-ID that resumes after it."""
    lines = [f"event: {kind}", f"data: {json.dumps(data, ensure_ascii=False)}"]
    if position is not None:
        lines.insert(0, f"id: {position}")
    return ("\n".join(lines) + "\n\n").encode()


class EventStream(StreamingResponse):
    """A streaming response. It counts against the caller's share of streams until it ends."""

    def __init__(self, live: LiveFeed, caller: str, events: AsyncIterator[bytes]) -> None:
        super().__init__(events, media_type=MEDIA, headers={"X-Accel-Buffering": "no", "Vary": "Accept"})
        self._live = live
        self._caller = caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._live.admitted(self._caller):  # raises before the response begins
            await super().__call__(scope, receive, send)
