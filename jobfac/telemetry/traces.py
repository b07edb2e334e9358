"""OpenTelemetry traces, if ``jobfac[otel]`` is installed and the standard ``OTEL_*`` variables enable them.

All spans of a run are in one trace. The trace id is computed from the run's id and creation time, so the database
stores no trace context. The span of an execution has no parent: a schedule or T-SQL may have started the run without
tracing.
"""

import hashlib
import io
import os
import re
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import Span
    from requests import Session

    from jobfac.store.runs import Outcome
    from jobfac.store.workers import Claimed
    from jobfac.views.runs import RunView

CLOSE_TIMEOUT = 2.0
"""Timeout in seconds for sending the last spans when a process ends."""


LARGEST = 2**16
"""Bytes of the receiver's answer that are read. It is a few bytes long, unless the receiver is broken."""


def trace_id(run_id: int, created_at: datetime) -> int:
    """Return the 128-bit id of a run's trace. The same run has the same trace in every process."""
    text = f"jobfac run {run_id} of {round(created_at.timestamp() * 1000)}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16])


class Traces:
    """The spans of one process; this base class records nothing. Times are nanoseconds since the epoch."""

    wanted = False
    """Whether spans are exported."""

    def started(self, run: "RunView", since: int, caller: str | None) -> None:
        """Record the start of a run, from ``since`` to now. ``caller`` is a traceparent to link to."""

    def claimed(self, claimed: "Claimed", worker: str, since: int) -> Mapping[str, str]:
        """Open the span of an execution and record its claim, from ``since`` to now.

        Returns the environment variables with which the program continues the trace.
        """
        return {}

    def ended(self, outcome: "Outcome") -> None:
        """Close the span of an execution whose outcome is stored."""

    def lost(self, run_id: int, attempt: int, why: str) -> None:
        """Close the span of an execution whose outcome is discarded, with ``why`` as the error."""

    def close(self) -> None:
        """Send the remaining spans, within ``CLOSE_TIMEOUT``."""


def begin(role: str) -> Traces:
    """Return the traces of this process. The default service name is ``jobfac-{role}``.

    Without the variables OpenTelemetry is not imported and no span is recorded.
    """
    if not _is_wanted():
        return NO_TRACES
    try:
        return _Spans(f"jobfac-{role}")
    except ImportError as error:
        return _without("install jobfac[otel]", error)
    except ValueError as error:  # the library refuses the value of a variable
        return _without("correct the variables OTEL_...", error)


def _without(remedy: str, error: Exception) -> Traces:
    from jobfac.telemetry.logs import logger

    log = logger("jobfac.traces")
    log.warning(f"no traces are sent; {remedy}", action="traces_missing", reason=str(error))
    return NO_TRACES


def _is_wanted() -> bool:
    variable = os.environ.get
    if variable("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if exporter := variable("OTEL_TRACES_EXPORTER", "").strip():
        return "otlp" in exporter.split(",")
    return bool(variable("OTEL_EXPORTER_OTLP_ENDPOINT") or variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))


NO_TRACES = Traces()


def _session() -> "Session | None":
    """Return a session that reads at most ``LARGEST`` bytes of an answer; None: the environment names another one."""
    from requests import PreparedRequest, Response, Session
    from requests.adapters import HTTPAdapter

    if any(re.fullmatch("OTEL_PYTHON_EXPORTER_OTLP_.*CREDENTIAL_PROVIDER", name) for name in os.environ):
        return None

    class Bounded(HTTPAdapter):
        def send(self, request: PreparedRequest, *arguments: Any, **named: Any) -> Response:
            answer = super().send(request, *arguments, **named)
            body, answer.raw = answer.raw, io.BytesIO(answer.raw.read(LARGEST))
            body.close()  # nothing, if all of it was read
            return answer

    session = Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, Bounded())
    return session


class _Spans(Traces):
    wanted = True

    def __init__(self, service: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

        next_trace = self._next_trace = threading.local()

        class TraceIdOfRun(RandomIdGenerator):
            def generate_trace_id(self) -> int:
                return int(next_trace.id)

        resource = Resource.create()
        if "OTEL_SERVICE_NAME" not in os.environ and "service.name" not in os.environ.get(
            "OTEL_RESOURCE_ATTRIBUTES", ""
        ):
            resource = resource.merge(Resource({"service.name": service}))
        self._provider = TracerProvider(resource=resource, id_generator=TraceIdOfRun(), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(session=_session())))
        self._tracer = self._provider.get_tracer("jobfac")
        self._open: dict[tuple[int, int], Span] = {}

    def started(self, run: "RunView", since: int, caller: str | None) -> None:
        from opentelemetry.trace import Link, SpanKind, get_current_span
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        context = TraceContextTextMapPropagator().extract({"traceparent": caller} if caller else {})
        link = get_current_span(context).get_span_context()
        span = self._root(
            f"start {run.job}", run.id, run.created_at, since, kind=SpanKind.PRODUCER,
            links=[Link(link)] if link.is_valid else [],
            attributes={"jobfac.run": run.id, "jobfac.job": run.job, "jobfac.state": str(run.state)},
        )  # fmt: skip
        span.end()

    def claimed(self, claimed: "Claimed", worker: str, since: int) -> Mapping[str, str]:
        from opentelemetry.trace import SpanKind, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        names = {"run": claimed.id, "attempt": claimed.attempt, "job": claimed.job, "worker": worker}
        span = self._root(
            f"run {claimed.job}", claimed.id, claimed.created_at, since, kind=SpanKind.CONSUMER,
            attributes={f"jobfac.{name}": value for name, value in names.items()},
        )  # fmt: skip
        inside = set_span_in_context(span)
        self._tracer.start_span("claim", context=inside, start_time=since).end()
        self._open[claimed.id, claimed.attempt] = span
        variables: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(variables, inside)
        return {name.upper(): value for name, value in variables.items()}

    def ended(self, outcome: "Outcome") -> None:
        from opentelemetry.trace import Status, StatusCode

        span = self._open.pop((outcome.run_id, outcome.attempt), None)
        if span is None:
            return
        known = {
            "jobfac.state": str(outcome.state),
            "process.exit.code": outcome.exit_code,
            "jobfac.signal": outcome.signal,
        }
        span.set_attributes({name: value for name, value in known.items() if value is not None})
        if outcome.state not in ("succeeded", "queued"):
            span.set_status(Status(StatusCode.ERROR, outcome.reason))
        span.end(time.time_ns() - round((time.monotonic() - outcome.ended) * 1e9))

    def lost(self, run_id: int, attempt: int, why: str) -> None:
        from opentelemetry.trace import Status, StatusCode

        if span := self._open.pop((run_id, attempt), None):
            span.set_status(Status(StatusCode.ERROR, why))
            span.end()

    def close(self) -> None:
        # In a daemon thread: a receiver that does not answer must not delay the end of the process.
        sending = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        sending.start()
        sending.join(CLOSE_TIMEOUT)

    def _root(self, name: str, run_id: int, created_at: datetime, since: int, **more: Any) -> Any:
        from opentelemetry.context import Context

        self._next_trace.id = trace_id(run_id, created_at)
        return self._tracer.start_span(name, context=Context(), start_time=since, **more)
