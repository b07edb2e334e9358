"""Errors as RFC 9457 problem documents: every error has the same form. ``jobfac.errors`` has the table of kinds."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from jobfac.api.serving.seldom import Seldom
from jobfac.definitions import DefinitionError
from jobfac.errors import JobfacError, Kind, Unreachable
from jobfac.telemetry.logs import logger

log = logger("jobfac.api")

MEDIA = "application/problem+json"

_seldom = Seldom()

RETRY_AFTER = 5
"""Seconds after which a client may repeat a request that failed because the database was away or too much was open."""

LONGEST_PATH = 200
"""Characters of a path that are repeated in an error."""


class Problem(JobfacError):
    """An error of the HTTP edge itself, with its status. ``extra``: further members of the document."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.extra = extra


def answer(problem: Problem) -> Response:
    """The problem document."""
    kind = Kind.of_status(problem.status)
    document = {
        "type": f"urn:jobfac:problem:{kind.problem if kind else 'http'}",
        "title": kind.title if kind else HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        **problem.extra,
    }
    return JSONResponse(document, problem.status, problem.headers, MEDIA)


def invalid(errors: Sequence[Mapping[str, Any]]) -> Problem:
    """422, with what is wrong in which field."""
    return Problem(422, " ".join(_sentence(error) for error in errors[:3]), errors=list(errors))


def _sentence(error: Mapping[str, Any]) -> str:
    message = error["message"] if error["message"].endswith((".", "?")) else error["message"] + "."
    named = {word.strip("'.") for word in message.split()}
    return message if error["field"] in {"", *named} else f"{error['field']}: {message}"


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return answer(error)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path if len(request.url.path) <= LONGEST_PATH else request.url.path[:LONGEST_PATH] + "..."
    detail = f"{request.method} {path}: {error.detail}."
    if error.status_code == 404:
        detail = f"There is nothing at {path}; /openapi.json lists what there is."
    headers = dict(error.headers or {})
    if "Allow" in headers:
        headers["Allow"] = ", ".join(sorted(headers["Allow"].split(", ")))
        detail = f"{path} does not take {request.method}, but {headers['Allow']}."
    return answer(Problem(error.status_code, detail, headers))


async def _known(request: Request, error: Exception) -> Response:
    assert isinstance(error, JobfacError)
    if error.kind.status == Kind.BUG.status:
        raise error  # no request causes it, so that its text is for the log
    return answer(Problem(error.kind.status, str(error)))


async def _definition(request: Request, error: Exception) -> Response:
    assert isinstance(error, DefinitionError)
    return answer(invalid([{"field": found.field, "message": found.message} for found in error.problems]))


async def _unreachable(request: Request, error: Exception) -> Response:
    # The sentence names the database server, which a client without a key must not learn.
    if (left_out := _seldom.due("unreachable")) is not None:
        path = request.url.path
        log.warning("database unreachable", action="api_unreachable", path=path, reason=str(error), left_out=left_out)
    detail = "The database cannot be reached or used right now; the server's log says more. Try again."
    return answer(Problem(503, detail, {"Retry-After": str(RETRY_AFTER)}))


async def _bug(request: Request, error: Exception) -> Response:
    return answer(Problem(500, "This is a bug; the server's log has its trace."))


HANDLERS: dict[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
    Problem: _problem,
    HTTPException: _http,
    JobfacError: _known,
    DefinitionError: _definition,
    Unreachable: _unreachable,
    Exception: _bug,
}
"""The answer to each exception that an endpoint raises; the nearest class counts."""
