"""`/metrics` for Prometheus: what stands now is read at each scrape, what happened is counted since this process began.

The number of series is bounded: jobs beyond the first ``JOBS`` that finish a run are counted together as `(others)`.
"""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from jobfac.api.live import queries
from jobfac.api.live.positions import Positions
from jobfac.database.dialects import PASS, utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import notification, queue, run, run_event
from jobfac.database.types import sql_literals
from jobfac.states import ACTIVE, FINAL, Delivery, RunState, WorkerState
from jobfac.store import workers as worker_store
from jobfac.telemetry.exporter import count_statements
from jobfac.views.workers import WorkerView

MEDIA = "text/plain; version=0.0.4; charset=utf-8"

JOBS = 200
"""Jobs with series of their own."""

OTHERS = "(others)"

PICKUP = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1800)
DURATION = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)


class Metrics:
    """The registry of one process."""

    def __init__(self, db: Database) -> None:
        self.registry = CollectorRegistry()
        self._db = db
        self._lock = threading.Lock()
        self._positions: Positions | None = None
        self._jobs: set[str] = set()
        self._finished = Counter(
            "jobfac_runs_finished", "Runs that reached a final state", ["job", "state"], registry=self.registry
        )
        self._pickup = Histogram(
            "jobfac_pickup_seconds", "From being queued to being claimed", buckets=PICKUP, registry=self.registry
        )
        self._duration = Histogram(
            "jobfac_run_seconds", "From the first start to the end", ["state"], buckets=DURATION, registry=self.registry
        )
        count_statements(db, self.registry)
        self.registry.register(_Standing(db))

    def scrape(self) -> bytes:
        """The text that Prometheus reads.

        Raises:
            Unreachable: the database cannot be read.
        """
        with self._lock:
            self._catch_up()
            return generate_latest(self.registry)

    def _catch_up(self) -> None:
        if self._positions is None:
            recent = self._db.query(queries.recent_ids, retry_for=0)
            self._positions = Positions(recent, time.monotonic())
        while True:
            missing = sorted(self._positions.missing)
            rows = self._db.query(_transitions, self._positions.last, missing, retry_for=0)
            self._positions.see([row["id"] for row in rows], time.monotonic())
            for row in rows:
                self._count(row)
            if len(rows) < queries.PAGE:
                return

    def _count(self, row: Mapping[Any, Any]) -> None:
        if row["event"] == RunState.RUNNING and row["queued_at"] and row["at"] >= row["queued_at"]:
            self._pickup.observe((row["at"] - row["queued_at"]).total_seconds())
        if row["event"] in FINAL:
            self._finished.labels(self._label(row["job"] or OTHERS), row["event"]).inc()
            if row["started_at"] and row["ended_at"]:
                self._duration.labels(row["event"]).observe((row["ended_at"] - row["started_at"]).total_seconds())

    def _label(self, job: str) -> str:
        if job not in self._jobs and len(self._jobs) >= JOBS:
            return OTHERS
        self._jobs.add(job)
        return job


def _transitions(conn: sa.Connection, after: int, missing: list[int]) -> list[sa.RowMapping]:
    columns = (
        run_event.c.id,
        run_event.c.at,
        run_event.c.event,
        run.c.job,
        run.c.queued_at,
        run.c.started_at,
        run.c.ended_at,
    )
    query = (
        sa.select(*columns)
        .select_from(run_event.outerjoin(run, run.c.id == run_event.c.run_id))
        .order_by(run_event.c.id)
        .limit(queries.PAGE)
    )
    late = [
        row for ids in queries.batches(missing) for row in conn.execute(query.where(run_event.c.id.in_(ids))).mappings()
    ]
    return [*late, *conn.execute(query.where(run_event.c.id > after)).mappings()]


class _Standing(Collector):
    """How things stand at the moment of the scrape."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def describe(self) -> Iterable[Metric]:
        return ()  # nothing is read while it is registered

    def collect(self) -> Iterator[Metric]:
        def read(conn: sa.Connection) -> tuple[Sequence[Any], Sequence[Any], list[WorkerView], int, datetime]:
            return (
                conn.execute(_QUEUED).all(),
                conn.execute(_ACTIVE).all(),
                worker_store.workers(conn, alive_only=True),
                conn.execute(_NOTIFICATIONS).scalar_one(),
                conn.execute(sa.select(utcnow())).scalar_one(),
            )

        queued, active, workers, notifications, now = self._db.query(read, retry_for=0)
        depth = GaugeMetricFamily("jobfac_queue_runs", "Runs that wait for a worker", labels=["pool"])
        age = GaugeMetricFamily("jobfac_queue_age_seconds", "Since when the oldest of them waits", labels=["pool"])
        for row in queued:
            depth.add_metric([row.pool], row.number)
            age.add_metric([row.pool], max(0.0, (now - row.oldest).total_seconds()))
        states = GaugeMetricFamily("jobfac_runs", "Runs that are not over", labels=["state"])
        found = {row.state: row.number for row in active}
        for state in sorted(ACTIVE):
            states.add_metric([state], found.get(state, 0))
        fleet = GaugeMetricFamily("jobfac_workers", "Workers that are alive", labels=["state"])
        for alive in (WorkerState.ACTIVE, WorkerState.DRAINING):
            fleet.add_metric([alive], sum(worker.state == alive for worker in workers))
        yield from (depth, age, states, fleet)
        yield GaugeMetricFamily("jobfac_slots", "Programs they run at once", sum(w.slots for w in workers))
        yield GaugeMetricFamily("jobfac_slots_busy", "Of these in use", sum(w.busy for w in workers))
        silent = max(((now - worker.seen_at).total_seconds() for worker in workers), default=0.0)
        yield GaugeMetricFamily("jobfac_lease_age_seconds", "Of the worker that was silent longest", max(0.0, silent))
        yield GaugeMetricFamily("jobfac_notifications_waiting", "Messages that are not delivered yet", notifications)


_QUEUED = (
    sa.select(queue.c.pool, sa.func.count().label("number"), sa.func.min(run.c.queued_at).label("oldest"))
    .select_from(run.join(queue, queue.c.name == run.c.queue))
    .with_hint(run, PASS, "mssql")
    .where(sa.text(f"run.state = '{RunState.QUEUED}'"))
    .group_by(queue.c.pool)
)
_ACTIVE = (
    sa.select(run.c.state, sa.func.count().label("number"))
    .with_hint(run, PASS, "mssql")
    .where(sa.text(f"run.state IN ({sql_literals(ACTIVE)})"))
    .group_by(run.c.state)
)
_NOTIFICATIONS = (
    sa.select(sa.func.count())
    .select_from(notification)
    .with_hint(notification, PASS, "mssql")
    .where(sa.text(f"notification.state = '{Delivery.WAITING}'"))
)
