"""The OpenAPI document, made from the route table and the models: nothing in it is kept by hand."""

import re
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from jobfac.api.examples import EXAMPLES, PATH_EXAMPLES
from jobfac.api.models import ProblemDocument
from jobfac.api.problems import MEDIA as PROBLEM
from jobfac.api.routing import Endpoint, Nothing
from jobfac.errors import Kind

REF = "#/components/schemas/{model}"

HEADERS = {
    "ETag": "The job's version, for If-Match",
    "Location": "Where the new thing is",
    "Retry-After": "Seconds after which to try again",
    "Jobfac-Attempt": "Which execution this is of",
    "Jobfac-Next-Offset": "Where to continue",
    "Jobfac-Complete": "`true`: no more will come",
}

INTRODUCTION = """\
Start, stop and watch background jobs. Every call needs a key, `Authorization: Bearer KEY`, which `jobfac keys create` \
makes; its role is named with each call: a viewer reads, an operator also starts and stops, an admin also defines. \
Errors are RFC 9457 problem documents. 429 and 503 come with `Retry-After`."""


def document(table: Iterable[Endpoint]) -> dict[str, Any]:
    """OpenAPI 3.1 for these calls."""
    table = list(table)
    paths: dict[str, dict[str, Any]] = {}
    for call in table:
        paths.setdefault(_path(call), {})[call.method.lower()] = _operation(call)
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


def _path(call: Endpoint) -> str:
    return re.sub(r":\w+}", "}", call.path)


def _operation(call: Endpoint) -> dict[str, Any]:
    needs = "No key is needed." if call.role is None else f"Needs the role **{call.role}**."
    if call.everywhere:
        needs += " Not for keys that are limited to categories."
    operation: dict[str, Any] = {
        "operationId": call.handler.__name__,
        "tags": [call.handler.__module__.rpartition(".")[2]],
        "summary": call.summary,
        "description": " ".join(filter(None, (call.description, needs))),
        "security": [] if call.role is None else [{"key": []}],
        "parameters": [
            *_path_parameters(call),
            *_parameters(call.query, "query"),
            *_parameters(call.headers, "header"),
        ],
        "responses": {
            str(status): _answer(call, status) for status in sorted({*call.answers, *([200] * bool(call.texts))})
        }
        | {str(status): {"$ref": f"#/components/responses/{status}"} for status in errors(call)},
    }
    if call.body is not None:
        content: dict[str, Any] = {"schema": _schema(call.body)}
        if call.handler.__name__ in EXAMPLES:
            content["example"] = EXAMPLES[call.handler.__name__]
        operation["requestBody"] = {"required": call.body_required, "content": {"application/json": content}}
    return operation


def errors(call: Endpoint) -> list[int]:
    """The statuses of the problems that a call may answer with."""
    found = {403, 421, *call.errors}
    if call.role is not None:
        found |= {401, 429, 503}
    if call.path == "/readyz":
        found |= {503}
    if call.query is not Nothing or call.headers is not Nothing:
        found |= {422}
    if call.body is not None:
        found |= {400, 408, 413, 415, 422}
    return sorted(found)


def _path_parameters(call: Endpoint) -> Iterator[dict[str, Any]]:
    for name, kind in re.findall(r"{(\w+)(:\w+)?}", call.path):
        number = {"type": "integer", "minimum": 1, "maximum": 10**18 - 1}
        word = {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"}
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "description": f"The {name}'s id.",
            "schema": number if kind else word,
            "example": PATH_EXAMPLES[name],
        }


def _parameters(model: type[BaseModel], place: str) -> Iterator[dict[str, Any]]:
    schema = model.model_json_schema(by_alias=True)
    definitions = schema.get("$defs", {})
    for name, form in schema["properties"].items() if "properties" in schema else ():
        form = _inlined({key: value for key, value in form.items() if key not in ("title", "description")}, definitions)
        yield {
            "name": name,
            "in": place,
            "required": name in schema.get("required", ()),
            "description": schema["properties"][name].get("description", ""),
            "schema": form,
        }


def _inlined(form: Any, definitions: dict[str, Any]) -> Any:
    """Without references, and without null: a parameter that is not given is left out."""
    if isinstance(form, list):
        return [_inlined(one, definitions) for one in form if one != {"type": "null"}]
    if not isinstance(form, dict):
        return form
    if "$ref" in form:
        return _inlined(definitions[form["$ref"].rpartition("/")[2]], definitions)
    form = {key: _inlined(value, definitions) for key, value in form.items() if (key, value) != ("default", None)}
    if len(form.get("anyOf", ())) == 1:
        form |= form.pop("anyOf")[0]
    return form


def _answer(call: Endpoint, status: int) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if (model := call.answers.get(status)) is not None:
        content["application/json"] = {"schema": _schema(model)}
        if isinstance(model, type) and model.__name__ in EXAMPLES:
            content["application/json"]["example"] = EXAMPLES[model.__name__]
    if status == 200:
        for media, what in call.texts.items():
            content[media] = {"schema": _schema(what) if _is_model(what) else {"type": "string", "description": what}}
    shown: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if content:
        shown["content"] = content
    names = {"ETag"} if call.path == "/v1/jobs/{job}" and status != 204 else set()
    names |= {"Location"} if status == 201 else set()
    names |= (
        {name for name in HEADERS if name.startswith("Jobfac-")}
        if "text/plain" in call.texts and content.get("application/json")
        else set()
    )
    if names:
        shown["headers"] = {name: _header(name) for name in sorted(names)}
    return shown


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
    shown: dict[str, Any] = {
        "description": kind.title,
        "content": {PROBLEM: {"schema": {"$ref": REF.format(model="ProblemDocument")}, "example": example}},
    }
    if status in (429, 503):
        shown["headers"] = {"Retry-After": _header("Retry-After")}
    return shown


def _schema(model: Any) -> dict[str, Any]:
    if isinstance(model, type) and issubclass(model, BaseModel):
        return {"$ref": REF.format(model=model.__name__)}
    return TypeAdapter(model).json_schema(ref_template=REF)


def _schemas(table: Iterable[Endpoint]) -> dict[str, Any]:
    """The models of all bodies and answers, and what they are made of."""
    bodies = {call.body for call in table if _is_model(call.body)}
    answers = {model for call in table for model in (*call.answers.values(), *call.texts.values()) if _is_model(model)}
    wanted: list[Any] = [(model, "validation") for model in bodies]
    wanted += [(model, "serialization") for model in answers | {ProblemDocument}]
    _, schema = models_json_schema(sorted(wanted, key=lambda one: one[0].__name__), ref_template=REF)
    found: dict[str, Any] = schema["$defs"]
    return found


def _is_model(model: Any) -> bool:
    return isinstance(model, type) and issubclass(model, BaseModel)
