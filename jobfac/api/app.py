"""The table of all endpoints, and the ASGI application."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress

from anyio.to_thread import current_default_thread_limiter
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware

from jobfac.api import openapi
from jobfac.api.auth import Authenticator
from jobfac.api.live.feed import LiveFeed
from jobfac.api.metrics import Metrics
from jobfac.api.problems import HANDLERS
from jobfac.api.resources import (
    admin,
    approvals,
    backfill,
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
from jobfac.api.routing import Service, routes
from jobfac.api.serving.connections import MAX_CONNECTIONS
from jobfac.api.serving.guard import OriginGuard
from jobfac.api.serving.proxy import ForwardedHeaders
from jobfac.api.serving.readiness import Readiness
from jobfac.database.engine import Database
from jobfac.telemetry import traces
from jobfac.web import pages

TABLE = (
    *jobs.ENDPOINTS,
    *backfill.ENDPOINTS,
    *versions.ENDPOINTS,
    *runs.ENDPOINTS,
    *many.ENDPOINTS,
    *notes.ENDPOINTS,
    *approvals.ENDPOINTS,
    *output.ENDPOINTS,
    *events.ENDPOINTS,
    *workers.ENDPOINTS,
    *schedules.ENDPOINTS,
    *holds.ENDPOINTS,
    *overview.ENDPOINTS,
    *admin.ENDPOINTS,
    *service.ENDPOINTS,
)
"""Every endpoint of the API. The pages are not part of it."""

THREADS = 16
"""Requests that run at once; others wait. Each thread holds a database connection with its prepared statements and part
of the heap, so memory grows with the number of threads. More threads did not shorten response times.
"""


def create_app(
    db: Database, hosts: Collection[str] | None = None, hops: int = 0, connections: int = MAX_CONNECTIONS
) -> Starlette:
    """Create the application.

    Args:
        hosts: the accepted names in the Host header; None: any.
        hops: how many trusted proxies a request passes.
        connections: the maximum number of open connections. Event streams may use half of them.
    """
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

    app = Starlette(
        routes=[*routes(TABLE), *pages.ROUTES],
        middleware=[Middleware(ForwardedHeaders, hops=hops), Middleware(OriginGuard, hosts=hosts)],
        exception_handlers=HANDLERS,
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.service = Service(db, Authenticator(db), live, spans, Readiness(db.check_schema))
    app.state.metrics = Metrics(db)
    app.state.document = openapi.document(TABLE)
    return app
