"""Validation of a request's query, headers and body against the models of its endpoint. Errors are 4xx problems."""

import asyncio
import inspect
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pydantic
from pydantic import BaseModel
from pydantic_core import ErrorDetails
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from jobfac.api.problems import Problem, invalid

BODY_LIMIT = 4 * 2**20 + 256 * 2**10
"""The maximum size of a body, in bytes: the largest payload and 256 KiB for the rest."""

MOST_NAMES = 10_000
"""The maximum number of objects in a body and of names in them, definitions excepted. Each may be a mistake, and to
describe one takes a hundred times its memory."""

MOST_MISTAKES = 100
"""The maximum number of mistakes that a response describes."""

BODY_TIMEOUT = 30.0
"""Seconds that a client may take between two chunks of a body."""


class NoParameters(BaseModel):
    """No parameters."""

    model_config = pydantic.ConfigDict(extra="forbid")


def query(model: type[BaseModel], items: Sequence[tuple[str, str]]) -> BaseModel:
    """Return the query as its model. A field with a list as its default collects repeated parameters.

    Raises:
        Problem: 422.
    """
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


def headers(model: type[BaseModel], received: Mapping[str, str]) -> BaseModel:
    """Return the headers that the model names as the model.

    Raises:
        Problem: 422.
    """
    names = [known.alias or name for name, known in model.model_fields.items()]
    return _validated(model, {name: received[name] for name in names if name in received})


def _validated(model: type[BaseModel], values: Mapping[str, Any]) -> BaseModel:
    try:
        return model.model_validate(values)
    except pydantic.ValidationError as error:
        raise invalid(_field_errors(error)) from None


class RawBody:
    """A body that its handler reads when it knows that it wants it."""

    def __init__(self, http: Request) -> None:
        self._http = http

    async def read(self, limit: int) -> bytes:
        """Return the body as it was sent.

        Raises:
            Problem: 408 (too slow), 413 (more than ``limit`` bytes).
        """
        return await _read(self._http, limit)


async def body(kind: Any, required: bool, http: Request) -> Any:
    """Read the body and return it as an instance of ``kind``; an empty body that is not ``required`` is ``kind()``.

    Raises:
        Problem: 400 (no JSON), 408 (too slow), 413 (too large), 415 (another media type), 422 (invalid).
    """
    if kind is RawBody:
        return RawBody(http)
    text = await _read(http, BODY_LIMIT)
    if not text and not required:
        return kind()
    media_type = http.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Problem(415, f"Send the body as application/json, not as '{media_type or 'nothing'}'.")
    if (encoding := http.headers.get("content-encoding", "identity").strip().lower()) != "identity":
        raise Problem(415, f"Send the body as it is, not in the encoding '{encoding[:100]}'.")
    return await run_in_threadpool(_parsed, kind, text)


async def _read(http: Request, limit: int) -> bytes:
    text = bytearray()
    chunks = http.stream()
    try:
        while (chunk := await asyncio.wait_for(anext(chunks, None), BODY_TIMEOUT)) is not None:
            text += chunk
            if len(text) > limit:
                # The connection stays open, and the server discards the rest: a client whose connection is closed
                # while it still sends would see a broken connection instead of this response.
                raise Problem(413, f"A body may have {limit:,} bytes at most.")
    except TimeoutError:
        detail = f"No more of the body came within {BODY_TIMEOUT:g} s; send the request again."
        raise Problem(408, detail, {"Connection": "close"}) from None
    return bytes(text)


def _parsed(kind: Any, text: bytes) -> Any:
    fault: Exception | None = None
    names = _Names(MOST_NAMES if inspect.isclass(kind) and issubclass(kind, BaseModel) else None)
    try:
        json.loads(text, object_pairs_hook=names.once)
    except (ValueError, RecursionError) as error:
        fault = error
    try:
        found = pydantic.TypeAdapter(kind).validate_json(text)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "json_invalid":
            raise Problem(400, f"The body is not JSON: {first['ctx']['error']}.") from None
        raise invalid(_field_errors(error)) from None
    if fault is not None:
        raise Problem(400, f"The body is not JSON: {fault}.")
    return found


class _Names:
    """The objects of a body and the names in them. ``most``: how many it may have; None: any number."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._number = 0

    def once(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """Return an object of a body.

        Of two values for a name, a proxy might check the one and this server use the other.

        Raises:
            Problem: 400 for a name that it has twice; 413 if the body has too many of either.
        """
        self._number += 1 + len(pairs)
        if self._most is not None and self._number > self._most:
            raise Problem(413, f"A body may have {self._most:,} objects and names at most.")
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(name for name, number in Counter(name for name, _ in pairs).items() if number > 1)
            raise Problem(400, f"The body has two values for '{twice[:100]}'; send one.")
        return found


def _field_errors(error: pydantic.ValidationError) -> list[dict[str, str]]:
    return [
        {"field": ".".join(str(part) for part in detail["loc"]), "message": _message(detail)}
        for detail in error.errors(include_url=False, include_context=False)[:MOST_MISTAKES]
    ]


def _message(detail: ErrorDetails) -> str:
    if detail["type"] == "extra_forbidden":
        return f"unknown name '{detail['loc'][-1]}'"
    return detail["msg"].removeprefix("Value error, ")
