"""`/live`: tells open pages that something changed. One poll of the database serves all of them."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from functools import partial
from typing import Any

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import Response

from jobfac.api.live.streams import Streamed, event
from jobfac.api.problems import Problem, response
from jobfac.api.routing import Service, key_of
from jobfac.errors import JobfacError
from jobfac.store.history import counts
from jobfac.telemetry.logs import logger

log = logger("jobfac.web")

INTERVAL = 2.2
"""Seconds between two polls while a page is open: 55 statements a minute with their BEGIN, for any number of pages."""

BEAT = 10.0
"""Seconds without a change after which a page hears that the server is there, and whether the database is."""


SILENT = 8.0
"""Seconds without an answer of the database after which pages say so."""


class Changes:
    """Polls while at least one page listens. Used in the event loop only."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Queue[bool]] = set()
        self._looking: asyncio.Task[None] | None = None
        self._seen: tuple[Any, ...] | None = None
        self._thread = CapacityLimiter(1)  # a thread of its own, so that busy requests never delay it
        self._polled_at = 0.0  # when the database answered last, in monotonic seconds

    async def serve(self, request: Request) -> Response:
        """Stream changes: an event `changed` whenever any page may be out of date, and a `beat` at least every `BEAT`.

        A beat says for how many seconds the database has not answered.
        """
        service: Service = request.app.state.service
        try:
            authenticator = service.authenticator
            sender = authenticator.identity(request)
            caller = await service.strangers.check(request, sender, key_of, authenticator.caller, request)
        except Problem as problem:
            return response(problem)
        return Streamed(service.live, caller.label, self._events(service), lambda: authenticator.accepts(request))

    async def _events(self, service: Service) -> AsyncGenerator[bytes, None]:
        queue: asyncio.Queue[bool] = asyncio.Queue()
        self._listeners.add(queue)
        if self._looking is None or self._looking.done():
            self._polled_at = time.monotonic()
            self._looking = asyncio.create_task(self._look(service), name="changes")
        try:
            yield event("connected", {})
            while not service.live.closed:
                changed = False
                with suppress(TimeoutError):  # the poll itself may wait for the database
                    changed = await asyncio.wait_for(queue.get(), BEAT)
                while not queue.empty():
                    changed = queue.get_nowait() or changed
                yield event("changed", {"wait": round(random.random(), 2)}) if changed else self._beat()
        finally:
            self._listeners.discard(queue)

    def _beat(self) -> bytes:
        silent = time.monotonic() - self._polled_at
        return event("beat", {"silent": round(silent) if silent > SILENT else 0})

    async def _look(self, service: Service) -> None:
        while self._listeners:
            found = self._seen
            try:
                read = partial(service.db.query, counts.fingerprint, retry_for=0)
                found = await to_thread.run_sync(read, limiter=self._thread)
                self._polled_at = time.monotonic()
            except JobfacError as error:
                log.outage("cannot poll for changes, retrying", action="poll_failed", reason=str(error))
            except Exception:  # otherwise open pages would hear for ever that the database does not answer
                log.exception("cannot poll for changes, retrying", action="poll_failed")
            changed = self._seen is not None and found != self._seen
            self._seen = found
            if changed or service.live.closed:
                for queue in self._listeners:
                    queue.put_nowait(changed)
            await asyncio.sleep(INTERVAL)
        self._seen = None
