"""`/docs`: the calls of the HTTP API, from its OpenAPI document. It needs no login."""

import json
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple

from starlette.responses import Response

from jobfac.api.app import Document
from jobfac.api.serving.kept import Kept, keep
from jobfac.web import templating
from jobfac.web.page import Page, get
from jobfac.web.visit import HEADERS, THEMES, Visit


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
    return _page(visit.request.app.state.document, visit.theme).response(visit.request, HEADERS)


@lru_cache(len(THEMES))
def _page(published: Document, theme: str) -> Kept:
    document = published.content()
    calls = [
        (operation["tags"][0], _call(path, method, operation, document))
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    calls.sort(key=lambda one: one[0])
    groups = [(tag, [call for _, call in found]) for tag, found in groupby(calls, key=lambda one: one[0])]
    template = templating.environment().get_template("documents/docs.html")
    html = template.render(theme=theme, groups=groups, introduction=document["info"]["description"])
    return keep(html.encode(), "text/html; charset=utf-8")


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
