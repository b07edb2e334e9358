"""The route table: a decorator declares a handler for a method of a path, and its parameters declare the input.

The routes, the OpenAPI document and the tests of roles are derived from the table.
"""

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar, get_type_hints

from anyio import CapacityLimiter, to_thread
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobfac.api import validation
from jobfac.api.auth import RETRY_FOR, Authenticator
from jobfac.api.live.feed import LiveFeed
from jobfac.api.problems import Problem
from jobfac.api.serving.pieces import json_response
from jobfac.api.serving.readiness import Readiness
from jobfac.api.serving.shares import Limits, Shares
from jobfac.api.serving.strangers import Strangers, queueing
from jobfac.api.validation import NoParameters
from jobfac.database.engine import Database
from jobfac.operations import caller as operations
from jobfac.store.api_keys import Caller, Role
from jobfac.telemetry.traces import Traces

ANONYMOUS = Caller("nobody", Role.VIEWER)
"""The caller of an endpoint that needs no key."""

PATH_PARAMETER = re.compile(r"{(\w+)(:id)?}")
"""A parameter in a path: its name, and ``:id`` if it is a number."""


class Id(Convertor[int]):
    """The id of a run, a worker or a schedule in a path."""

    regex = "[1-9][0-9]{0,17}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("id", Id())

T = TypeVar("T")


def key_of(caller: Caller) -> str:
    """Return whose share the requests of this caller are part of."""
    return f"key {caller.label}"


@dataclass(frozen=True)
class Service:
    """The shared objects of one API process. ``public_url``: where people and callers reach it; empty: not known.
    ``slow``: who may read slowly; ``slow_shares``: the turns of each caller for that."""

    db: Database
    authenticator: Authenticator
    live: LiveFeed
    traces: Traces
    readiness: Readiness
    shares: Shares
    strangers: Strangers
    public_url: str = ""
    slow: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(1))
    slow_shares: Shares = field(default_factory=lambda: Shares(Limits(1, 1), 4))

    def read(self, work: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Read from the database: ``work`` gets a connection and the arguments."""
        return self.db.query(work, *arguments, retry_for=RETRY_FOR, **named)

    def turn(self, http: Request, caller: str, *, changes: bool) -> AbstractAsyncContextManager[None]:
        """Wait for the turn of this caller (see ``Shares.turn``).

        Raises:
            Problem: 503 if too many others of this caller run or wait.
            ClientDisconnect: the client has gone before.
        """
        return queueing(http, self.shares.turn(caller, changes=changes))

    async def in_turn(self, caller: str, work: Callable[..., T], *arguments: Any, changes: bool = False) -> T:
        """Call ``work`` in a thread, when it is the turn of this caller (see ``Shares.turn``).

        Raises:
            Problem: 503 if too many others of this caller run or wait.
        """
        async with self.shares.turn(caller, changes=changes):
            return await run_in_threadpool(work, *arguments)

    async def read_slowly(self, caller: Caller, work: Callable[..., T], *arguments: Any) -> T:
        """Read what takes seconds: one request at a time, in a thread of its own. The threads of others stay free, and
        they wait for one request of each caller at most.

        Raises:
            Problem: 503 if too many others of this caller wait.
        """
        async with self.slow_shares.turn(key_of(caller)):
            return await to_thread.run_sync(partial(self.read, work, *arguments), limiter=self.slow)


@dataclass(frozen=True)
class ApiRequest:
    """A request of an authenticated caller. ``http``: the request as Starlette has it."""

    service: Service
    caller: Caller
    http: Request

    @property
    def db(self) -> Database:
        """The database of the service."""
        return self.service.db

    def read(self, work: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Read from the database, as ``Service.read``."""
        return self.service.read(work, *arguments, **named)

    def is_accepted(self) -> bool:
        """Whether its key or session is still valid: a request may last for hours."""
        return self.service.authenticator.accepts(self.http)

    @property
    def by(self) -> operations.Caller:
        """The caller in the form that operations take."""
        return operations.Caller(
            self.caller.name,
            self.caller.categories,
            RETRY_FOR,
            self.service.traces,
            self.http.headers.get("traceparent"),
            self.caller.role,
        )


class ApiResponse(NamedTuple):
    """A response with a JSON body; ``content`` None: without a body."""

    content: object
    status: int = 200
    headers: Mapping[str, str] | None = None


Handler = Callable[..., ApiResponse | Response | Awaitable[ApiResponse | Response]]
H = TypeVar("H", bound=Handler)


@dataclass(frozen=True)
class Endpoint:
    """A method of a path.

    The first parameter of ``handler`` is the ``ApiRequest``. Its other parameters and their types declare the input,
    which is validated before the call: each parameter of the path by its name (``int`` for ``{run:id}``, else ``str``),
    and, where the handler needs them, ``query`` and ``headers`` (models) and ``body`` (any type that pydantic reads).
    A plain function runs in a thread; a coroutine function must not block. The first paragraph of the docstring is the
    summary in the OpenAPI document, the others are the description.

    Attributes:
        role: the least role that a key needs; None: no key is needed.
        unrestricted: refuse keys that are limited to categories.
        body_required: whether an empty body is refused; otherwise it means the defaults of the body's model.
        responses: the model of the JSON body by status; None: no body.
        media_types: other media types of the response 200, with a description or the model of a stream's events.
        errors: the statuses of problems, besides those that follow from the declaration.
        parameters: the types of the handler's parameters, without the first.

    Raises:
        TypeError: the parameters of the handler are not those of the path.
    """

    method: str
    path: str
    handler: Handler
    role: Role | None
    unrestricted: bool
    body_required: bool
    responses: Mapping[int, Any]
    media_types: Mapping[str, Any]
    errors: tuple[int, ...]
    parameters: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", _parameters(self.handler, self.path))

    @property
    def query(self) -> type[BaseModel]:
        """The model of the query."""
        model: type[BaseModel] = self.parameters.get("query", NoParameters)
        return model

    @property
    def headers(self) -> type[BaseModel]:
        """The model of the headers."""
        model: type[BaseModel] = self.parameters.get("headers", NoParameters)
        return model

    @property
    def body(self) -> Any:
        """The type of the body; None: there is no body."""
        return self.parameters.get("body")

    @property
    def summary(self) -> str:
        """What the endpoint does, without a full stop."""
        return self._paragraphs()[0].removesuffix(".")

    @property
    def description(self) -> str:
        """Further details; empty: none."""
        return " ".join(self._paragraphs()[1:])

    def _paragraphs(self) -> list[str]:
        text = inspect.getdoc(self.handler)
        assert text, f"the handler of {self.method} {self.path} has no docstring"
        return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]


