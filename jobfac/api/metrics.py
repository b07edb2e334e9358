"""`/metrics` for Prometheus: gauges are read from the database at each scrape, counters count since the process began.

The number of series is bounded: after ``MAX_JOBS`` jobs, the runs of further jobs are counted together as `(others)`.
"""

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from jobfac.api.live import queries
from jobfac.api.live.positions import Positions
from jobfac.database.dialects import PASS, lists, utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import expectation, notification, queue, run, run_event, scheduler, start_hold
from jobfac.database.types import sql_literals
from jobfac.states import ACTIVE, FINAL, Delivery, RunState, WorkerState
from jobfac.store import schedulers
from jobfac.store import workers as worker_store
from jobfac.store.holds.conditions import is_active
from jobfac.store.runs.pinning import PREFIX
from jobfac.telemetry.exporter import count_statements
from jobfac.views.workers import WorkerView

MEDIA = "text/plain; version=0.0.4; charset=utf-8"

MAX_JOBS = 200
"""The maximum number of jobs with their own series."""

OTHERS = "(others)"

PINNED = PREFIX.removesuffix(":")
"""In place of a pool: runs that wait for one worker each, by jobs with ``each_worker``."""

PICKUP_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1800)
DURATION_BUCKETS = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)


class _Transition(NamedTuple):
    """An event of a run, with the times of the run. ``job`` None: the run was purged."""

    id: int
    event: str
    job: str | None
    at: datetime
    queued_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None


class Metrics:
    """The metrics of one API process."""

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
            "jobfac_pickup_seconds",
            "Time from being queued to being claimed",
            buckets=PICKUP_BUCKETS,
            registry=self.registry,
        )
        self._duration = Histogram(
            "jobfac_run_seconds",
            "Time from the first start to the end",
            ["state"],
            buckets=DURATION_BUCKETS,
            registry=self.registry,
        )
        for state in FINAL:  # Prometheus sees no increase in a series that begins with its first event
            self._duration.labels(state)
        count_statements(db, self.registry)
        self.registry.register(_CurrentState(db))

    def scrape(self) -> bytes:
        """Return the metrics in Prometheus' text format.

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
            self._positions.see([row.id for row in rows], time.monotonic())
            for row in rows:
                self._count(row)
            if len(rows) < queries.PAGE:
                return

    def _count(self, row: _Transition) -> None:
        if row.event == RunState.RUNNING and row.queued_at and row.at >= row.queued_at:
            self._pickup.observe((row.at - row.queued_at).total_seconds())
        if row.event in FINAL:
            self._finished.labels(self._label(row.job or OTHERS), row.event).inc()
            if row.started_at and row.ended_at:
                self._duration.labels(row.event).observe((row.ended_at - row.started_at).total_seconds())

    def _label(self, job: str) -> str:
        if job not in self._jobs and len(self._jobs) >= MAX_JOBS:
            return OTHERS
        self._jobs.add(job)
        return job


def _transitions(conn: sa.Connection, after: int, missing: list[int]) -> list[_Transition]:
    times = (run_event.c.at, run.c.queued_at, run.c.started_at, run.c.ended_at)
    columns = (run_event.c.id, run_event.c.event, run.c.job, *times)
    query = (
        sa.select(*columns)
        .select_from(run_event.outerjoin(run, run.c.id == run_event.c.run_id))
        .order_by(run_event.c.id)
        .limit(queries.PAGE)
    )
    late = conn.execute(query.where(lists.by_id(run_event.c.id, missing))).all() if missing else []
    return [_Transition(*row) for row in (*late, *conn.execute(query.where(run_event.c.id > after)))]


class _CurrentState(Collector):
    """Gauges of the queue, the fleet and the notifications, read at each scrape."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def describe(self) -> Iterable[Metric]:
        return ()  # the registry calls it at registration, which must not read the database

    def collect(self) -> Iterator[Metric]:
        def read(conn: sa.Connection) -> tuple[Sequence[Any], Sequence[Any], list[WorkerView], Any]:
            return (
                conn.execute(_QUEUED).all(),
                conn.execute(_ACTIVE).all(),
                worker_store.workers(conn, alive_only=True),
                conn.execute(_NUMBERS).one(),
            )

        queued, active, workers, numbers = self._db.query(read, retry_for=0)
        now = numbers.now
        depth = GaugeMetricFamily("jobfac_queue_runs", "Runs that wait for a worker", labels=["pool"])
        age = GaugeMetricFamily("jobfac_queue_age_seconds", "How long the oldest of them has waited", labels=["pool"])
        for row in queued:
            depth.add_metric([row.pool], row.number)
            age.add_metric([row.pool], max(0.0, (now - row.oldest).total_seconds()))
        states = GaugeMetricFamily("jobfac_runs", "Runs that are not final", labels=["state"])
        by_state = {row.state: row.number for row in active}
        for state in sorted(ACTIVE):
            states.add_metric([state], by_state.get(state, 0))
        fleet = GaugeMetricFamily("jobfac_workers", "Workers that are alive", labels=["state"])
        live = [worker for worker in workers if worker.lease_until > now]  # the others died, and nobody has noticed
        for alive in (WorkerState.ACTIVE, WorkerState.DRAINING):
            fleet.add_metric([alive], sum(worker.state == alive for worker in live))
        yield from (depth, age, states, fleet)
        yield GaugeMetricFamily("jobfac_slots", "Slots of the live workers", sum(w.slots for w in live))
        yield GaugeMetricFamily("jobfac_slots_busy", "Slots in use", sum(w.busy for w in live))
        yield GaugeMetricFamily("jobfac_schedulers", "Schedulers that are alive", numbers.schedulers)
        silent = max(((now - worker.seen_at).total_seconds() for worker in workers), default=0.0)
        yield GaugeMetricFamily("jobfac_lease_age_seconds", "Time since the oldest last heartbeat", max(0.0, silent))
        yield GaugeMetricFamily("jobfac_notifications_waiting", "Notifications to be delivered", numbers.notifications)
        yield GaugeMetricFamily("jobfac_holds", "Active holds: nothing new starts there", numbers.holds)
        yield GaugeMetricFamily("jobfac_jobs_overdue", "Jobs that miss a success they `expect`", numbers.overdue)


_POOL = sa.func.coalesce(queue.c.pool, sa.literal_column(f"'{PINNED}'"))
_QUEUED = (
    sa.select(_POOL.label("pool"), sa.func.count().label("number"), sa.func.min(run.c.queued_at).label("oldest"))
    .select_from(run.outerjoin(queue, queue.c.name == run.c.queue))
    .with_hint(run, PASS, "mssql")
    .where(sa.text(f"run.state = '{RunState.QUEUED}'"))
    .group_by(_POOL)
)
_ACTIVE = (
    sa.select(run.c.state, sa.func.count().label("number"))
    .with_hint(run, PASS, "mssql")
    .where(sa.text(f"run.state IN ({sql_literals(ACTIVE)})"))
    .group_by(run.c.state)
)


def _number(table: sa.Table, *conditions: sa.ColumnElement[bool] | sa.TextClause) -> sa.ScalarSelect[int]:
    query = sa.select(sa.func.count()).select_from(table).with_hint(table, PASS, "mssql")
    return query.where(*conditions).scalar_subquery()


_NUMBERS = sa.select(
    utcnow().label("now"),
    _number(scheduler, schedulers.is_alive()).label("schedulers"),
    _number(notification, sa.text(f"notification.state = '{Delivery.WAITING}'")).label("notifications"),
    _number(start_hold, is_active()).label("holds"),
    _number(expectation, sa.text("overdue_at IS NOT NULL")).label("overdue"),
)
