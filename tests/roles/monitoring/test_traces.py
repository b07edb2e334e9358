"""Traces over OTLP to a real receiver: one trace contains all spans of a run, from every role."""

import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from jobfac.telemetry import traces
from tests.support.api_stage import Served
from tests.support.factory import Factory, wait_for
from tests.support.receivers import Receiver, receiving

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass(frozen=True)
class Span:
    """A received span."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    links: list[str]
    failed: bool
    seconds: float
    known: dict[str, Any]


def spans(receiver: Receiver) -> list[Span]:
    found = []
    for post in receiver.posts:
        assert post.path == "/v1/traces"
        for batch in ExportTraceServiceRequest.FromString(post.body).resource_spans:
            service = _values(batch.resource.attributes)["service.name"]
            found += [_span(service, span) for scope in batch.scope_spans for span in scope.spans]
    return found


def _span(service: str, span: Any) -> Span:
    return Span(
        service, span.name, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(),
        [link.trace_id.hex() for link in span.links], span.status.code == span.status.STATUS_CODE_ERROR,
        (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9, _values(span.attributes),
    )  # fmt: skip


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """The receiver of the traces of this process and its child processes."""
    with receiving() as found:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        yield found


def trace_of(run: dict[str, Any]) -> str:
    """The trace of a run as JSON."""
    return f"{traces.trace_id(run['id'], datetime.fromisoformat(run['created_at'])):032x}"


def wait_spans(receiver: Receiver, number: int) -> dict[str, Span]:
    """Wait for ``number`` spans; returns them by service and name."""
    wait_for(lambda: len(spans(receiver)) >= number, f"{number} spans")
    found = {f"{span.service}: {span.name}": span for span in spans(receiver)}
    assert len(found) == number == len(spans(receiver))
    return found


def test_start_claim_execution_and_program_are_in_one_trace(receiver: Receiver, served: Served) -> None:
    served.define("job", command=["sh", "-c", "echo $TRACEPARENT; sleep 0.2; exit 3"])
    answer = served.operator.post("/v1/jobs/job/runs", json={}, headers={"traceparent": CALLER})
    run = answer.json()
    with served.worker():
        text = wait_for(lambda: served.viewer.get(f"/v1/runs/{run['id']}/output").text, "the output of the program")
        found = wait_spans(receiver, 3)
    start, execution, claim = (
        found[name] for name in ("jobfac-api: start job", "jobfac-worker: run job", "jobfac-worker: claim")
    )
    assert {span.trace for span in found.values()} == {trace_of(run)}
    assert (start.parent, start.links, execution.parent) == ("", [CALLER.split("-")[1]], "")
    assert claim.parent == execution.id
    assert re.fullmatch(rf"00-{execution.trace}-{execution.id}-0[13]\n", text)
    attributes = {"run": run["id"], "attempt": 1, "job": "job", "worker": "w1", "state": "failed"}
    assert {f"jobfac.{name}": value for name, value in attributes.items()}.items() <= execution.known.items()
    assert execution.known["process.exit.code"] == 3
    assert (start.failed, execution.failed) == (False, True)
    assert 0 < claim.seconds < execution.seconds
    assert 0.2 < execution.seconds < 20


def test_the_command_line_sends_its_span_before_it_exits(
    receiver: Receiver, sqlite_factory: Factory, cold_factory: Factory
) -> None:
    sqlite_factory.apply({"job": {"command": ["true"]}})
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_SERVICE_NAME": "nightly"}
    cold_factory.environment |= environment
    run = cold_factory.json("start", "job")
    ((name, span),) = wait_spans(receiver, 1).items()
    assert (name, span.trace) == (
        "nightly: start job",
        trace_of(run),
    )


def test_an_interrupt_while_spans_are_sent_hides_no_start(sqlite_factory: Factory, tmp_path: Path) -> None:
    sqlite_factory.apply({"job": {"command": ["true"]}})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        environment = {**sqlite_factory.environment, "OTEL_EXPORTER_OTLP_ENDPOINT": url}
        command = sqlite_factory.begin(("start", "job"), environment, tmp_path / "said")
        silent.settimeout(30)
        with silent.accept()[0] as connection:
            connection.recv(1)
            command.send_signal(signal.SIGINT)
            assert command.wait() == 0
    assert (tmp_path / "said").read_text() == "1\n"


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_only_the_standard_variables_enable_traces(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], wanted: bool
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    spans = traces.begin("worker")
    spans.close()
    assert (type(spans).__name__ == "_Spans") == wanted


def test_no_more_than_the_beginning_of_a_long_answer_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    piece, pieces = b"x" * 2**20, 64
    sent: list[int] = []
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(400)
            self.send_header("Content-Length", str(len(piece) * pieces))
            self.end_headers()
            try:
                for _ in range(pieces):
                    sent.append(self.wfile.write(piece))
            except OSError:  # the sender has closed the connection
                self.close_connection = True
            over.set()

        def log_message(self, *arguments: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        found = traces.begin("worker")
        found._root("start job", 1, datetime.now(UTC), 1).end()  # type: ignore[attr-defined]
        found.close()
        assert over.wait(30)
        server.shutdown()
        thread.join()
    assert len(sent) < pieces / 2, "what the sockets buffer, at most"


def python(script: str, **environment: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    return done.stdout + done.stderr


BEGIN = "from jobfac.telemetry import traces; traces.begin('worker')"


def test_opentelemetry_is_imported_only_if_enabled_and_a_missing_package_is_logged() -> None:
    idle = f"import sys; {BEGIN}; print('opentelemetry' in sys.modules)"
    assert python(idle) == "False\n"
    bare = f"import sys; sys.modules['opentelemetry'] = None; {BEGIN}"
    assert "install jobfac[otel]" in python(bare, OTEL_TRACES_EXPORTER="otlp")
    wrong = {"OTEL_BSP_SCHEDULE_DELAY": "0", "OTEL_TRACES_EXPORTER": "otlp"}
    assert "correct the variables OTEL_..." in python(BEGIN, **wrong)
