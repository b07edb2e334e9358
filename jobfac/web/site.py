"""The site: the routes of the pages, access to them, and error pages."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from jobfac.api import Site
from jobfac.api.auth import SessionOver
from jobfac.api.problems import HANDLERS, RETRY_AFTER, Problem, log_unreachable
from jobfac.api.routing import Service, key_of, routes
from jobfac.api.validation import BODY_LIMIT, BODY_TIMEOUT
from jobfac.definitions import DefinitionError
from jobfac.errors import IN_DOUBT, LOCKED, InDoubt, JobfacError, Locked, Unreachable
from jobfac.store.api_keys import Caller
from jobfac.telemetry.logs import logger
from jobfac.web import assets, live
from jobfac.web.page import Page
from jobfac.web.pages import ALL
from jobfac.web.visit import HEADERS, Form, Notice, Visit, login_path, read_form

log = logger("jobfac.web")

T = TypeVar("T")

FORM = "application/x-www-form-urlencoded"

SMALL = 16 * 2**10
"""The maximum size of a form that nobody has to log in for, in bytes: many at once must take little memory."""


def site() -> Site:
    """The pages as a Starlette application."""
    changes = live.Changes()
    found = [Route("/static/{name}", assets.serve), Route("/live", changes.serve), *routes(ALL, _endpoint)]
    return Site(found, {HTTPException: _http})


def _endpoint(pages: Mapping[str, Page]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        page = pages["GET" if request.method == "HEAD" else request.method]
        service: Service = request.app.state.service
        try:
            caller: Caller | Response | None = None
            if page.role is not None:
                sender = service.authenticator.identity(request)
                caller = await service.strangers.check(request, sender, key_of, _caller, service, request)
            if isinstance(caller, Response):
                return caller
            form: Form = {}
            if page.method == "POST":
                # Before the form is read, because anybody can send one.
                if caller and (refusal := await run_in_threadpool(_refusal, page, request, caller)) is not None:
                    return refusal
                form = await _form(request, SMALL if page.role is None else BODY_LIMIT)
            if caller is None:
                return await service.strangers.answer(request, _answer, page, request, None, form)
            async with service.turn(request, key_of(caller), changes=page.method == "POST"):
                return await run_in_threadpool(_answer, page, request, caller, form)
        except Problem as error:
            return await service.strangers.answer(request, failed, request, error.status, error.detail)

    return endpoint


def _caller(service: Service, request: Request) -> Caller | Response:
    return _guarded(request, None, {}, lambda: service.authenticator.caller(request))


def _refusal(page: Page, request: Request, caller: Caller | None) -> Response | None:
    return _guarded(request, caller, {}, lambda: _admit(page, caller))


def _answer(page: Page, request: Request, caller: Caller | None, form: Form) -> Response:
    def handle() -> Response:
        _admit(page, caller)
        return page.handler(Visit(request, request.app.state.service, caller, form))

    return _guarded(request, caller, form, handle)


def _guarded(request: Request, caller: Caller | None, form: Form, work: Callable[[], T]) -> T | Response:
    """Return the result of ``work``, or the response that explains why it failed."""
    try:
        return work()
    except SessionOver:
        return _to_login(request)
    except Problem as error:
        if error.status == 401 and "authorization" not in request.headers:
            return _to_login(request)
        return _refused(request, caller, form, error.status, error.detail)
    except Unreachable as error:
        log_unreachable(request, error)
        said = LOCKED if isinstance(error, Locked) else "The database cannot be reached right now"
        return failed(request, 503, f"{said}. {_then(request, error)}")
    except DefinitionError as error:
        return _refused(request, caller, form, 422, str(error))
    except JobfacError as error:
        return _refused(request, caller, form, error.kind.status, str(error))
    except Exception as error:
        log.exception("a page failed", action="page_failed", path=request.url.path, reason=str(error))
        return failed(request, 500, "This is a bug; the server's log has its trace.")


def _then(request: Request, error: Unreachable) -> str:
    """Return what follows for the user from a database that is away."""
    if isinstance(error, InDoubt):
        return IN_DOUBT
    if request.method == "POST":  # a browser that loads the page again sends no form
        return "What you asked for is not done, or not all of it; go back and try again."
    return "This page retries automatically."


def _admit(page: Page, caller: Caller | None) -> None:
    if page.role is None:
        return
    assert caller is not None
    if not caller.role.allows(page.role):
        raise Problem(403, f"This needs the role {page.role}; '{caller.name}' has the role {caller.role}.")
    if page.everywhere and caller.categories is not None:
        raise Problem(403, f"This concerns all jobs; '{caller.name}' is limited to some categories.")


def _to_login(request: Request) -> Response:
    if "hx-request" in request.headers:  # a part of a page cannot show the login; the whole page goes there
        return Response(status_code=401, headers={**HEADERS, "HX-Refresh": "true"})
    return RedirectResponse(login_path(request), 303, HEADERS)


def _refused(request: Request, caller: Caller | None, form: Form, status: int, sentence: str) -> Response:
    """Redirect a refused form to its page, which shows the reason. Other errors have a page of their own."""
    visit = Visit(request, request.app.state.service, caller, form)
    if request.method == "POST" and caller is not None and visit.came_from():
        return visit.back(Notice(sentence, bad=True))
    return failed(request, status, sentence, caller)


def failed(request: Request, status: int, sentence: str, caller: Caller | None = None) -> Response:
    """Return a page that explains an error."""
    visit = Visit(request, request.app.state.service, caller, {})
    title = HTTPStatus(status).phrase
    answer = visit.render("failed.html", status, status=status, title=title, sentence=sentence)
    if status == 503 and request.method != "POST":
        answer.headers["Refresh"] = str(RETRY_AFTER)
    return answer


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if "text/html" not in request.headers.get("accept", "") or request.url.path.startswith("/v1/"):
        return await HANDLERS[HTTPException](request, error)
    sentence = f"There is no page {request.url.path[:200]}." if error.status_code == 404 else f"{error.detail}."
    service: Service = request.app.state.service
    return await service.strangers.answer(request, failed, request, error.status_code, sentence)


async def _form(request: Request, limit: int) -> Form:
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = bytearray()
    pieces = request.stream()
    try:
        while (piece := await asyncio.wait_for(anext(pieces, None), BODY_TIMEOUT)) is not None:
            body += piece
            if len(body) > limit:
                raise Problem(413, f"This form may have {limit:,} bytes at most.")
    except TimeoutError:
        raise Problem(408, f"No more of the form came within {BODY_TIMEOUT:g} s; send it again.") from None
    if body and media != FORM:
        raise Problem(415, f"Send the form as {FORM}, not as '{media or 'nothing'}'.")
    try:
        return read_form(bytes(body))
    except ValueError:
        raise Problem(400, "The form cannot be read; send it as a browser does.") from None
