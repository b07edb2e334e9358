"""The scheduler: starts what is due, and does what must be done although no worker asks for it.

Any number of schedulers run side by side; each takes what the others are not just taking. One look, a single query,
tells which duties have something to do; an idle scheduler does nothing but look. Every piece of work is one short
transaction, and the duties take turns, so that none waits long for another.
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
from jobfac.database.sequence_tables import WAKES
from jobfac.database.tables import news, notification, run, schedule, visit, worker, worker_lease
from jobfac.database.types import sql_literals
from jobfac.errors import Unreachable
from jobfac.scheduler.notifier import Notifier
from jobfac.settings import Settings
from jobfac.states import ALIVE, HELD, Delivery, RunState, WorkerState
from jobfac.store import jobs, retention, runs, schedules, sequences, statistics
from jobfac.telemetry.logs import logger, tell_expiry
from jobfac.telemetry.metrics import Kind, Metric

log = logger("jobfac.scheduler")

TAKEN, LATER = 0.02, 1.0
"""Seconds until the next turn of a duty that has just had one, and still is wanted: another scheduler was quicker, or
what it wants is locked. They double from turn to turn, up to the second."""

IN_VAIN = 30.0
"""Seconds at most until the next look for dead workers after looks that found none, though the clock here says so."""

SAID = 3600.0
"""Seconds for which the log does not repeat why a schedule's job was not started."""

AFTER_FAILURE = 1.0
"""Seconds until a duty that failed is tried again."""

COUNT_INTERVAL = 60.0
"""Seconds between two rounds of counting what has ended."""

PURGE_INTERVAL = 600.0
"""Seconds between two rounds of removing old runs."""

UNHURRIED = 0.1
"""Seconds between two steps of such a round, which is in no hurry."""

COURIER_PAUSE = 1.0
"""Seconds until a notifier that was woken is woken again, should something still be due then."""


class Look(NamedTuple):
    """What there is to do, at one moment of the database's clock."""

    now: datetime
    fire_at: datetime | None  # when the next schedule is due
    ready_at: datetime | None  # when the next scheduled run may be queued
    lease_until: datetime | None  # when the next lease ends if it is not renewed
    deliver_at: datetime | None  # when the next notification is to be delivered
    orphaned: bool  # runs are held by workers that are gone
    blocked: bool  # runs wait for a concurrency rule
    queued: bool  # sequences wait to be begun
    under_way: bool  # sequences run
    news: bool  # somebody is to be told of something
    ends: bool  # runs have ended after which others start
    wake_at: datetime | None  # when the next step of a sequence has waited long enough

    def is_past(self, moment: datetime | None) -> bool:
        return moment is not None and moment <= self.now

    def seconds_to_next(self) -> float:
        """Seconds until the first of the moments that are still to come."""
        moments = (self.fire_at, self.ready_at, self.lease_until, self.deliver_at, self.wake_at)
        waits = [(moment - self.now).total_seconds() for moment in moments if moment and moment > self.now]
        return min(waits, default=float("inf"))


@dataclass
class Duty:
    """``work`` is one piece of what is to be done when ``is_wanted``; it returns the seconds to its next turn."""

    name: str
    is_wanted: Callable[[Look], bool]
    work: Callable[[], float]
    not_before: float = 0.0
    last: float = 0.0
    took: float = 0.0
    failures: int = 0
    in_vain: int = 0  # turns in a row after which it was still wanted


DUTY_FIGURES: tuple[tuple[Kind, str, str, str], ...] = (
    ("gauge", "last_timestamp_seconds", "last", "When it was last done; 0: not yet"),
    ("gauge", "last_seconds", "took", "How long that took"),
    ("counter", "failures", "failures", "Turns of it that failed"),
)
"""Of each duty: kind, name, field and help."""


