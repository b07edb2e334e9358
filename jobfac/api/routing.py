"""The route table: one ``Endpoint`` declares everything about a method of a path.

The routes, the OpenAPI document and the test of the roles are made from it.
"""

import asyncio
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

import pydantic
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jobfac.api.auth import RETRY_FOR, Gate
from jobfac.api.live.feed import Live
from jobfac.api.problems import Problem, invalid
from jobfac.database.engine import Database
from jobfac.operations import caller as operations
from jobfac.store.api_keys import Caller, Role
from jobfac.telemetry.traces import Traces

BODY_LIMIT = 4 * 2**20 + 256 * 2**10
"""Bytes of a request's body at most: the largest payload and what is around it."""

BODY_TIMEOUT = 30.0
"""Seconds that a client may take between two pieces of a body."""

NOBODY = Caller("nobody", Role.VIEWER)


class Id(Convertor[int]):
    """The number of a run, a worker or a schedule in a path."""

    regex = "[1-9][0-9]{0,17}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("id", Id())


class Nothing(BaseModel):
    """No parameters."""

    model_config = pydantic.ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Service:
    """What the handlers work with."""

    db: Database
    gate: Gate
    live: Live
    traces: Traces


@dataclass(frozen=True)
class ApiRequest:
    """One request, understood: its parts are instances of the models that its ``Endpoint`` names."""

    service: Service
    caller: Caller
    request: Request
    path: Mapping[str, Any]
    query: Any
    headers: Any
    body: Any

    @property
    def by(self) -> operations.Caller:
        """The caller as the operations know it."""
        return operations.Caller(
            self.caller.name,
            self.caller.categories,
            RETRY_FOR,
            self.service.traces,
            self.request.headers.get("traceparent"),
            self.caller.role,
        )


