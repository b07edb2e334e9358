"""The scheduler: inserts due runs, expires dead workers, starts sequences, delivers notifications, and purges.

Any number of schedulers run side by side; each skips rows that another one has locked. One query, the poll, returns
which duties have work; an idle scheduler only polls. Every turn of a duty is one short transaction, and the duties take
turns, so that none waits long for another.
"""

import queue
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import PASS, utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import notification, outbox_event, run, schedule, worker, worker_lease
from jobfac.database.types import sql_literals
from jobfac.errors import Unreachable
from jobfac.scheduler.backoff import BACKOFF_FIRST, BACKOFF_LAST, NOTICE_INTERVAL, expiry_pause
from jobfac.scheduler.notifier import Notifier
from jobfac.settings import Settings
from jobfac.states import ALIVE, HELD, Delivery, RunState, WorkerState
from jobfac.store import jobs, retention, runs, schedules, sequences, statistics
from jobfac.telemetry.logs import log_expiry, logger
from jobfac.telemetry.metrics import Kind, Metric

log = logger("jobfac.scheduler")

REFUSAL_LOG_INTERVAL = 3600.0
"""Seconds for which the log does not repeat why the job of a schedule was not started."""

FAILURE_PAUSE = 1.0
"""Seconds until the next turn of a duty that failed."""

COUNT_INTERVAL = 60.0
"""Seconds between two rounds of counting ended runs."""

PURGE_INTERVAL = 600.0
"""Seconds between two rounds of removing old runs."""

STEP_PAUSE = 0.1
"""Seconds between two steps of such a round."""

WAKE_INTERVAL = 1.0
"""Seconds until the notifier is woken again if notifications are still due."""


class Poll(NamedTuple):
    """The work that exists at one time of the database's clock.

    Attributes:
        now: the time of the database.
        fire_at: when the next schedule is due.
        ready_at: when the next scheduled run may be queued.
        lease_until: when the next lease expires unless it is renewed.
        deliver_at: when the next notification is due.
        orphaned: runs are held by workers that have ended.
        blocked: runs wait for a concurrency limit.
        queued: sequences wait for their start.
        under_way: sequences are running.
        outbox: outbox events are not yet addressed.
    """

    now: datetime
    fire_at: datetime | None
    ready_at: datetime | None
    lease_until: datetime | None
    deliver_at: datetime | None
    orphaned: bool
    blocked: bool
    queued: bool
    under_way: bool
    outbox: bool

    def is_past(self, moment: datetime | None) -> bool:
        return moment is not None and moment <= self.now

    def seconds_to_next(self) -> float:
        """Return the seconds until the first of the times that are in the future; infinite: there is none."""
        moments = (self.fire_at, self.ready_at, self.lease_until, self.deliver_at)
        waits = [(moment - self.now).total_seconds() for moment in moments if moment and moment > self.now]
        return min(waits, default=float("inf"))


@dataclass
class Duty:
    """A duty of the scheduler.

    Attributes:
        has_work: whether a poll shows work for it.
        work: one turn. Returns the seconds until the next turn may begin.
        not_before: when the next turn may begin, in monotonic seconds.
        last: when the last turn began, in seconds since 1970.
        took: the seconds of the last turn.
        failures: the number of turns that failed.
        idle_turns: the number of turns in a row that had work and did none.
    """

    name: str
    has_work: Callable[[Poll], bool]
    work: Callable[[], float]
    not_before: float = 0.0
    last: float = 0.0
    took: float = 0.0
    failures: int = 0
    idle_turns: int = 0


DUTY_METRICS: tuple[tuple[Kind, str, str, str], ...] = (
    ("gauge", "last_timestamp_seconds", "last", "When its last turn began; 0: not yet"),
    ("gauge", "last_seconds", "took", "How long its last turn took"),
    ("counter", "failures", "failures", "Turns that failed"),
)
"""The kind, name, field and help of the metrics of each duty."""


