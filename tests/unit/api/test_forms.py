"""Building blocks of the API: the guard, the limit on failures, the document, the models."""

import asyncio
import json
import re

import pytest
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from jobfac.api import TABLE, models, openapi
from jobfac.api.auth import FailedLogins
from jobfac.api.examples import EXAMPLES
from jobfac.api.live.streams import event
from jobfac.api.resources.output import Reader
from jobfac.api.routing import ApiRequest, ApiResponse, Endpoints
from jobfac.api.serving.guard import LOOPBACK, OriginGuard, refusal
from jobfac.store.output import Piece
from jobfac.views.runs import RunView
from jobfac.views.serialization import columns


def test_the_model_of_a_run_describes_its_view() -> None:
    assert tuple(models.Run.model_fields) == (*columns(RunView), "waits_for", "origin")


@pytest.mark.parametrize("name", [name for name in EXAMPLES if hasattr(models, name)])
def test_the_examples_are_valid(name: str) -> None:
    getattr(models, name).model_validate_json(json.dumps(EXAMPLES[name]))


def test_the_document_contains_every_call_with_its_errors() -> None:
    document = openapi.document(TABLE)
    for call in TABLE:
        operation = document["paths"][re.sub(r":\w+}", "}", call.path)][call.method.lower()]
        assert operation["security"] == ([] if call.role is None else [{"key": []}])
        if call.role is not None:
            assert {"401", "403", "429", "503"} <= operation["responses"].keys()
    references = set(re.findall(r'"#/components/(\w+)/(\w+)"', json.dumps(document)))
    assert {name for kind, name in references if kind == "schemas"} <= document["components"]["schemas"].keys()
    assert {name for kind, name in references if kind == "responses"} <= document["components"]["responses"].keys()
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names))


def test_a_handler_must_take_the_parameters_of_its_path() -> None:
    def show(request: ApiRequest, run: str) -> ApiResponse:
        """Show a run."""
        return ApiResponse(run)

    endpoints = Endpoints()
    assert endpoints.add("GET", "/v1/runs/{run}")(show) is show
    assert endpoints[0].parameters == {"run": str}
    for path in ("/v1/runs/{run:id}", "/v1/runs/{id}", "/v1/runs"):
        with pytest.raises(TypeError, match="must take an ApiRequest and the parameters of /v1/runs"):
            endpoints.add("GET", path)(show)


def test_failed_logins_are_counted_by_key_prefix_for_a_time() -> None:
    failures = FailedLogins(limit=2, window=60.0)
    failures.note("a", 0.0)
    assert failures.wait("a", 1.0) == 0.0
    failures.note("a", 10.0)
    assert failures.wait("a", 20.0) == 40.0
    assert failures.wait("b", 20.0) == 0.0
    assert failures.wait("a", 61.0) == 0.0


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {"host": "localhost:8420"}, None),
        ("POST", {"host": "127.0.0.1:8420", "authorization": "Bearer x"}, None),
        ("POST", {"host": "127.0.0.1:8420", "origin": "http://127.0.0.1:8420", "cookie": "x"}, None),
        ("GET", {"host": "127.0.0.1:8420", "cookie": "x"}, None),
        ("POST", {"host": "127.0.0.1:8420", "cookie": "x"}, 403),
        ("POST", {"host": "127.0.0.1:8420", "cookie": "x", "authorization": "Basic eDp5"}, 403),
        ("POST", {"host": "127.0.0.1:8420", "cookie": "x", "authorization": "bearer k"}, None),
        ("GET", {"host": "127.0.0.1:8420", "origin": "http://127.0.0.1:9999"}, 403),
        ("GET", {"host": "127.0.0.1:8420", "origin": "null"}, 403),
        ("GET", {"host": "rebound.example:8420", "origin": "http://rebound.example:8420"}, 421),
        ("GET", {}, 421),
        ("GET", {"host": "[::1"}, 421),
    ],
)
def test_the_guard_checks_origin_and_host(method: str, headers: dict[str, str], status: int | None) -> None:
    found = refusal(method, Headers(headers), LOOPBACK)
    assert (found and found.status) == status


@pytest.mark.parametrize(
    ("scheme", "origin", "accepted"),
    [
        ("https", "https://localhost", True),
        ("https", "http://localhost", False),  # anybody on the way could have written that page
        ("http", "https://localhost", True),  # a proxy that does not say that it ends TLS
        ("http", "ftp://localhost", False),
    ],
)
def test_a_page_without_tls_is_no_page_of_a_server_with_tls(scheme: str, origin: str, accepted: bool) -> None:
    headers = Headers({"host": "localhost", "origin": origin, "cookie": "a=b"})
    assert (refusal("POST", headers, LOOPBACK, scheme=scheme) is None) == accepted


@pytest.mark.parametrize(
    ("origin", "accepted"),
    [
        ("https://jobs.example.org", True),
        ("http://jobs.example.org", False),
        ("https://jobs.example.org:8443", False),
        ("https://evil.example.org", False),
        ("http://127.0.0.1:8420", True),
    ],
)
def test_pages_at_the_public_url_may_use_the_api_behind_a_proxy_that_changes_host(origin: str, accepted: bool) -> None:
    answers: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        answers.append(200)

    async def send(message: Message) -> None:
        answers.extend([message["status"]] if "status" in message else [])

    async def receive() -> Message:
        return {"type": "http.request"}

    headers = [(b"host", b"127.0.0.1:8420"), (b"origin", origin.encode()), (b"cookie", b"session")]
    guard = OriginGuard(app, public_url="https://Jobs.example.org:443/jobs")
    asyncio.run(guard({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive, send))
    assert answers == [200 if accepted else 403]


def test_a_partial_character_waits_for_its_rest() -> None:
    reader = Reader(1, 1, False, "utf-8", {"stdout": 0, "stderr": 0})
    text = "aä€😀".encode()
    decoded = ""
    for offset in range(len(text)):
        decoded += reader.decode(Piece("stdout", offset, text[offset : offset + 1], 0, None))
        assert reader.position() == f"1:{len(decoded.encode())}:0"
    assert decoded == "aä€😀"
    assert reader.decode(Piece("stdout", 10, b"\xe2", 0, None)) == ""
    assert reader.decode(Piece("stdout", 20, b"z", 9, None)) == "\ufffdz"  # half a character, and then a cut
    assert reader.rest("stdout") == ""


def test_an_event_is_one_line_of_data() -> None:
    assert event("run", {"text": "a\nb"}, 7) == b'id: 7\nevent: run\ndata: {"text": "a\\nb"}\n\n'