class Endpoints(list[Endpoint]):
    """The endpoints of a module."""

    def add(
        self,
        method: str,
        path: str,
        *,
        role: Role | None = Role.VIEWER,
        unrestricted: bool = False,
        body_required: bool = True,
        responses: Mapping[int, Any] = {},
        media_types: Mapping[str, Any] = {},
        errors: tuple[int, ...] = (),
    ) -> Callable[[H], H]:
        """Return the decorator that adds its handler. The arguments are the attributes of ``Endpoint``."""

        def declare(handler: H) -> H:
            self.append(
                Endpoint(method, path, handler, role, unrestricted, body_required, responses, media_types, errors)
            )
            return handler

        return declare


def _parameters(handler: Handler, path: str) -> Mapping[str, Any]:
    """The type of each parameter of the handler after the first.

    Raises:
        TypeError: the handler does not take an ``ApiRequest`` and the parameters of the path.
    """
    first, *names = inspect.signature(handler).parameters
    types = get_type_hints(handler, include_extras=True)
    in_path = {name: int if is_id else str for name, is_id in PATH_PARAMETER.findall(path)}
    declared = {name: types[name] for name in names if name not in ("query", "headers", "body")}
    if types[first] is not ApiRequest or declared != in_path:
        raise TypeError(f"{handler.__qualname__} must take an ApiRequest and the parameters of {path}.")
    return {name: types[name] for name in names}


def routes(table: Iterable[Any], answer: Callable[[Mapping[str, Any]], Callable[..., Any]]) -> list[Route]:
    """One route for each path of the table, with all of its methods.

    ``answer``: makes the function of a path from its entries by their methods.
    """
    found = []
    for path, entries in groupby(sorted(table, key=attrgetter("path")), key=attrgetter("path")):
        methods = {entry.method: entry for entry in entries}
        found.append(Route(path, answer(methods), methods=list(methods)))
    # A literal path must come before a path whose parameter would match it.
    return sorted(found, key=lambda route: "{" in route.path)


def dispatcher(methods: Mapping[str, Endpoint]) -> Callable[[Request], Awaitable[Response]]:
    """Return the function that answers the requests for a path."""

    async def dispatch(http: Request) -> Response:
        endpoint = methods["GET" if http.method == "HEAD" else http.method]
        service: Service = http.app.state.service
        caller = ANONYMOUS
        if endpoint.role is not None:
            sender = service.authenticator.identity(http)
            caller = await service.strangers.check(http, sender, key_of, service.authenticator.caller, http)
            _admit(endpoint, endpoint.role, caller)
        arguments = {**http.path_params, **await _input(endpoint, http)}
        request = ApiRequest(service, caller, http)
        if inspect.iscoroutinefunction(endpoint.handler):
            result = await endpoint.handler(request, **arguments)
            if endpoint.role is None:  # a short answer, which needs no free thread
                return _response(result)
            return await run_in_threadpool(_response, result)
        async with service.turn(http, key_of(caller), changes=endpoint.method != "GET"):
            return await run_in_threadpool(lambda: _response(endpoint.handler(request, **arguments)))

    return dispatch


def _response(result: Any) -> Response:
    """Return the response to send for what a handler returned."""
    if isinstance(result, Response):
        return result
    if result.content is None:
        return Response(status_code=result.status, headers=result.headers)
    return json_response(result.content, result.status, result.headers)


async def _input(endpoint: Endpoint, http: Request) -> dict[str, Any]:
    """Validate the query, the headers and the body, and return those that the handler takes."""
    values: dict[str, Any] = {
        "query": validation.query(endpoint.query, http.query_params.multi_items()),
        "headers": validation.headers(endpoint.headers, http.headers),
    }
    if endpoint.body is not None:
        values["body"] = await validation.body(endpoint.body, endpoint.body_required, http)
    return {name: value for name, value in values.items() if name in endpoint.parameters}


def _admit(endpoint: Endpoint, role: Role, caller: Caller) -> None:
    """Refuse a caller who may not use the endpoint.

    Raises:
        Problem: 403.
    """
    if not caller.role.allows(role):
        raise Problem(403, f"This needs the role {role}; the key '{caller.name}' has the role {caller.role}.")
    if endpoint.unrestricted and caller.categories is not None:
        raise Problem(403, f"This concerns all jobs; the key '{caller.name}' is limited to some categories.")
