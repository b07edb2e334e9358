"""`/v1/events`: what happens to runs and workers, as it happens."""

import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from jobfac.api import models, parameters
from jobfac.api.auth import PATIENCE
from jobfac.api.live import queries
from jobfac.api.live.feed import END, Message
from jobfac.api.live.streams import COMMENT, KEEP_ALIVE, MEDIA, EventStream, event
from jobfac.api.routing import Ask, Call, Service
from jobfac.errors import Unreachable
from jobfac.store.api_keys import Caller


async def get_events(ask: Ask) -> Response:
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
                page = await run_in_threadpool(service.db.query, queries.events, after, retry_for=PATIENCE)
            except Unreachable:
                return
            for row in page:
                after = row["id"]
                if after > listener.start:
                    told.add(after)
                if _concerns(row, caller, query.job):
                    yield _told(Message("run", row, min(after, listener.start)))
            if len(page) < queries.PAGE:
                break
        while True:
            left = KEEP_ALIVE if until is None else min(KEEP_ALIVE, until - time.monotonic())
            message = None if left <= 0 else await listener.next(left)
            if message == END or (message is None and left < KEEP_ALIVE):
                return
            if message is None:
                yield COMMENT
            elif message.kind == "run" and message.data["id"] in told:
                told.discard(message.data["id"])
            elif _concerns(message.data, caller, query.job, message.kind):
                yield _told(message)


def _concerns(data: Mapping[str, Any], caller: Caller, job: str | None, kind: str = "run") -> bool:
    """Whether a message is for this caller: workers are everybody's business, unless one asks for a job."""
    if kind == "worker":
        return job is None
    return caller.sees(data["category"]) and job in (None, data["job"])


def _told(message: Message) -> bytes:
    data = {name: value for name, value in message.data.items() if name != "category"}
    return event(message.kind, data, message.position)


CALLS = (
    Call(
        method="GET",
        path="/v1/events",
        handler=get_events,
        query=parameters.EventsQuery,
        headers=parameters.EventsHeaders,
        texts={MEDIA: models.LiveEvent},
    ),
)
