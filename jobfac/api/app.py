"""The route table, and the application made from it."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress

from starlette.applications import Starlette
from starlette.middleware import Middleware

from jobfac.api import docs, events, fleet, jobs, openapi, output, runs, service
from jobfac.api.auth import Gate
from jobfac.api.guard import Guard
from jobfac.api.live import Live
from jobfac.api.metrics import Metrics
from jobfac.api.problems import HANDLERS
from jobfac.api.routing import Service, routes
from jobfac.database import Database

TABLE = (*jobs.CALLS, *runs.CALLS, *output.CALLS, *events.CALLS, *fleet.CALLS, *service.CALLS)
"""Every call there is, but for the pages that show this table."""


def create_app(db: Database, hosts: Collection[str] | None = None) -> Starlette:
    """The API on a database; ``hosts``: the names it answers for in the Host header, None: any."""
    live = Live(db)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        poller = asyncio.create_task(live.run(), name="live")
        yield
        live.close()
        poller.cancel()
        with suppress(asyncio.CancelledError):
            await poller

    app = Starlette(
        routes=[*routes(TABLE), *docs.ROUTES],
        middleware=[Middleware(Guard, hosts=hosts)],
        exception_handlers=HANDLERS,
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.service = Service(db, Gate(db), live)
    app.state.metrics = Metrics(db)
    app.state.document = openapi.document(TABLE)
    return app
