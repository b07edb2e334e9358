"""Calls of monitoring systems."""

from starlette.responses import Response

from jobfac.api import metrics, models
from jobfac.api.routing import Answer, ApiRequest, Endpoint


async def health(ask: ApiRequest) -> Answer:
    """Check that the process is alive, even while all threads are busy."""
    return Answer({"status": "ok"})


def ready(ask: ApiRequest) -> Answer:
    """Check that it can serve: that the database can be reached and has the right schema."""
    ask.service.db.check_schema()
    return Answer({"status": "ok"})


def scrape(ask: ApiRequest) -> Response:
    """Read metrics in the format of Prometheus.

    Needs a viewer's key, which Prometheus sends with `authorization: {credentials: KEY}`.
    """
    return Response(ask.request.app.state.metrics.scrape(), media_type=metrics.MEDIA)


def document(ask: ApiRequest) -> Answer:
    """Read this document."""
    return Answer(ask.request.app.state.document)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/healthz",
        handler=health,
        role=None,
        answers={200: models.Health},
    ),
    Endpoint(
        method="GET",
        path="/readyz",
        handler=ready,
        role=None,
        answers={200: models.Health},
    ),
    Endpoint(
        method="GET",
        path="/metrics",
        handler=scrape,
        everywhere=True,
        texts={"text/plain": "Prometheus' text format."},
    ),
    Endpoint(
        method="GET",
        path="/openapi.json",
        handler=document,
        role=None,
        answers={200: dict},
    ),
)