class Scheduler:
    """One scheduler. ``run`` returns after ``stop``, which may be called from any thread or signal handler."""

    def __init__(self, db: Database, settings: Settings, name: str) -> None:
        self.name = name
        self._db = db
        self._settings = settings
        self._stops: queue.SimpleQueue[None] = queue.SimpleQueue()  # unlike an event it may be used by a handler
        self._purging: Iterator[int] | None = None
        self._purged = 0
        self._log = log.bind(scheduler=name)
        self._inserted = 0
        self._expired = 0
        self._in_vain = 0  # expiries in a row that expired nothing
        self._refused: dict[tuple[str, str, str], float] = {}  # when the log said so, monotonic
        self._courier = Notifier(db, settings, name)
        self._duties = [
            Duty("insert", lambda look: look.is_past(look.fire_at), self._insert),
            Duty("follow", lambda look: look.ends, self._follow),
            Duty("promote", lambda look: look.is_past(look.ready_at), self._promote),
            Duty("expire", lambda look: look.is_past(look.lease_until) or look.orphaned, self._expire),
            Duty("release", lambda look: look.blocked, self._release),
            Duty("begin", lambda look: look.queued, self._begin),
            Duty("wake", lambda look: look.is_past(look.wake_at), self._wake),
            Duty("sweep", lambda look: look.under_way, self._sweep),
            Duty("deliver", lambda look: look.news or look.is_past(look.deliver_at), self._deliver),
            Duty("count", lambda look: True, self._count, time.monotonic() + random.random() * COUNT_INTERVAL / 10),
            Duty("purge", lambda look: True, self._purge, time.monotonic() + random.random() * PURGE_INTERVAL / 10),
        ]

    def stop(self) -> None:
        """Let ``run`` return soon."""
        self._stops.put(None)

    def run(self) -> None:
        """Work until stopped. A database that is away is waited for.

        Raises:
            Unreachable: at the start, the database could not be reached or has another schema.
        """
        self._db.check_schema()
        self._log.info("scheduler started", action="scheduler_started")
        self._courier.start()
        pause = 0.0
        try:
            while not self._is_stopped(pause):
                pause = self._turn()
        finally:
            self._courier.close()
        self._log.info("scheduler left", action="scheduler_left")

    def _is_stopped(self, seconds: float) -> bool:
        try:
            self._stops.get(timeout=seconds)
        except queue.Empty:
            return False
        return True

    def _turn(self) -> float:
        """Look, give every duty that is wanted one turn, and return the seconds until the next look."""
        try:
            look = self._db.retrying(self._look, 2.0)
        except Unreachable as error:
            self._log.warning("cannot look", action="look_failed", reason=str(error))
            return AFTER_FAILURE
        pause = min(look.seconds_to_next(), self._settings.sweep_interval, self._db.dialect.look_interval)
        for duty in self._duties:
            if not duty.is_wanted(look):
                duty.in_vain = 0
                continue
            left = duty.not_before - time.monotonic()
            if left <= 0:
                left = self._do(duty)
                if left == TAKEN:
                    left = min(TAKEN * 2**duty.in_vain, LATER)
                    duty.in_vain = min(duty.in_vain + 1, 10)
                else:
                    duty.in_vain = 0
                duty.not_before = time.monotonic() + left
            pause = min(pause, left)
        return pause

    def _look(self) -> Look:
        with self._db.singles.connect() as conn:  # one round trip, no transaction
            return Look(*conn.execute(_LOOK).one())

    def _do(self, duty: Duty) -> float:
        """One turn of a duty. Whatever fails in it is tried again, and the others go on."""
        began = time.monotonic()
        try:
            return duty.work()
        except Unreachable as error:
            self._log.warning("duty failed", action="duty_failed", duty=duty.name, reason=str(error))
        except Exception:
            self._log.exception("duty failed", action="duty_failed", duty=duty.name)
        finally:
            duty.last, duty.took = time.time(), time.monotonic() - began
        duty.failures += 1
        return AFTER_FAILURE

    def metrics(self) -> list[Metric]:
        """What is known of this scheduler now; from any thread."""
        return [
            Metric("counter", "jobfac_scheduler_inserted", "Runs that it started when due", self._inserted),
            Metric("counter", "jobfac_scheduler_expired_leases", "Workers that it found dead", self._expired),
            *(
                Metric(
                    kind,
                    f"jobfac_scheduler_duty_{name}",
                    text,
                    {d.name: getattr(d, field) for d in self._duties},
                    "duty",
                )
                for kind, name, field, text in DUTY_FIGURES
            ),
            *self._courier.metrics(),
        ]

    # The duties

    def _insert(self) -> float:
        return self._tell_inserted(self._db.transact(schedules.insert_due, self.name, retry_for=2.0))

    def _follow(self) -> float:
        return self._tell_inserted(self._db.transact(schedules.insert_followers, self.name, retry_for=2.0))

    def _tell_inserted(self, done: schedules.Inserted) -> float:
        for refusal in done.refusals:
            self._tell_refusal(refusal)
        for miss in done.misses:
            self._log.warning("due times were missed", action="missed", **_shown(miss))
        self._inserted += len(done.runs)
        return 0.0 if done.schedules else TAKEN

    def _tell_refusal(self, refusal: schedules.Refusal) -> None:
        """Say why a due run was not started, once an hour: a disabled job's schedules go on being due."""
        cause, now = (refusal.job, refusal.name, refusal.why), time.monotonic()
        if now < self._refused.get(cause, now):
            return
        self._refused = {one: until for one, until in self._refused.items() if until > now} | {cause: now + SAID}
        self._log.info("due but not started", action="start_refused", **_shown(refusal))

    def _promote(self) -> float:
        return 0.0 if self._db.transact(runs.promote_due, self.name, retry_for=2.0) else TAKEN

    def _expire(self) -> float:
        expiry = self._db.transact(
            sequences.expire, self.name, poison_attempts=self._settings.poison_attempts, retry_for=2.0
        )
        self._expired += len(expiry.workers)
        tell_expiry(self._log, expiry, self.name)
        self._in_vain = 0 if expiry.workers or expiry.runs or expiry.finished else self._in_vain + 1
        pause = expiry_pause(self._in_vain)
        if pause >= 1.0 > expiry_pause(self._in_vain - 1):
            self._log.warning(
                "clocks disagree: by the clock of this process a worker's lease has ended, by the clock of the leases "
                "it has not; nobody is expired, and this process looks less often until they agree",
                action="clocks_disagree",
            )
        return pause if self._in_vain else 0.0

    def _release(self) -> float:
        self._db.transact(runs.release_blocked, None, self.name, retry_for=2.0)
        return self._settings.sweep_interval

    def _begin(self) -> float:
        return 0.0 if self._db.transact(sequences.begin, self.name, retry_for=2.0).number else TAKEN

    def _wake(self) -> float:
        ended = self._db.transact(sequences.wake, self.name, retry_for=2.0)
        return 0.0 if ended else TAKEN

    def _sweep(self) -> float:
        self._db.transact(sequences.sweep, self.name, retry_for=2.0)
        return self._settings.sweep_interval

    def _deliver(self) -> float:
        self._courier.wake()
        return COURIER_PAUSE

    def _count(self) -> float:
        return UNHURRIED if self._db.transact(statistics.count, retry_for=2.0) == statistics.BATCH else COUNT_INTERVAL

    def _purge(self) -> float:
        if self._purging is None:
            self._purging, self._purged = retention.steps(self._db, retention.Keep.of(self._settings)), 0
        purging, self._purging = self._purging, None  # a failure ends this round
        gone = next(purging, None)
        if gone is None:
            if self._purged:
                self._log.info("old runs were removed", action="purged", runs=self._purged)
            return PURGE_INTERVAL
        self._purging = purging
        self._purged += gone
        return UNHURRIED


