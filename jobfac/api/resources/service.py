"""Health, metrics and the OpenAPI document."""

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from jobfac.api import metrics, models
from jobfac.api.routing import ApiRequest, ApiResponse, Endpoints
from jobfac.api.serving.kept import Kept

ENDPOINTS = Endpoints()


@ENDPOINTS.add("GET", "/healthz", role=None, responses={200: models.Health})
async def health(request: ApiRequest) -> ApiResponse:
    """Check that the process is alive, even while all threads are busy, and that its database file is not damaged."""
    if request.db.damage.is_suspected:
        await run_in_threadpool(request.db.damage.check)
    return ApiResponse({"status": "ok"})


@ENDPOINTS.add("GET", "/readyz", role=None, responses={200: models.Health})
async def ready(request: ApiRequest) -> ApiResponse:
    """Check that the process can serve: that the database can be reached and has the right schema, a second ago."""
    await request.service.readiness.check()
    return ApiResponse({"status": "ok"})


@ENDPOINTS.add("GET", "/metrics", unrestricted=True, media_types={"text/plain": "Prometheus' text format."})
def scrape(request: ApiRequest) -> Response:
    """Read metrics in the format of Prometheus.

    Needs a viewer's key, which Prometheus sends with `authorization: {credentials: KEY}`.
    """
    return Response(request.http.app.state.metrics.scrape(), media_type=metrics.MEDIA)


@ENDPOINTS.add("GET", "/openapi.json", role=None, responses={200: dict})
async def document(request: ApiRequest) -> Response:
    """Read this document."""
    kept: Kept = await request.http.app.state.document.kept()
    return kept.response(request.http, {})
