"""Health, metrics, the OpenAPI document, and the login of a browser."""

from starlette.responses import HTMLResponse, Response

from jobfac.api import metrics, models, parameters
from jobfac.api.auth import SESSION_LIFETIME, cookie_name
from jobfac.api.problems import Problem
from jobfac.api.routing import ApiRequest, ApiResponse, Endpoint


async def health(request: ApiRequest) -> ApiResponse:
    """Check that the process is alive, even while all threads are busy."""
    return ApiResponse({"status": "ok"})


def ready(request: ApiRequest) -> ApiResponse:
    """Check that the process can serve: that the database can be reached and has the right schema, a second ago."""
    request.service.readiness.check()
    return ApiResponse({"status": "ok"})


def scrape(request: ApiRequest) -> Response:
    """Read metrics in the format of Prometheus.

    Needs a viewer's key, which Prometheus sends with `authorization: {credentials: KEY}`.
    """
    return Response(request.http.app.state.metrics.scrape(), media_type=metrics.MEDIA)


def document(request: ApiRequest) -> ApiResponse:
    """Read this document."""
    return ApiResponse(request.http.app.state.document)


def login(request: ApiRequest, query: parameters.LinkQuery) -> Response:
    """Log a browser in with the link that `jobfac up` printed."""
    # A page instead of a redirect: after a redirect from another site the browser would not send a strict cookie.
    page = HTMLResponse('<!doctype html><meta http-equiv="refresh" content="0; url=/"><a href="/">Go on</a>')
    if request.http.method == "HEAD":  # a mail or chat program that previews the link must not use it up
        return page
    session = request.service.authenticator.open_session(query.token)
    if session is None and request.service.authenticator.has_session(request.http):
        return page
    if session is None:
        raise Problem(
            403, "This link was used, has expired, or is not of this process; start `jobfac up` again for a new one."
        )
    page.set_cookie(
        cookie_name(request.http),
        session,
        max_age=int(SESSION_LIFETIME),
        httponly=True,
        samesite="strict",
        secure=request.http.url.scheme == "https",
    )
    return page


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/healthz",
        handler=health,
        role=None,
        responses={200: models.Health},
    ),
    Endpoint(
        method="GET",
        path="/readyz",
        handler=ready,
        role=None,
        responses={200: models.Health},
    ),
    Endpoint(
        method="GET",
        path="/metrics",
        handler=scrape,
        unrestricted=True,
        media_types={"text/plain": "Prometheus' text format."},
    ),
    Endpoint(
        method="GET",
        path="/openapi.json",
        handler=document,
        role=None,
        responses={200: dict},
    ),
    Endpoint(
        method="GET",
        path="/login",
        handler=login,
        role=None,
        media_types={"text/html": "A page that opens the dashboard."},
        errors=(403,),
    ),
)