class Answer(NamedTuple):
    """A JSON answer."""

    content: Any
    status: int = 200
    headers: Mapping[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A method of a path.

    The handler takes an ``ApiRequest`` and returns an ``Answer`` or a ``Response``. A plain function runs in a thread;
    a coroutine function must not block. The first paragraph of its docstring is the summary in the OpenAPI document,
    the others are the description.

    ``role``: whom it takes, None: everybody, without a key. ``everywhere``: not for keys that are limited to
    categories. ``answers``: by status the model, None for no content. ``texts``: other media of the 200 answer, with
    what they are, or the model of a stream's events. ``errors``: the statuses of its problems, besides those that
    follow from its form.
    """

    method: str
    path: str
    handler: Callable[[ApiRequest], Any]
    role: Role | None = Role.VIEWER
    everywhere: bool = False
    query: type[BaseModel] = Nothing
    headers: type[BaseModel] = Nothing
    body: Any = None
    body_required: bool = True
    answers: Mapping[int, Any] = field(default_factory=dict)
    texts: Mapping[str, Any] = field(default_factory=dict)
    errors: tuple[int, ...] = ()

    @property
    def summary(self) -> str:
        """What the call does, without a full stop."""
        return self._paragraphs()[0].removesuffix(".")

    @property
    def description(self) -> str:
        """What else there is to know of the call, empty if nothing."""
        return " ".join(self._paragraphs()[1:])

    def _paragraphs(self) -> list[str]:
        text = inspect.getdoc(self.handler)
        assert text, f"the handler of {self.method} {self.path} has no docstring"
        return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]


def routes(table: Iterable[Endpoint]) -> list[Route]:
    """One route for each path of the table, with all of its methods."""
    found = []
    for path, calls in groupby(sorted(table, key=attrgetter("path")), key=attrgetter("path")):
        methods = {call.method: call for call in calls}
        found.append(Route(path, _endpoint(methods), methods=list(methods)))
    # What is written out comes before what a parameter would match as well.
    return sorted(found, key=lambda route: "{" in route.path)


def _endpoint(methods: Mapping[str, Endpoint]) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        call = methods["GET" if request.method == "HEAD" else request.method]
        service: Service = request.app.state.service
        caller = NOBODY if call.role is None else await run_in_threadpool(_admit, service.gate, call, request)
        ask = ApiRequest(
            service=service,
            caller=caller,
            request=request,
            path=request.path_params,
            query=_parameters(call.query, request.query_params.multi_items()),
            headers=_headers(call.headers, request),
            body=None if call.body is None else await _body(call, request),
        )
        if inspect.iscoroutinefunction(call.handler):
            answer = await call.handler(ask)
        else:
            answer = await run_in_threadpool(call.handler, ask)
        if isinstance(answer, Response):
            return answer
        if answer.content is None:
            return Response(status_code=answer.status, headers=answer.headers)
        return JSONResponse(answer.content, answer.status, answer.headers)

    return endpoint


def _admit(gate: Gate, call: Endpoint, request: Request) -> Caller:
    caller = gate.caller(request)
    assert call.role is not None
    if not caller.role.allows(call.role):
        raise Problem(403, f"This needs the role {call.role}; the key '{caller.name}' has the role {caller.role}.")
    if call.everywhere and caller.categories is not None:
        raise Problem(403, f"This concerns all jobs; the key '{caller.name}' is limited to some categories.")
    return caller


def _parameters(model: type[BaseModel], items: Sequence[tuple[str, str]]) -> BaseModel:
    """The query as its model; what may be given several times is a list there."""
    values: dict[str, Any] = {}
    for name, value in items:
        known = model.model_fields.get(name)
        if known is not None and isinstance(known.default, list | tuple):
            values.setdefault(name, []).append(value)
        elif name in values:
            raise invalid([{"field": name, "message": f"{name} must be given once"}])
        else:
            values[name] = value
    return _validated(model, values)


def _headers(model: type[BaseModel], request: Request) -> BaseModel:
    names = {name: known.alias or name for name, known in model.model_fields.items()}
    return _validated(model, {key: request.headers[key] for key in names.values() if key in request.headers})


def _validated(model: type[BaseModel], values: Mapping[str, Any]) -> BaseModel:
    try:
        return model.model_validate(values)
    except pydantic.ValidationError as error:
        raise invalid(_errors(error)) from None


async def _body(call: Endpoint, request: Request) -> Any:
    """The request's body as the model of the call."""
    text = bytearray()
    pieces = request.stream()
    try:
        while (piece := await asyncio.wait_for(anext(pieces, None), BODY_TIMEOUT)) is not None:
            text += piece
            if len(text) > BODY_LIMIT:
                # The connection stays open, and the server passes over the rest: a client that is cut off while it
                # sends would see a broken connection in place of this answer.
                raise Problem(413, f"A body may have {BODY_LIMIT:,} bytes at most.")
    except TimeoutError:
        raise Problem(
            408, f"No more of the body came within {BODY_TIMEOUT:g} s; send the request again.", {"Connection": "close"}
        ) from None
    if not text and not call.body_required:
        return call.body()
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Problem(415, f"Send the body as application/json, not as '{media or 'nothing'}'.")
    return await run_in_threadpool(_parsed, call.body, bytes(text))


def _parsed(model: Any, text: bytes) -> Any:
    try:
        return pydantic.TypeAdapter(model).validate_json(text)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "json_invalid":
            raise Problem(400, f"The body is not JSON: {first['ctx']['error']}.") from None
        raise invalid(_errors(error)) from None


def _errors(error: pydantic.ValidationError) -> list[dict[str, str]]:
    return [
        {"field": ".".join(str(part) for part in found["loc"]), "message": _message(found)}
        for found in error.errors(include_url=False, include_context=False)
    ]


def _message(found: Any) -> str:
    if found["type"] == "extra_forbidden":
        return f"unknown name '{found['loc'][-1]}'"
    return str(found["msg"].removeprefix("Value error, "))
