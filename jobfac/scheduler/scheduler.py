"""The scheduler: inserts due runs, expires dead workers, starts sequences, delivers notifications, and purges.

Any number of schedulers run side by side; each skips rows that another one has locked. One query, the poll, returns
which duties have work; an idle scheduler only polls. Every turn of a duty is one short transaction, and the duties take
turns, so that none waits long for another.
"""

import queue
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import sqlalchemy as sa

from jobfac.database.dialects.lease_clock import boot_ms
from jobfac.database.engine import Database
from jobfac.errors import JobfacError, Unreachable
from jobfac.scheduler import planner, purging
from jobfac.scheduler.asker import Asker
from jobfac.scheduler.backoff import BACKOFF_FIRST, BACKOFF_LAST, PENDING_INTERVAL, expiry_pause, first_turn
from jobfac.scheduler.clock import ClockWatch
from jobfac.scheduler.delays import Delays
from jobfac.scheduler.duty import DUTY_METRICS, Duty
from jobfac.scheduler.heartbeat import Heartbeat
from jobfac.scheduler.notifier import Notifier
from jobfac.scheduler.poll import Poll, read_poll
from jobfac.scheduler.purging import Purging
from jobfac.scheduler.set_back import follow_clock
from jobfac.settings import Settings
from jobfac.store import retention, runs, schedulers, schedules, sequences, statistics, watching
from jobfac.store.holds import moving
from jobfac.telemetry.logs import log_expiry, logger
from jobfac.telemetry.metrics import Kind, Metric

log = logger("jobfac.scheduler")

REFUSAL_LOG_INTERVAL = 3600.0
"""Seconds for which the log does not repeat why the job of a schedule was not started."""

FAILURE_PAUSE = 1.0
"""Seconds until the next turn of a duty that failed."""

LAST_FAILURE_PAUSE = 60.0
"""Seconds until the next turn of a duty that nobody waits for, if it waited long for a lock before it failed."""

COUNT_INTERVAL = 60.0
"""Seconds between two rounds of counting ended runs."""

LONG = 0.02
"""Seconds after which a duty that has more to write lets waiting writers proceed."""

WAKE_INTERVAL = 1.0
"""Seconds until the notifier is woken again if notifications are still due."""


