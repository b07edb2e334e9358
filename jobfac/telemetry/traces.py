"""OpenTelemetry traces, if ``jobfac[otel]`` is installed and the standard ``OTEL_*`` variables ask for them.

All spans of a run are in one trace, whose id follows from the run's id and the time of its creation: so whoever knows
the run knows the trace, and nothing has to be carried in the database. None of them is the parent of another process's:
a run may have been started where nobody traces, by a schedule or in T-SQL.
"""

import hashlib
import os
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import Span

    from jobfac.store.runs import Outcome
    from jobfac.store.workers import Claimed
    from jobfac.views.runs import RunView

FAREWELL = 2.0
"""Seconds that the last spans may take to be sent when a process ends."""


def trace_id(run_id: int, created_at: datetime | str) -> int:
    """The id of a run's trace, of 128 bits. ``created_at``: as in the database, or as in the run's JSON."""
    moment = datetime.fromisoformat(created_at) if isinstance(created_at, str) else created_at
    text = f"jobfac run {run_id} of {round(moment.timestamp() * 1000)}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16])


class Traces(Protocol):
    """The spans of one process. Times are nanoseconds since the epoch. ``wanted``: they are sent somewhere."""

    @property
    def wanted(self) -> bool: ...

    def started(self, run: "RunView", since: int, caller: str | None) -> None:
        """A run was started, which took from ``since`` to now; ``caller``: a traceparent to link to."""

    def claimed(self, claimed: "Claimed", worker: str, since: int) -> Mapping[str, str]:
        """An execution begins with its claim, which took from ``since`` to now; variables for the program."""

    def ended(self, outcome: "Outcome") -> None:
        """An execution has ended, and its outcome is stored."""

    def lost(self, run_id: int, attempt: int, why: str) -> None:
        """An execution is over, and whatever came of it does not count."""

    def close(self) -> None:
        """Send what is left, within ``FAREWELL``."""


def begin(role: str) -> Traces:
    """The traces of this process; ``role`` is part of its default service name, ``jobfac-role``.

    Without the variables nothing of OpenTelemetry is imported and nothing is done.
    """
    if not _is_wanted():
        return NO_TRACES
    try:
        return _Spans(f"jobfac-{role}")
    except ImportError as error:
        from jobfac.telemetry.logs import logger

        log = logger("jobfac.traces")
        log.warning("no traces are sent; install jobfac[otel]", action="traces_missing", reason=str(error))
        return NO_TRACES


def _is_wanted() -> bool:
    said = os.environ.get
    if said("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if exporter := said("OTEL_TRACES_EXPORTER", "").strip():
        return "otlp" in exporter.split(",")
    return bool(said("OTEL_EXPORTER_OTLP_ENDPOINT") or said("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))


class _None:
    wanted = False

    def started(self, run: "RunView", since: int, caller: str | None) -> None: ...

    def claimed(self, claimed: "Claimed", worker: str, since: int) -> Mapping[str, str]:
        return {}

    def ended(self, outcome: "Outcome") -> None: ...

    def lost(self, run_id: int, attempt: int, why: str) -> None: ...

    def close(self) -> None: ...


NO_TRACES: Traces = _None()
"""Traces that are sent nowhere."""


class _Spans:
    wanted = True

    def __init__(self, service: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

        wanted = self._wanted = threading.local()

        class OfTheRun(RandomIdGenerator):
            def generate_trace_id(self) -> int:
                return int(wanted.id)

        resource = Resource.create()
        if "OTEL_SERVICE_NAME" not in os.environ and "service.name" not in os.environ.get(
            "OTEL_RESOURCE_ATTRIBUTES", ""
        ):
            resource = resource.merge(Resource({"service.name": service}))
        self._provider = TracerProvider(resource=resource, id_generator=OfTheRun(), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("jobfac")
        self._open: dict[tuple[int, int], Span] = {}

    def started(self, run: "RunView", since: int, caller: str | None) -> None:
        from opentelemetry.trace import Link, SpanKind, get_current_span
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        found = TraceContextTextMapPropagator().extract({"traceparent": caller} if caller else {})
        link = get_current_span(found).get_span_context()
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
        # In a thread that may be left behind: a receiver that does not answer must not keep the process.
        sending = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        sending.start()
        sending.join(FAREWELL)

    def _root(self, name: str, run_id: int, created_at: datetime | str, since: int, **more: Any) -> Any:
        from opentelemetry.context import Context

        self._wanted.id = trace_id(run_id, created_at)
        return self._tracer.start_span(name, context=Context(), start_time=since, **more)
