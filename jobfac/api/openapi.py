"""The OpenAPI document, generated from the route table and the models."""

import json
import re
import shlex
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from importlib.metadata import version
from typing import Any
from urllib.parse import quote, urlencode

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from jobfac.api.definition_schema import DEFINITION_SCHEMA, Definition, definition_schemas
from jobfac.api.examples import EXAMPLES, PATH_EXAMPLES
from jobfac.api.models import ProblemDocument
from jobfac.api.problems import MEDIA as PROBLEM
from jobfac.api.routing import PATH_PARAMETER, Endpoint
from jobfac.api.validation import NoParameters, RawBody
from jobfac.errors import Kind

REF = "#/components/schemas/{model}"

HEADERS = {
    "ETag": "The version of the job, for If-Match",
    "Location": "The path of the new resource",
    "Retry-After": "Seconds after which to try again",
    "Jobfac-Attempt": "The attempt that wrote this output",
    "Jobfac-Next-Offset": "The `offset` that continues",
    "Jobfac-Complete": "`true`: the output has ended",
}

SERVER = "http://127.0.0.1:8420"

QUERIES: dict[str, dict[str, Any]] = {
    "get_run": {"wait": 30},
    "list_runs": {"state": "failed", "limit": 20},
    "get_events": {"seconds": 60},
    "get_load": {"days": 7},
    "preview": {"job": PATH_EXAMPLES["job"], "count": 3},
    "search_lines": {"text": "error"},
}
"""Query parameters of the samples, by the name of the handler."""

KEYS = {"start": "order-4711", "retry": "again-4711"}
"""Idempotency keys of the samples, by the name of the handler."""

INTRODUCTION = """\
Start, stop and watch background jobs. Send a key with each request, `Authorization: Bearer KEY`; `POST /v1/keys` \
creates one, and `jobfac keys create` on the server the first one. Each operation names the role that it needs: a \
viewer reads, an operator also starts and stops, an admin also changes definitions. Errors are RFC 9457 problem \
documents. 429 and 503 come with `Retry-After`."""


