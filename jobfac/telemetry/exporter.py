"""Prometheus metrics: counters of a process's SQL statements, and an endpoint for a role that has no API.

The endpoint needs no key. It exposes numbers only; the only labels are states, SQL verbs and names of duties.
"""

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from types import TracebackType
from typing import Any

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Counter, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import MetricsHandler
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from jobfac.database.engine import Database
from jobfac.errors import NotReady
from jobfac.machine.threads import begin
from jobfac.settings import read_address
from jobfac.telemetry.logs import logger
from jobfac.telemetry.metrics import BOUNDS, Metric, Timing

log = logger("jobfac.metrics")

READ_TIMEOUT = 5.0
"""Timeout in seconds for a client's request, and for its whole connection."""

MOST = 4
"""The maximum number of clients that are served at once. For one more, the one that came first is sent away."""

NOT_ACCEPTED_PAUSE = 0.1
"""Seconds until the next try to accept a client, after one that failed."""

VERBS = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "EXEC", "DECLARE")

disable_created_metrics()  # the library would add a ``_created`` series to each counter


def count_statements(db: Database, registry: CollectorRegistry) -> None:
    """Register counters of this process's SQL statements, statement errors and transaction retries."""
    statements = Counter("jobfac_statements", "SQL statements of this process", ["verb"], registry=registry)
    errors = Counter("jobfac_statement_errors", "SQL statements that failed", registry=registry)
    by_verb = {verb: statements.labels(verb.lower()) for verb in VERBS}
    other = statements.labels("other")

    def count(conn: Any, cursor: Any, statement: str, *rest: Any) -> None:
        by_verb.get(statement[:8].lstrip().partition(" ")[0].upper(), other).inc()

    def count_error(context: Any) -> None:
        errors.inc()

    for engine in (db.engine, db.singles):
        sa.event.listen(engine, "after_cursor_execute", count)
        sa.event.listen(engine, "handle_error", count_error)
    retries = Counter("jobfac_transaction_retries", "Transactions retried after an error", registry=registry)
    db.on_retry.append(retries.inc)


class Exporter:
    """Serves the metrics of the roles in this process from a separate thread. Use it in a ``with`` statement.

    It serves ``MOST`` clients at once, each for at most ``READ_TIMEOUT``. So it never uses more than a few threads and
    file descriptors, no matter what its clients do, and a slow client keeps out no other: Kubernetes would end a worker
    whose metrics it cannot read.
    """

    def __init__(self, address: str, db: Database, roles: Sequence[Callable[[], Iterable[Metric]]]) -> None:
        """Listen on ``HOST:PORT``; port 0 selects a free port.

        Raises:
            NotReady: the address is in use or not there.
            SettingsError: it is no address.
        """
        registry = CollectorRegistry()
        count_statements(db, registry)
        registry.register(_RoleCollector(roles))
        self._server = _listening(address, registry)
        host, port = self._server.socket.getsockname()[:2]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics"
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)

    def __enter__(self) -> "Exporter":
        self._thread.start()
        log.info("metrics are served", action="metrics_started", url=self.url)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, *arguments: Any) -> None:
        self._lock = threading.Lock()
        self._open: dict[socket.socket, threading.Event] = {}  # in the order in which they came; set when it is over
        super().__init__(*arguments)

    def get_request(self) -> Any:
        """Accept a client.

        Raises:
            OSError: no descriptor is free. The client stays in the queue, so the loop of the base class would spin.
        """
        try:
            return super().get_request()
        except OSError:
            time.sleep(NOT_ACCEPTED_PAUSE)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a client in a thread of its own, and send away one that is slow.

        Raises:
            RuntimeError: no thread can begin. The caller closes the connection.
        """
        is_over = threading.Event()
        with self._lock:
            oldest = next(iter(self._open)) if len(self._open) >= MOST else None
            self._open[request] = is_over
        if oldest is not None:
            self._forget(oldest)
            _end(oldest)
        begin(_end_late, request, is_over)
        begin(self.process_request_thread, request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a client's connection."""
        self._forget(request)
        super().shutdown_request(request)

    def _forget(self, request: socket.socket) -> None:
        with self._lock:
            is_over = self._open.pop(request, None)
        if is_over is not None:
            is_over.set()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect or stall; the base class would print a traceback."""


def _end_late(connection: socket.socket, is_over: threading.Event) -> None:
    if not is_over.wait(READ_TIMEOUT):
        _end(connection)


def _end(connection: socket.socket) -> None:
    """Shut a connection down; the thread that serves it then closes it."""
    with contextlib.suppress(OSError):  # it is closed already
        connection.shutdown(socket.SHUT_RDWR)


def _listening(address: str, registry: CollectorRegistry) -> _Server:
    host, port = read_address(address, "metrics")
    handler = type("Handler", (MetricsHandler,), {"registry": registry, "timeout": READ_TIMEOUT})
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family = type("Server", (_Server,), {"address_family": found[0][0]})
        server: _Server = family(found[0][4], handler)
    except OSError as error:
        raise NotReady(f"Metrics cannot be served on {address}: {error.strerror}.") from None
    return server


class _RoleCollector(Collector):
    def __init__(self, roles: Sequence[Callable[[], Iterable[Metric]]]) -> None:
        self._roles = roles

    def describe(self) -> Iterable[Family]:
        return ()  # so that registering does not collect

    def collect(self) -> Iterator[Family]:
        return (_family(metric) for role in self._roles for metric in role())


def _family(metric: Metric) -> Family:
    _, name, text, value, label = metric
    if isinstance(value, Timing):
        counts = list(accumulate(value.counts))
        buckets = list(zip([*map(str, BOUNDS), "+Inf"], counts, strict=True))
        return HistogramMetricFamily(name, text, buckets=buckets, sum_value=value.total)
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    if not isinstance(value, Mapping):
        return kind(name, text, value)
    family = kind(name, text, labels=[label or ""])
    for key, number in value.items():
        family.add_metric([key], number)
    return family
