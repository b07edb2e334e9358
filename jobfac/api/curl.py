"""The curl command of each operation, for the OpenAPI document and the page `/docs`."""

import json
import shlex
from typing import Any
from urllib.parse import quote, urlencode

from jobfac.api.examples import EXAMPLES, PATH_EXAMPLES
from jobfac.api.routing import PATH_PARAMETER, Endpoint

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
        parts.append(f"-d {shlex.quote(json.dumps(EXAMPLES[name]))}")
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
