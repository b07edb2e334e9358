"""Server-sent events: their form on the wire, and the response that carries them."""

import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from jobfac.api.live.feed import Live

MEDIA = "text/event-stream"

KEEP_ALIVE = 15.0
"""Seconds of silence after which a comment is sent, so that no proxy takes the connection for dead."""

COMMENT = b": still here\n\n"


def event(kind: str, data: Any, position: object = None) -> bytes:
    """One event; ``position`` is what a client sends as Last-Event-ID to resume after it."""
    lines = [f"event: {kind}", f"data: {json.dumps(data, ensure_ascii=False)}"]
    if position is not None:
        lines.insert(0, f"id: {position}")
    return ("\n".join(lines) + "\n\n").encode()


class EventStream(StreamingResponse):
    """An endless answer. It counts against the caller's share as long as it is being sent."""

    def __init__(self, live: Live, caller: str, events: AsyncIterator[bytes]) -> None:
        super().__init__(events, media_type=MEDIA, headers={"X-Accel-Buffering": "no", "Vary": "Accept"})
        self._live = live
        self._caller = caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._live.admitted(self._caller):  # refused before anything is sent
            await super().__call__(scope, receive, send)