def expiry_pause(in_vain: int) -> float:
    """Seconds until the next expiry, after so many in a row that expired nothing."""
    return float(min(TAKEN * 2 ** min(in_vain, 20), IN_VAIN)) if in_vain > 0 else TAKEN


def _shown(happened: schedules.Refusal | schedules.Miss) -> dict[str, Any]:
    return {name: str(value) for name, value in happened._asdict().items() if value is not None}


def _least(column: sa.Column[datetime], where: str) -> sa.ScalarSelect[datetime]:
    """The least value, found at the beginning of the filtered index."""
    query = sa.select(sa.func.min(column)).where(sa.text(where))
    return query.with_hint(column.table, PASS, "mssql").scalar_subquery()


def _any(where: str, source: sa.FromClause = run) -> sa.ColumnElement[bool]:
    return _exists(sa.select(run.c.id).select_from(source).with_hint(run, PASS, "mssql").where(sa.text(where)))


def _exists(query: sa.Select[Any]) -> sa.ColumnElement[bool]:
    return sa.case((sa.exists(query), sa.true()), else_=sa.false())


# Without bound parameters, which would cost SQL Server a round trip more.
_LOOK = sa.select(
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
    _exists(sa.select(news.c.id).with_hint(news, PASS, "mssql").where(sa.text("news.id > 0"))).label("news"),
    _exists(schedules.WAITING).label("ends"),
    _least(visit.c.wake_at, WAKES).label("wake_at"),
)