class Scheduler:
    """One scheduler. ``run`` returns after ``stop``, which may be called from any thread or signal handler."""

    def __init__(self, db: Database, settings: Settings, name: str) -> None:
        self.name = name
        self._db = db
        self._settings = settings
        self._stops: queue.SimpleQueue[None] = queue.SimpleQueue()  # unlike an Event, safe in a signal handler
        self._purging: Iterator[int] | None = None
        self._purged = 0
        self._log = log.bind(scheduler=name)
        self._inserted = 0
        self._expired = 0
        self._empty_expiries = 0  # expiries in a row that expired nothing
        self._refused: dict[tuple[str, str, str], float] = {}  # until when not to log it again, in monotonic seconds
        self._notifier = Notifier(db, settings, name)
        self._duties = [
            Duty("insert", lambda poll: poll.is_past(poll.fire_at), self._insert),
            Duty("promote", lambda poll: poll.is_past(poll.ready_at), self._promote),
            Duty("expire", lambda poll: poll.is_past(poll.lease_until) or poll.orphaned, self._expire),
            Duty("release", lambda poll: poll.blocked, self._release),
            Duty("begin", lambda poll: poll.queued, self._begin),
            Duty("sweep", lambda poll: poll.under_way, self._sweep),
            Duty("deliver", lambda poll: poll.outbox or poll.is_past(poll.deliver_at), self._deliver),
            Duty("count", lambda poll: True, self._count, time.monotonic() + random.random() * COUNT_INTERVAL / 10),
            Duty("purge", lambda poll: True, self._purge, time.monotonic() + random.random() * PURGE_INTERVAL / 10),
        ]

    def stop(self) -> None:
        """Make ``run`` return soon."""
        self._stops.put(None)

    def run(self) -> None:
        """Work until stopped. Waits while the database is unreachable.

        Raises:
            Unreachable: at the start, the database was unreachable or has another schema.
        """
        self._db.check_schema()
        self._log.info("scheduler started", action="scheduler_started")
        self._notifier.start()
        pause = 0.0
        try:
            while not self._is_stopped(pause):
                pause = self._turn()
        finally:
            self._notifier.close()
        self._log.info("scheduler stopped", action="scheduler_stopped")

    def _is_stopped(self, seconds: float) -> bool:
        try:
            self._stops.get(timeout=seconds)
        except queue.Empty:
            return False
        return True

    def _turn(self) -> float:
        """Poll, give every duty that has work one turn, and return the seconds until the next poll."""
        try:
            poll = self._db.retrying(self._poll, 2.0)
        except Unreachable as error:
            self._log.warning("poll failed, retrying", action="poll_failed", reason=str(error))
            return FAILURE_PAUSE
        pause = min(poll.seconds_to_next(), self._settings.sweep_interval, self._db.dialect.poll_interval)
        for duty in self._duties:
            if not duty.has_work(poll):
                duty.idle_turns = 0
                continue
            left = duty.not_before - time.monotonic()
            if left <= 0:
                left = self._do(duty)
                if left == BACKOFF_FIRST:
                    left = min(BACKOFF_FIRST * 2**duty.idle_turns, BACKOFF_LAST)
                    duty.idle_turns = min(duty.idle_turns + 1, 10)
                else:
                    duty.idle_turns = 0
                duty.not_before = time.monotonic() + left
            pause = min(pause, left)
        return pause

    def _poll(self) -> Poll:
        with self._db.singles.connect() as conn:  # one round trip, no transaction
            return Poll(*conn.execute(_POLL).one())

    def _do(self, duty: Duty) -> float:
        """Do one turn of a duty. A failure is logged, and the duty is tried again after ``FAILURE_PAUSE``."""
        began = time.monotonic()
        try:
            return duty.work()
        except Unreachable as error:
            self._log.warning("duty failed, retrying", action="duty_failed", duty=duty.name, reason=str(error))
        except Exception:
            self._log.exception("duty failed, retrying", action="duty_failed", duty=duty.name)
        finally:
            duty.last, duty.took = time.time(), time.monotonic() - began
        duty.failures += 1
        return FAILURE_PAUSE

    def metrics(self) -> list[Metric]:
        """Return the metrics of this scheduler. May be called from any thread."""
        return [
            Metric("counter", "jobfac_scheduler_inserted", "Due runs that it inserted", self._inserted),
            Metric("counter", "jobfac_scheduler_expired_leases", "Workers that it expired", self._expired),
            *(
                Metric(
                    kind,
                    f"jobfac_scheduler_duty_{name}",
                    text,
                    {d.name: getattr(d, field) for d in self._duties},
                    "duty",
                )
                for kind, name, field, text in DUTY_METRICS
            ),
            *self._notifier.metrics(),
        ]

    def _insert(self) -> float:
        inserted = self._db.transact(schedules.insert_due, self.name, retry_for=2.0)
        for refusal in inserted.refusals:
            self._log_refusal(refusal)
        for miss in inserted.misses:
            self._log.warning("due times missed", action="missed", **_log_fields(miss))
        self._inserted += len(inserted.runs)
        return 0.0 if inserted.schedules else BACKOFF_FIRST

    def _log_refusal(self, refusal: schedules.Refusal) -> None:
        """Log why a due run was not started, once an hour, because the schedules of a disabled job remain due."""
        cause, now = (refusal.job, refusal.name, refusal.why), time.monotonic()
        if now < self._refused.get(cause, now):
            return
        current = {known: until for known, until in self._refused.items() if until > now}
        self._refused = current | {cause: now + REFUSAL_LOG_INTERVAL}
        self._log.info("due run not started", action="start_refused", **_log_fields(refusal))

    def _promote(self) -> float:
        return 0.0 if self._db.transact(runs.promote_due, self.name, retry_for=2.0) else BACKOFF_FIRST

    def _expire(self) -> float:
        poison = self._settings.poison_attempts
        expiry = self._db.transact(sequences.expire, self.name, poison_attempts=poison, retry_for=2.0)
        self._expired += len(expiry.workers)
        log_expiry(self._log, expiry, self.name)
        if expiry.noticed:  # it ends by itself, by a heartbeat or by an expiry
            return NOTICE_INTERVAL
        self._empty_expiries = 0 if expiry.workers or expiry.runs or expiry.finished else self._empty_expiries + 1
        pause = expiry_pause(self._empty_expiries)
        if pause >= 1.0 > expiry_pause(self._empty_expiries - 1):
            self._log.warning(
                "clocks disagree: a worker's lease has expired by the clock of this process, but not by the clock of "
                "the leases; no worker is expired, and this process checks less often until the clocks agree",
                action="clocks_disagree",
            )
        return pause if self._empty_expiries else 0.0

    def _release(self) -> float:
        self._db.transact(runs.release_blocked, None, self.name, retry_for=2.0)
        return self._settings.sweep_interval

    def _begin(self) -> float:
        return 0.0 if self._db.transact(sequences.begin, self.name, retry_for=2.0).number else BACKOFF_FIRST

    def _sweep(self) -> float:
        self._db.transact(sequences.sweep, self.name, retry_for=2.0)
        return self._settings.sweep_interval

    def _deliver(self) -> float:
        self._notifier.wake()
        return WAKE_INTERVAL

    def _count(self) -> float:
        return STEP_PAUSE if self._db.transact(statistics.count, retry_for=2.0) == statistics.BATCH else COUNT_INTERVAL

    def _purge(self) -> float:
        if self._purging is None:
            self._purging, self._purged = retention.steps(self._db, retention.Keep.of(self._settings)), 0
        purging, self._purging = self._purging, None  # a failure ends this round
        removed = next(purging, None)
        if removed is None:
            if self._purged:
                self._log.info("old runs purged", action="purged", runs=self._purged)
            return PURGE_INTERVAL
        self._purging = purging
        self._purged += removed
        return STEP_PAUSE


