"""The route table, and the application made from it."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress

from anyio.to_thread import current_default_thread_limiter
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware

from jobfac.api import openapi
from jobfac.api.auth import Gate
from jobfac.api.live.feed import Live
from jobfac.api.metrics import Metrics
from jobfac.api.problems import HANDLERS
from jobfac.api.resources import approvals, events, jobs, output, overview, runs, schedules, service, workers
from jobfac.api.routing import Service, routes
from jobfac.api.serving.connections import MOST
from jobfac.api.serving.guard import Guard
from jobfac.api.serving.proxy import Proxies
from jobfac.database.engine import Database
from jobfac.telemetry import traces
from jobfac.web import pages

TABLE = (
    *jobs.ENDPOINTS,
    *runs.ENDPOINTS,
    *approvals.ENDPOINTS,
    *output.ENDPOINTS,
    *events.ENDPOINTS,
    *workers.ENDPOINTS,
    *schedules.ENDPOINTS,
    *overview.ENDPOINTS,
    *service.ENDPOINTS,
)
"""Every call of the API, in one table. The pages are not part of it."""

THREADS = 16
"""Requests that are worked on at once; the others wait for their turn. Each thread holds a connection with its
statements and a part of the heap, so memory grows with their number; more threads serve no client sooner.
"""


def create_app(db: Database, hosts: Collection[str] | None = None, hops: int = 0, connections: int = MOST) -> Starlette:
    """The API on a database.

    ``hosts``: the names in the Host header that it answers for, None: any. ``hops``: how many trusted proxies a request
    passes. ``connections``: how many may be open at once; event streams take half of them at most.
    """
    live = Live(db, connections // 2)
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
        middleware=[Middleware(Proxies, hops=hops), Middleware(Guard, hosts=hosts)],
        exception_handlers=HANDLERS,
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.service = Service(db, Gate(db), live, spans)
    app.state.metrics = Metrics(db)
    app.state.document = openapi.document(TABLE)
    return app
