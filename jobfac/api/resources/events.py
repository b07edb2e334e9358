"""`/v1/events`: what happens to runs and workers, as it happens."""

import time
from collections.abc import AsyncIterator

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from jobfac.api import models, parameters
from jobfac.api.auth import RETRY_FOR
from jobfac.api.live import queries
from jobfac.api.live.feed import END, Message
from jobfac.api.live.streams import COMMENT, KEEP_ALIVE, MEDIA, EventStream, event
from jobfac.api.routing import ApiRequest, Endpoint, Service
from jobfac.errors import Unreachable
from jobfac.store.api_keys import Caller
from jobfac.views.live import LiveProgress, LiveRunEvent
from jobfac.views.serialization import as_json


async def get_events(ask: ApiRequest) -> Response:
    """Follow runs and workers.

    Events `run` (`id`, `run_id`, `job`, `attempt`, `at`, `event`, `by`, `detail`), `progress` (`run_id`, `job`,
    `attempt`, `progress`, `message`) and `worker` (a worker). Resumable with `Last-Event-ID`; around the place of
    resumption an event may be told twice, with the same `id` in its data.
    """
    query: parameters.EventsQuery = ask.query
    after = query.after
    if after is None and ask.headers.last_event_id:
        after = int(ask.headers.last_event_id)
    return EventStream(ask.service.live, ask.caller.name, _events(ask.service, ask.caller, query, after))


async def _events(
    service: Service, caller: Caller, query: parameters.EventsQuery, after: int | None
) -> AsyncIterator[bytes]:
    until = None if query.seconds is None else time.monotonic() + query.seconds
    yield COMMENT  # the client sees that it is connected
    async with service.live.listen() as listener:
        told: set[int] = set()
        while after is not None:
            try:
                page = await run_in_threadpool(service.db.query, queries.events, after, retry_for=RETRY_FOR)
            except Unreachable:
                return
            for row in page:
                after = row.view.id
                if after > listener.start:
                    told.add(after)
                happened = Message("run", row.view, min(after, listener.start), row.category)
                if _concerns(happened, caller, query.job):
                    yield _as_sse(happened)
            if len(page) < queries.PAGE:
                break
        while True:
            left = KEEP_ALIVE if until is None else min(KEEP_ALIVE, until - time.monotonic())
            message = None if left <= 0 else await listener.next(left)
            if message == END or (message is None and left < KEEP_ALIVE):
                return
            if message is None:
                yield COMMENT
            elif isinstance(message.view, LiveRunEvent) and message.view.id in told:
                told.discard(message.view.id)
            elif _concerns(message, caller, query.job):
                yield _as_sse(message)


def _concerns(message: Message, caller: Caller, job: str | None) -> bool:
    """Whether a message is for this caller: workers are for everybody, unless one asks for a job."""
    if isinstance(message.view, LiveRunEvent | LiveProgress):
        return caller.sees(message.category) and job in (None, message.view.job)
    return job is None


def _as_sse(message: Message) -> bytes:
    assert message.view is not None
    return event(message.kind, as_json(message.view), message.position)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/events",
        handler=get_events,
        query=parameters.EventsQuery,
        headers=parameters.EventsHeaders,
        texts={MEDIA: models.LiveEvent},
    ),
)
