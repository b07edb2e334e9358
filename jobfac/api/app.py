"""The table of all endpoints, and the ASGI application."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

from anyio.to_thread import current_default_thread_limiter
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from jobfac.api import openapi
from jobfac.api.auth import Authenticator
from jobfac.api.live.feed import LiveFeed
from jobfac.api.metrics import Metrics
from jobfac.api.problems import HANDLERS
from jobfac.api.resources import (
    admin,
    approvals,
    backfill,
    calls,
    events,
    holds,
    jobs,
    many,
    notes,
    output,
    overview,
    runs,
    schedules,
    service,
    versions,
    workers,
)
from jobfac.api.routing import Service, dispatcher, routes
from jobfac.api.serving.connections import MAX_CONNECTIONS
from jobfac.api.serving.guard import OriginGuard
from jobfac.api.serving.kept import Kept, keep
from jobfac.api.serving.pieces import JSON, as_json
from jobfac.api.serving.proxy import ForwardedHeaders
from jobfac.api.serving.readiness import Readiness
from jobfac.api.serving.shares import Limits, Shares
from jobfac.api.serving.strangers import CHECKS, OPEN, Strangers
from jobfac.api.single_sign_on import SingleSignOn
from jobfac.database.engine import Database
from jobfac.telemetry import traces

RESOURCES = (
    jobs, backfill, versions, calls, runs, many, notes, approvals, output, events, workers, schedules, holds, overview,
    admin, service,
)  # fmt: skip

TABLE = tuple(endpoint for resource in RESOURCES for endpoint in resource.ENDPOINTS)
"""Every endpoint of the API. The pages are not part of it."""


class Document:
    """The OpenAPI document. It is made when it is first asked for, because that takes longer than a start."""

    def __init__(self) -> None:
        self._making = threading.Lock()
        self._made: tuple[dict[str, Any], Kept] | None = None

    def content(self) -> dict[str, Any]:
        """Return it. Call it in a thread."""
        return self._make()[0]

    async def kept(self) -> Kept:
        """Return it as it is sent."""
        made = self._made
        if made is None:
            made = await run_in_threadpool(self._make)
        return made[1]

    def _make(self) -> tuple[dict[str, Any], Kept]:
        with self._making:
            if self._made is None:
                content = openapi.document(TABLE)
                self._made = content, keep(as_json(content).encode(), JSON)
            return self._made


DOCUMENT = Document()


class Site(NamedTuple):
    """The pages that an API serves beside its endpoints. ``handlers``: the responses to exceptions outside of these."""

    routes: Sequence[BaseRoute] = ()
    handlers: Mapping[Any, Callable[[Request, Exception], Awaitable[Response]]] = {}


TOGETHER = Limits(14, 10)
"""The requests of all known senders that run at once, with the checks of their keys. Four are for requests that only
read: a DBA's open transaction may let all that change something wait."""

THREADS = TOGETHER.any_kind + CHECKS + OPEN
"""Requests that run at once; others wait. Each thread holds a database connection with its prepared statements and part
of the heap, so memory grows with the number of threads. More threads did not shorten response times.
"""

LOCK_WAIT = 3.0
"""Seconds that a statement of the API waits for a lock. Its transaction is tried twice."""

OF_ONE = Limits(8, TOGETHER.changing // 2)
"""What one caller has of ``TOGETHER``."""


def create_app(
    db: Database,
    hosts: Collection[str] | None = None,
    hops: int = 0,
    connections: int = MAX_CONNECTIONS,
    site: Site | None = None,
    single_sign_on: SingleSignOn | None = None,
    public_url: str = "",
) -> Starlette:
    """Create the application.

    Args:
        hosts: the accepted names in the Host header; None: any.
        hops: how many trusted proxies a request passes.
        connections: the maximum number of open connections. Event streams may use half of them.
        site: the pages; None: the API alone.
        public_url: where people reach the API: pages of this origin may use it, and new start URLs begin so; empty: as
            the request's.
        single_sign_on: how a trusted proxy names a person; None: no proxy does.
    """
    site = site or Site()
    person = "" if single_sign_on is None else single_sign_on.header
    live = LiveFeed(db, connections // 2)
    spans = traces.begin("api")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        current_default_thread_limiter().total_tokens = THREADS
        poller = asyncio.create_task(live.run(), name="live")
        yield
        live.close()
        poller.cancel()
        with suppress(asyncio.CancelledError):
            await poller
        await run_in_threadpool(spans.close)

    guard = Middleware(OriginGuard, hosts=hosts, person=person, public_url=public_url)
    app = Starlette(
        routes=[*routes(TABLE, dispatcher), *site.routes],
        middleware=[Middleware(ForwardedHeaders, hops=hops), guard],
        exception_handlers={**HANDLERS, **site.handlers},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    strangers = Strangers(shares := Shares(OF_ONE, connections // 2, TOGETHER), connections // 2)
    auth, ready = Authenticator(db, single_sign_on), Readiness(db.check_schema)
    app.state.service = Service(db, auth, live, spans, ready, shares, strangers, public_url)
    app.state.metrics = Metrics(db)
    app.state.document = DOCUMENT
    return app
