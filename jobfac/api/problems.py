"""Errors as RFC 9457 problem documents. ``jobfac.errors`` maps the kinds of errors to statuses."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from jobfac.definitions import DefinitionError
from jobfac.errors import IN_DOUBT, LOCKED, DatabaseDamaged, InDoubt, JobfacError, Kind, Locked, Unreachable
from jobfac.telemetry.log_throttle import LogThrottle
from jobfac.telemetry.logs import logger

log = logger("jobfac.api")

MEDIA = "application/problem+json"

_throttle = LogThrottle()

RETRY_AFTER = 5
"""Seconds after which a client may retry when the database was unreachable or too many streams were open."""

NO_THREAD = "can't start new thread"
"""The text with which Python's RuntimeError says that the machine refused a thread."""

CALL = "/v1/call/"
"""The beginning of the paths that end with the token of a start URL."""

MAX_PATH = 200
"""The maximum number of characters of a path in an error."""


class Problem(JobfacError):
    """An error of the HTTP layer, with its status. ``extra``: further members of the problem document."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.extra = extra


def response(problem: Problem) -> Response:
    """Return the response with the problem document."""
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
    """Return a 422 problem from errors with the keys ``field`` and ``message``."""
    return Problem(422, " ".join(_sentence(error) for error in errors[:3]), errors=list(errors))


def _sentence(error: Mapping[str, Any]) -> str:
    message = error["message"] if error["message"].endswith((".", "?")) else error["message"] + "."
    named = {word.strip("'.") for word in message.split()}
    return message if error["field"] in {"", *named} else f"{error['field']}: {message}"


def shown_path(request: Request) -> str:
    """Return the path for a message or the log: truncated, and without the token of a start URL."""
    path = request.url.path
    if path.startswith(CALL):
        return f"{CALL}..."
    return path if len(path) <= MAX_PATH else path[:MAX_PATH] + "..."


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return response(error)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = shown_path(request)
    detail = f"{request.method} {path}: {error.detail}."
    if error.status_code == 404:
        detail = f"There is nothing at {path}; /openapi.json lists all paths."
    headers = dict(error.headers or {})
    if "Allow" in headers:
        headers["Allow"] = ", ".join(sorted(headers["Allow"].split(", ")))
        detail = f"{path} does not take {request.method}, but {headers['Allow']}."
    return response(Problem(error.status_code, detail, headers))


async def _known(request: Request, error: Exception) -> Response:
    assert isinstance(error, JobfacError)
    if error.kind.status == Kind.BUG.status:
        raise error  # a bug: its text belongs in the log only
    advice = {} if error.way is None else {"advice": error.way._asdict()}
    return response(Problem(error.kind.status, error.over_http, **advice))


async def _definition(request: Request, error: Exception) -> Response:
    assert isinstance(error, DefinitionError)
    return response(invalid([{"field": problem.field, "message": problem.message} for problem in error.problems]))


def log_unreachable(request: Request, error: Exception) -> None:
    """Log once a minute that the database cannot be reached, and for each lock that it was not free in time."""
    is_locked = isinstance(error, Locked)
    if (left_out := _throttle.due(str(error) if is_locked else "unreachable")) is None:
        return
    sentence = "a request was given up, because a lock was not free in time" if is_locked else "database unreachable"
    action = "api_lock_wait" if is_locked else "api_unreachable"
    log.warning(sentence, action=action, path=shown_path(request), reason=str(error), left_out=left_out)


async def _unreachable(request: Request, error: Exception) -> Response:
    # The error names the database server, or the holder of a lock. A client without a key must not learn them.
    log_unreachable(request, error)
    if isinstance(error, Locked):
        return _busy(f"{LOCKED}; the server's log says more. Try again.")
    if isinstance(error, DatabaseDamaged):
        return response(Problem(503, "The database file is damaged; the server's log says more."))
    if isinstance(error, InDoubt):  # without Retry-After: an automatic retry could do it twice
        return response(Problem(503, f"The database cannot be reached right now. {IN_DOUBT}"))
    return _busy("The database cannot be reached or used right now; the server's log says more. Try again.")


def _busy(detail: str) -> Response:
    return response(Problem(503, detail, {"Retry-After": str(RETRY_AFTER)}))


async def _no_thread(request: Request, error: Exception) -> Response:
    """Each request runs in a thread, which the machine's limits of processes, threads and memory may refuse."""
    if NO_THREAD not in str(error):
        raise error
    if (left_out := _throttle.due("threads")) is not None:
        log.error(
            "no more threads can be started; raise the limit of processes (ulimit -u, TasksMax) or free memory",
            action="threads_exhausted", path=shown_path(request), left_out=left_out,
        )  # fmt: skip
    return _busy("The server can start no more threads right now; its log says more. Try again.")


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it


async def _bug(request: Request, error: Exception) -> Response:
    return response(Problem(500, "This is a bug; the server's log has its traceback."))


HANDLERS: dict[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
    Problem: _problem,
    HTTPException: _http,
    JobfacError: _known,
    DefinitionError: _definition,
    Unreachable: _unreachable,
    ClientDisconnect: _gone,
    RuntimeError: _no_thread,
    Exception: _bug,
}
"""The handler of each exception that an endpoint raises. That of the nearest base class is called."""