def document(table: Iterable[Endpoint]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of these endpoints."""
    table = list(table)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in table:
        paths.setdefault(_path(endpoint), {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {"title": "jobfac", "version": version("jobfac"), "description": INTRODUCTION},
        "paths": paths,
        "components": {
            "schemas": _schemas(table),
            "responses": {str(kind.status): _problem(kind) for kind in Kind if kind == Kind.of_status(kind.status)},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "A key of jobfac."}},
        },
    }


def _path(endpoint: Endpoint) -> str:
    return re.sub(r":\w+}", "}", endpoint.path)


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    needs = "No key is needed." if endpoint.role is None else f"Needs the role **{endpoint.role}**."
    if endpoint.unrestricted:
        needs += " Keys that are limited to categories are refused."
    operation: dict[str, Any] = {
        "operationId": endpoint.handler.__name__,
        "tags": [endpoint.handler.__module__.rpartition(".")[2]],
        "summary": endpoint.summary,
        "description": " ".join(filter(None, (endpoint.description, needs))),
        "security": [] if endpoint.role is None else [{"key": []}],
        "parameters": [
            *_path_parameters(endpoint),
            *_parameters(endpoint.query, "query"),
            *_parameters(endpoint.headers, "header"),
        ],
        "responses": {
            str(status): _response(endpoint, status)
            for status in sorted({*endpoint.responses, *([200] * bool(endpoint.media_types))})
        }
        | {str(status): {"$ref": f"#/components/responses/{status}"} for status in errors(endpoint)},
        "x-codeSamples": samples(endpoint),
    }
    if endpoint.body is not None:
        content: dict[str, Any] = {"schema": _schema(endpoint.body)}
        if endpoint.handler.__name__ in EXAMPLES:
            content["example"] = EXAMPLES[endpoint.handler.__name__]
        operation["requestBody"] = {"required": endpoint.body_required, "content": {"application/json": content}}
    return operation


def errors(endpoint: Endpoint) -> list[int]:
    """Return the statuses of the problems with which an endpoint may respond."""
    statuses = {403, 421, *endpoint.errors}
    if endpoint.role is not None:
        statuses |= {401, 429, 503}
    if endpoint.path == "/readyz":
        statuses |= {503}
    if endpoint.query is not NoParameters or endpoint.headers is not NoParameters:
        statuses |= {422}
    if endpoint.body is not None:
        statuses |= {400, 408, 413, 415, 422}
    return sorted(statuses)


def _path_parameters(endpoint: Endpoint) -> Iterator[dict[str, Any]]:
    for name, is_number in PATH_PARAMETER.findall(endpoint.path):
        number = {"type": "integer", "minimum": 1, "maximum": 10**18 - 1}
        word = {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"}
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "description": f"The {name}'s id.",
            "schema": number if is_number else word,
            "example": PATH_EXAMPLES[name],
        }


def _parameters(model: type[BaseModel], place: str) -> Iterator[dict[str, Any]]:
    whole = model.model_json_schema(by_alias=True)
    definitions = whole.get("$defs", {})
    for name, described in whole.get("properties", {}).items():
        schema = {key: value for key, value in described.items() if key not in ("title", "description")}
        yield {
            "name": name,
            "in": place,
            "required": name in whole.get("required", ()),
            "description": described.get("description", ""),
            "schema": _inlined(schema, definitions),
        }


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """Return a schema without references and without null, because an absent parameter is left out."""
    if isinstance(schema, list):
        return [_inlined(entry, definitions) for entry in schema if entry != {"type": "null"}]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    schema = {key: _inlined(value, definitions) for key, value in schema.items() if (key, value) != ("default", None)}
    if len(schema.get("anyOf", ())) == 1:
        schema |= schema.pop("anyOf")[0]
    return schema


def _response(endpoint: Endpoint, status: int) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if (model := endpoint.responses.get(status)) is not None:
        content["application/json"] = {"schema": _schema(model)}
        if isinstance(model, type) and model.__name__ in EXAMPLES:
            content["application/json"]["example"] = EXAMPLES[model.__name__]
    if status == 200:
        for media, kind in endpoint.media_types.items():
            content[media] = {"schema": _schema(kind) if _is_model(kind) else {"type": "string", "description": kind}}
    response: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if content:
        response["content"] = content
    names = {"ETag"} if endpoint.path == "/v1/jobs/{job}" and status != 204 else set()
    names |= {"Location"} if status == 201 else set()
    names |= (
        {name for name in HEADERS if name.startswith("Jobfac-")}
        if "text/plain" in endpoint.media_types and content.get("application/json")
        else set()
    )
    if names:
        response["headers"] = {name: _header(name) for name in sorted(names)}
    return response


def _header(name: str) -> dict[str, Any]:
    return {"description": HEADERS[name], "schema": {"type": "string"}}


def _problem(kind: Kind) -> dict[str, Any]:
    status = kind.status
    example: dict[str, Any] = {
        "type": f"urn:jobfac:problem:{kind.problem}",
        "title": kind.title,
        "status": status,
        "detail": "...",
    }
    if status == 422:
        example["errors"] = [{"field": "priority", "message": "Input should be less than or equal to 1000"}]
    response: dict[str, Any] = {
        "description": kind.title,
        "content": {PROBLEM: {"schema": {"$ref": REF.format(model="ProblemDocument")}, "example": example}},
    }
    if status in (429, 503):
        response["headers"] = {"Retry-After": _header("Retry-After")}
    return response


def _schema(model: Any) -> dict[str, Any]:
    if model is RawBody:
        return {"description": "Any JSON. What the job takes from it is up to its definition."}
    if model is Definition:
        return DEFINITION_SCHEMA
    if isinstance(model, type) and issubclass(model, BaseModel):
        return {"$ref": REF.format(model=model.__name__)}
    return TypeAdapter(model).json_schema(ref_template=REF)


def _schemas(table: Iterable[Endpoint]) -> dict[str, Any]:
    """Return the schemas of all request and response bodies, and of the models that they contain."""
    bodies = {endpoint.body for endpoint in table if _is_model(endpoint.body)}
    declared = [model for endpoint in table for model in (*endpoint.responses.values(), *endpoint.media_types.values())]
    responses = {model for model in declared if _is_model(model)} | {ProblemDocument}
    models: list[Any] = [(model, "validation") for model in bodies]
    models += [(model, "serialization") for model in responses]
    _, schema = models_json_schema(sorted(models, key=lambda entry: entry[0].__name__), ref_template=REF)
    return {**schema["$defs"], **definition_schemas()}


def _is_model(model: Any) -> bool:
    return isinstance(model, type) and issubclass(model, BaseModel)


def sample(endpoint: Endpoint) -> str:
    """A command for a shell in which KEY is a key of jobfac. Long commands have several lines."""
    name = endpoint.handler.__name__
    parts = ["curl -sS"]
    if endpoint.role is not None:
        parts.append('-H "Authorization: Bearer $KEY"')
    if list(endpoint.media_types) == ["text/event-stream"]:
        parts.append("-N")
    if endpoint.method != "GET":
        parts.append(f"-X {endpoint.method}")
    if name in KEYS:
        parts.append(f"-H 'Idempotency-Key: {KEYS[name]}'")
    if endpoint.body is not None:
        parts.append("-H 'Content-Type: application/json'")
        parts.append(f"-d {shlex.quote(json.dumps(EXAMPLES.get(name, {})))}")
    parts.append(shlex.quote(SERVER + _target(endpoint)))
    short = " ".join(parts)
    return short if len(short) <= 100 else " \\\n  ".join(parts)


def _target(endpoint: Endpoint) -> str:
    path = PATH_PARAMETER.sub(lambda found: quote(str(PATH_EXAMPLES[found[1]])), endpoint.path)
    query = QUERIES.get(endpoint.handler.__name__)
    return f"{path}?{urlencode(query)}" if query else path


def samples(endpoint: Endpoint) -> list[dict[str, str]]:
    """The extension ``x-codeSamples`` of an operation."""
    return [{"lang": "Shell", "label": "curl", "source": sample(endpoint)}]
