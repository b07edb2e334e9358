"""`/docs`: the calls of the HTTP API, from its OpenAPI document. It needs no login."""

import json
from itertools import groupby
from typing import Any, NamedTuple

from starlette.responses import Response

from jobfac.web.page import Page, get
from jobfac.web.visit import Visit


class Call(NamedTuple):
    """A call of the API."""

    method: str
    path: str
    summary: str
    description: str
    parameters: list[tuple[str, str, str]]
    curl: str
    body: str
    answers: list[tuple[str, str]]


def docs(visit: Visit) -> Response:
    """Show every call."""
    document: dict[str, Any] = visit.request.app.state.document()
    calls = [
        (operation["tags"][0], _call(path, method, operation, document))
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    calls.sort(key=lambda one: one[0])
    groups = [(tag, [call for _, call in found]) for tag, found in groupby(calls, key=lambda one: one[0])]
    return visit.render("documents/docs.html", groups=groups, introduction=document["info"]["description"])


def _call(path: str, method: str, operation: dict[str, Any], document: dict[str, Any]) -> Call:
    parameters = [
        (one["name"], one["in"] + (", required" if one.get("required") else ""), one.get("description", ""))
        for one in operation.get("parameters", ())
    ]
    content: dict[str, Any] = next(iter(operation.get("requestBody", {}).get("content", {}).values()), {})
    answers = [
        (
            status,
            answer.get("description") or document["components"]["responses"].get(status, {}).get("description", ""),
        )
        for status, answer in operation["responses"].items()
    ]
    example = content.get("example")
    body = "" if not content else json.dumps(example if example is not None else content.get("schema"), indent=2)
    about = operation["summary"], operation.get("description", "")
    return Call(method.upper(), path, *about, parameters, operation["x-codeSamples"][0]["source"], body, answers)


PAGES: tuple[Page, ...] = (get("/docs", docs, None),)
