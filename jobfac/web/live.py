"""`/live`: tells open pages that something changed. One poll of the database serves all of them."""

import asyncio
import random
from collections.abc import AsyncGenerator
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from jobfac.api.live.streams import COMMENT, Streamed, event
from jobfac.api.problems import Problem, response
from jobfac.api.routing import Service
from jobfac.errors import JobfacError
from jobfac.store.history import counts
from jobfac.telemetry.logs import logger

log = logger("jobfac.web")

INTERVAL = 2.2
"""Seconds between two polls while a page is open: 55 statements a minute with their BEGIN, for any number of pages."""

QUIET = 10
"""The number of polls without a change after which a comment is sent, so proxies keep the connection open."""


class Changes:
    """Polls while at least one page listens. Used in the event loop only."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Queue[bool]] = set()
        self._looking: asyncio.Task[None] | None = None
        self._seen: tuple[Any, ...] | None = None

    async def serve(self, request: Request) -> Response:
        """Stream changes: an event `changed` whenever any page may be out of date."""
        service: Service = request.app.state.service
        try:
            caller = await run_in_threadpool(service.authenticator.caller, request)
        except Problem as problem:
            return response(problem)
        accepts = service.authenticator.accepts
        return Streamed(service.live, caller.name, self._events(service), lambda: accepts(request))

    async def _events(self, service: Service) -> AsyncGenerator[bytes, None]:
        queue: asyncio.Queue[bool] = asyncio.Queue()
        self._listeners.add(queue)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(service), name="changes")
        try:
            yield event("connected", {})
            while not service.live.closed:
                changed = await queue.get()
                while not queue.empty():
                    changed = queue.get_nowait() or changed
                yield event("changed", {"wait": round(random.random(), 2)}) if changed else COMMENT
        finally:
            self._listeners.discard(queue)

    async def _look(self, service: Service) -> None:
        quiet = 0
        while self._listeners:
            found: tuple[Any, ...] | None
            try:
                found = await run_in_threadpool(service.db.query, counts.fingerprint, retry_for=0)
            except JobfacError as error:
                log.warning("cannot poll for changes, retrying", action="poll_failed", reason=str(error))
                found = self._seen
            changed = self._seen is not None and found != self._seen
            self._seen = found
            quiet = 0 if changed else quiet + 1
            if changed or quiet % QUIET == 0 or service.live.closed:
                for queue in self._listeners:
                    queue.put_nowait(changed)
            await asyncio.sleep(INTERVAL)
        self._seen = None