def _log_fields(event: schedules.Refusal | schedules.Miss) -> dict[str, Any]:
    return {name: str(value) for name, value in event._asdict().items() if value is not None}


def _least(column: sa.Column[datetime], where: str) -> sa.ScalarSelect[datetime]:
    """The least value, read from the start of the filtered index."""
    query = sa.select(sa.func.min(column)).where(sa.text(where))
    return query.with_hint(column.table, PASS, "mssql").scalar_subquery()


def _any(where: str, source: sa.FromClause = run) -> sa.ColumnElement[bool]:
    return _exists(sa.select(run.c.id).select_from(source).with_hint(run, PASS, "mssql").where(sa.text(where)))


def _exists(query: sa.Select[Any]) -> sa.ColumnElement[bool]:
    return sa.case((sa.exists(query), sa.true()), else_=sa.false())


_UNADDRESSED = sa.select(outbox_event.c.id).with_hint(outbox_event, PASS, "mssql").where(sa.text("news.id > 0"))
# Without bound parameters, because a parameterised statement costs one more round trip on SQL Server.
_POLL = sa.select(
    utcnow().label("now"),
    _least(schedule.c.fire_at, "fire_at IS NOT NULL AND paused = 0").label("fire_at"),
    _least(run.c.ready_at, f"state = '{RunState.SCHEDULED}'").label("ready_at"),
    _least(worker_lease.c.lease_until, "ended = 0").label("lease_until"),
    _least(notification.c.due_at, f"state = '{Delivery.WAITING}'").label("deliver_at"),
    _any(
        f"run.state IN ({sql_literals(HELD)}) AND worker.state IN ({sql_literals(set(WorkerState) - ALIVE)})",
        run.join(worker, worker.c.id == run.c.worker_id),
    ).label("orphaned"),
    _any(f"state = '{RunState.BLOCKED}'").label("blocked"),
    _any(f"state = '{RunState.QUEUED}' AND queue = '{jobs.SEQUENCE_QUEUE}'").label("queued"),
    _any(f"state IN ({sql_literals(HELD)}) AND worker_id IS NULL").label("under_way"),
    _exists(_UNADDRESSED).label("outbox"),
)
