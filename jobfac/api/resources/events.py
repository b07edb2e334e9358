"""`/v1/events`: a stream of changes of runs and workers."""

import time
from collections.abc import AsyncGenerator

from starlette.responses import Response

from jobfac.api import models, parameters
from jobfac.api.live import queries
from jobfac.api.live.feed import END, Message
from jobfac.api.live.streams import COMMENT, KEEP_ALIVE, MEDIA, Streamed, event
from jobfac.api.problems import Problem
from jobfac.api.routing import ApiRequest, Endpoints, Service, key_of
from jobfac.errors import Unreachable
from jobfac.store.api_keys import Caller
from jobfac.views.live import LiveProgress, LiveReset, LiveRunEvent
from jobfac.views.serialization import as_json

ENDPOINTS = Endpoints()


@ENDPOINTS.add("GET", "/v1/events", media_types={MEDIA: models.LiveEvent})
async def get_events(request: ApiRequest, query: parameters.EventsQuery, headers: parameters.EventsHeaders) -> Response:
    """Follow changes of runs and workers.

    Events `run` (`id`, `run_id`, `job`, `attempt`, `at`, `event`, `by`, `detail`), `progress` (`run_id`, `job`,
    `attempt`, `progress`, `message`) and `worker` (a worker). `Last-Event-ID` resumes the stream; events near that
    position may be sent twice, with the same `id` in their data. `reset` (`newest`, `reason`): the position is beyond
    the newest event, as after the restore of a backup, so the stream goes on from now and may have missed events.
    """
    after = query.after
    if after is None and headers.last_event_id:
        after = int(headers.last_event_id)
    following = _events(request.service, request.caller, query, after)
    return Streamed(request.service.live, request.caller.label, following, request.is_accepted)


async def _events(
    service: Service, caller: Caller, query: parameters.EventsQuery, after: int | None
) -> AsyncGenerator[bytes, None]:
    until = None if query.seconds is None else time.monotonic() + query.seconds
    yield COMMENT  # so that the client sees that it is connected
    async with service.live.listen() as listener:
        sent: set[int] = set()  # ids that were read from the table and will also come from the listener
        while after is not None:
            try:
                if after > listener.start:
                    newest = await service.in_turn(key_of(caller), service.read, queries.newest_id)
                    if after > newest:
                        yield _as_sse(Message("reset", LiveReset(newest), listener.start))
                        break
                page = await service.in_turn(key_of(caller), service.read, queries.events, after)
            except (Problem, Unreachable):
                return
            for row in page:
                after = row.view.id
                if after > listener.start:
                    sent.add(after)
                past = Message("run", row.view, min(after, listener.start), row.category)
                if _is_for(past, caller, query.job):
                    yield _as_sse(past)
            if len(page) < queries.PAGE:
                break
        while True:
            left = KEEP_ALIVE if until is None else min(KEEP_ALIVE, until - time.monotonic())
            message = None if left <= 0 else await listener.next(left)
            if message == END or (message is None and left < KEEP_ALIVE):
                return
            if message is None:
                yield COMMENT
            elif isinstance(message.view, LiveRunEvent) and message.view.id in sent:
                sent.discard(message.view.id)
            elif _is_for(message, caller, query.job):
                yield _as_sse(message)


def _is_for(message: Message, caller: Caller, job: str | None) -> bool:
    """Whether to send a message to this caller. Messages about workers go to all callers that did not name a job."""
    if isinstance(message.view, LiveRunEvent | LiveProgress):
        return caller.sees(message.category) and job in (None, message.view.job)
    return job is None or isinstance(message.view, LiveReset)


def _as_sse(message: Message) -> bytes:
    assert message.view is not None
    return event(message.kind, as_json(message.view), message.position)