class Scheduler:
    """One scheduler. ``run`` returns after ``stop``, which may be called from any thread or signal handler."""

    def __init__(self, db: Database, settings: Settings, name: str) -> None:
        self.name = name
        self._db = db
        self._settings = settings
        self._stops: queue.SimpleQueue[None] = queue.SimpleQueue()  # unlike an Event, safe in a signal handler
        self._inserted = self._expired = 0
        self._log = log.bind(scheduler=name)
        self._purging = Purging(db, settings, self._log)
        self._uncounted = True
        self._watched = ""  # the job after which watching continues
        self._empty_expiries = 0  # expiries in a row that expired nothing
        self._refused: dict[tuple[str, str, str], float] = {}  # until when not to log it again, in monotonic seconds
        self._clock = ClockWatch()
        self._due_delays, self._follower_delays, self._sequence_delays = (Delays(self._log) for _ in range(3))
        self._rewind_after: int | None = 0  # the last schedule that was examined; None: all were
        self._was_set_back = False
        self._notifier = Notifier(db, settings, name)
        self._asker = Asker(db, settings, name)
        self._heartbeat = Heartbeat(settings, name)
        self._duties = [
            Duty("rewind", lambda poll: self._rewind_after is not None, self._rewind),
            Duty("insert", lambda poll: poll.is_past(poll.fire_at), self._insert),
            Duty("follow", lambda poll: poll.ends, self._follow),
            Duty("promote", lambda poll: poll.is_past(poll.ready_at), self._promote),
            Duty("expire", lambda poll: poll.is_past(poll.lease_until) or poll.orphaned, self._expire),
            Duty("heartbeat", lambda poll: poll.is_well and self._heartbeat.is_wanted, self._heartbeat.beat),
            Duty("unhold", lambda poll: poll.released or poll.is_past(poll.hold_until), self._unhold),
            Duty("watch", lambda poll: poll.overdue or poll.is_past(poll.expected_at), self._watch),
            Duty("release", lambda poll: poll.blocked, self._release),
            Duty("begin", lambda poll: poll.queued, self._begin),
            Duty("wake", lambda poll: poll.is_past(poll.wake_at), self._wake),
            Duty("ask", lambda poll: poll.is_past(poll.look_at), self._ask),
            Duty("sweep", lambda poll: poll.under_way or poll.pinned, self._sweep),
            Duty("deliver", self._notifier.has_work, self._deliver),
            Duty("report", lambda poll: True, self._report, prompt=False),
            Duty("count", lambda poll: True, self._count, first_turn(COUNT_INTERVAL), False, False),
            Duty("purge", lambda poll: True, self._purging.step, first_turn(purging.INTERVAL), False, False),
        ]

    def stop(self) -> None:
        """Make ``run`` return soon."""
        self._stops.put(None)

    def run(self) -> None:
        """Work until stopped. Waits while the database is unreachable.

        Raises:
            Unreachable: at the start, the database was unreachable or has another schema; or its file was replaced
                or is damaged.
        """
        self._db.check_schema()
        self._was_set_back = self._db.query(schedules.is_behind)
        if self._db.query(retention.is_silent):
            self._purging.doubt("no run was started for more than a day")
        self._log.info("scheduler started", action="scheduler_started")
        self._notifier.start()
        pause = 0.0
        try:
            while not self._is_stopped(pause):
                self._db.dialect.check_file()
                self._db.damage.check()
                pause = self._turn()
        finally:
            self._notifier.close()
            with suppress(JobfacError):  # its row says that it is silent, and is removed later
                self._db.transact(schedulers.deregister, self.name, retry_for=0)
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
        except (Unreachable, sa.exc.DBAPIError) as error:
            self._log.outage("poll failed, retrying", action="poll_failed", reason=str(error))
            return FAILURE_PAUSE
        except Exception:  # as in a duty: it may pass, and in `up` a worker would end with this role
            self._log.exception("poll failed, retrying", action="poll_failed")
            return FAILURE_PAUSE
        self._uncounted = poll.uncounted
        step = self._clock.step(poll.now, boot_ms() / 1000)
        if step < 0:
            text = "the clock of the database was set back; schedules are due by the clock as it is now"
            self._log.warning(text, action="clock_set_back", seconds=round(-step))
            self._rewind_after, self._was_set_back = 0, True
        elif step > 0:
            self._purging.doubt(f"it was set forward by {step:.0f} s")
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
                if duty.took > LONG:
                    left = max(left, self._db.dialect.pause_between_writes)
                duty.not_before = time.monotonic() + left
            elif not duty.prompt:
                continue
            pause = min(pause, left)
        return pause

    def _poll(self) -> Poll:
        with self._db.singles.connect() as conn:  # one round trip, no transaction
            return read_poll(conn)

    def _do(self, duty: Duty) -> float:
        """Do one turn of a duty. A failure is logged, and the duty is tried again after ``FAILURE_PAUSE``."""
        began = time.monotonic()
        try:
            return duty.work()
        except Unreachable as error:
            self._log.outage("duty failed, retrying", action="duty_failed", duty=duty.name, reason=str(error))
        except Exception:
            self._log.exception("duty failed, retrying", action="duty_failed", duty=duty.name)
        finally:
            duty.last, duty.took = time.time(), time.monotonic() - began
        duty.failures += 1
        return FAILURE_PAUSE if duty.is_urgent else max(FAILURE_PAUSE, min(9 * duty.took, LAST_FAILURE_PAUSE))

    def metrics(self) -> list[Metric]:
        """Return the metrics of this scheduler. May be called from any thread."""
        return [
            Metric("counter", "jobfac_scheduler_inserted", "Due runs that it inserted", self._inserted),
            Metric("counter", "jobfac_scheduler_expired_leases", "Workers that it expired", self._expired),
            *(self._duty_metric(*row) for row in DUTY_METRICS),
            *self._notifier.metrics(),
        ]

    def _duty_metric(self, kind: Kind, name: str, field: str, text: str) -> Metric:
        values = {duty.name: getattr(duty, field) for duty in self._duties}
        return Metric(kind, f"jobfac_scheduler_duty_{name}", text, values, "duty")

    def _rewind(self) -> float:
        if not self._rewind_after and follow_clock(self._db):
            return 0.0
        after, back = self._rewind_after or 0, self._was_set_back
        self._rewind_after, number = self._db.transact(schedules.rewind, after, back, retry_for=2.0)
        if number:
            self._log.info("schedules are due earlier than before", action="schedules_rewound", schedules=number)
        return 0.0

    def _insert(self) -> float:
        return self._start_by(schedules.insert_due, self._due_delays)

    def _follow(self) -> float:
        return self._start_by(schedules.insert_followers, self._follower_delays)

    def _start_by(self, insert: Callable[[sa.Connection, str], schedules.Inserted], delays: Delays) -> float:
        inserted = self._db.transact(insert, self.name, retry_for=2.0)
        delays.note(inserted.locked)
        self._log_refusals(inserted.refusals)
        for miss in inserted.misses:
            self._log.warning("due times missed", action="missed", **_log_fields(miss))
        self._inserted += len(inserted.runs)
        return 0.0 if inserted.schedules else BACKOFF_FIRST

    def _log_refusals(self, refusals: Sequence[schedules.Refusal]) -> None:
        """Log why due runs were not started, once an hour, because the schedules of a disabled job remain due."""
        now = time.monotonic()
        self._refused = {known: until for known, until in self._refused.items() if until > now}
        for one in (one for one in refusals if (one.job, one.name, one.why) not in self._refused):
            self._refused[one.job, one.name, one.why] = now + REFUSAL_LOG_INTERVAL
            log = self._log.info if one.due_at else self._log.warning
            said = "due run not started" if one.due_at else "a schedule or an expectation is not usable"
            log(said, action="start_refused", **_log_fields(one))

    def _promote(self) -> float:
        return 0.0 if self._db.transact(runs.promote_due, self.name, retry_for=2.0) else BACKOFF_FIRST

    def _expire(self) -> float:
        poison = self._settings.poison_attempts
        expiry = self._db.transact(sequences.expire, self.name, poison_attempts=poison, retry_for=2.0)
        self._expired += len(expiry.workers)
        log_expiry(self._log, expiry, self.name)
        self._go_on()
        if expiry.pending:  # until a heartbeat, an expiry, or the end of a transaction
            return WAKE_INTERVAL if expiry.pending == expiry.locked else PENDING_INTERVAL
        self._empty_expiries = 0 if expiry.workers or expiry.runs or expiry.finished else self._empty_expiries + 1
        pause = expiry_pause(self._empty_expiries)
        if pause >= 1.0 > expiry_pause(self._empty_expiries - 1):
            self._log.warning(
                "clocks disagree: a worker's lease has expired by the clock of this process, but not by the clock of "
                "the leases; no worker is expired, and this process checks less often until the clocks agree",
                action="clocks_disagree",
            )
        return pause if self._empty_expiries else 0.0

    def _watch(self) -> float:
        changed, self._watched, unread = self._db.transact(watching.watch, self._watched, retry_for=2.0)
        self._log_refusals(unread)
        return 0.0 if changed or self._watched else self._settings.sweep_interval

    def _unhold(self) -> float:
        return 0.0 if self._db.transact(moving.free_ended, self.name, retry_for=2.0) else BACKOFF_FIRST

    def _release(self) -> float:
        self._db.transact(runs.release_blocked, None, self.name, retry_for=2.0)
        return self._settings.sweep_interval

    def _begin(self) -> float:
        begun = self._db.transact(sequences.begin, self.name, retry_for=2.0)
        self._sequence_delays.note(begun.locked)
        self._go_on()
        return 0.0 if begun.number else BACKOFF_FIRST

    def _wake(self) -> float:
        ended = self._db.transact(sequences.wake, self.name, retry_for=2.0)
        self._go_on()
        return 0.0 if ended else BACKOFF_FIRST

    def _go_on(self) -> None:
        """Continue the sequences that one transaction could not advance to their end."""
        for unfinished in self._db.sequences.unfinished():
            self._db.transact(sequences.go_on, unfinished, self.name, retry_for=2.0)

    def _ask(self) -> float:
        if not (free := self._asker.free):
            return WAKE_INTERVAL
        due = self._db.transact(sequences.take_due, free, retry_for=2.0)
        self._asker.ask(due)
        return 0.0 if due else BACKOFF_FIRST

    def _sweep(self) -> float:
        self._db.transact(runs.end_unserved, self.name, retry_for=2.0)
        self._db.transact(sequences.sweep, self.name, retry_for=2.0)
        self._go_on()
        return self._settings.sweep_interval

    def _deliver(self) -> float:
        self._notifier.wake()
        return WAKE_INTERVAL

    def _report(self) -> float:
        if not self._db.single(schedulers.report, self.name):
            self._db.transact(schedulers.register, self.name, retry_for=2.0)
        planner.drop(self._db)
        return schedulers.INTERVAL

    def _count(self) -> float:
        is_full = self._uncounted and self._db.transact(statistics.count, retry_for=2.0) == statistics.BATCH
        return purging.STEP_PAUSE if is_full else COUNT_INTERVAL


def _log_fields(event: schedules.Refusal | schedules.Miss) -> dict[str, Any]:
    return {name: str(value) for name, value in event._asdict().items() if value is not None}
