"""Calls of monitoring systems, and of a person's browser."""

from starlette.responses import HTMLResponse, Response

from jobfac.api import metrics, models, parameters
from jobfac.api.auth import SESSION, cookie_name
from jobfac.api.problems import Problem
from jobfac.api.routing import Answer, ApiRequest, Endpoint


async def health(ask: ApiRequest) -> Answer:
    """Check that the process is alive, even while all threads are busy."""
    return Answer({"status": "ok"})


def ready(ask: ApiRequest) -> Answer:
    """Check that it can serve: that the database can be reached and has the right schema, now or a second ago."""
    ask.service.readiness.check()
    return Answer({"status": "ok"})


def scrape(ask: ApiRequest) -> Response:
    """Read metrics in the format of Prometheus.

    Needs a viewer's key, which Prometheus sends with `authorization: {credentials: KEY}`.
    """
    return Response(ask.request.app.state.metrics.scrape(), media_type=metrics.MEDIA)


def document(ask: ApiRequest) -> Answer:
    """Read this document."""
    return Answer(ask.request.app.state.document)


def login(ask: ApiRequest) -> Response:
    """Log a browser in with the link that `jobfac up` printed."""
    # Not a redirect: after one that began elsewhere a browser would hold a strict cookie back.
    answer = HTMLResponse('<!doctype html><meta http-equiv="refresh" content="0; url=/"><a href="/">Go on</a>')
    if ask.request.method == "HEAD":  # a preview of the link by a mail or chat program must not use it up
        return answer
    session = ask.service.gate.open_session(ask.query.token)
    if session is None and ask.service.gate.has_session(ask.request):
        return answer
    if session is None:
        raise Problem(
            403, "This link was used before, is expired, or is none of this process; start `jobfac up` again for one."
        )
    answer.set_cookie(
        cookie_name(ask.request),
        session,
        max_age=int(SESSION),
        httponly=True,
        samesite="strict",
        secure=ask.request.url.scheme == "https",
    )
    return answer


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
    Endpoint(
        method="GET",
        path="/login",
        handler=login,
        role=None,
        query=parameters.LinkQuery,
        texts={"text/html": "A page that leads on."},
        errors=(403,),
    ),
)
