"""The poll of a scheduler: one query that shows which duties have work."""

from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import PASS, utcnow
from jobfac.database.dialects.lease_clock import boot_ms, forward_steps
from jobfac.database.sequence_tables import ASKED, WAKES
from jobfac.database.tables import (
    UNCOUNTED,
    expectation,
    notification,
    outbox_event,
    run,
    schedule,
    start_hold,
    visit,
    worker,
    worker_lease,
)
from jobfac.database.types import sql_literals
from jobfac.states import ALIVE, HELD, Delivery, RunState, WorkerState
from jobfac.store import runs, schedules
from jobfac.store.holds.conditions import EVERYTHING
from jobfac.store.workers.leases import IS_SEQUENCE_QUEUED

LATE = timedelta(minutes=2)
"""How long a schedule may be due before something is wrong."""


class Poll(NamedTuple):
    """The work that exists at one time of the database's clock.

    Attributes:
        now: the time of the database.
        fire_at: when the next schedule is due.
        ready_at: when the next scheduled run may be queued.
        lease_until: when the next lease expires unless it is renewed.
        deliver_at: when the next notification is due.
        hold_until: when the next hold ends automatically.
        expected_at: when the next success is expected at the latest.
        orphaned: runs are held by workers that have ended.
        blocked: runs wait for a concurrency limit.
        queued: sequences wait for their start.
        under_way: sequences are running.
        pinned: runs wait for one worker each.
        outbox: outbox events are not yet addressed.
        released: a hold has ended, and what it held is not freed yet.
        overdue: a job is overdue.
        alive_until: when the last of the valid leases expires unless it is renewed.
        ends: runs have ended after which others start.
        wake_at: when the next step of a sequence has waited long enough.
        uncounted: ended runs are not in the daily statistics yet.
        look_at: when the next address for which a step waits is asked.
    """

    now: datetime
    fire_at: datetime | None
    ready_at: datetime | None
    lease_until: datetime | None
    deliver_at: datetime | None
    hold_until: datetime | None
    expected_at: datetime | None
    orphaned: bool
    blocked: bool
    queued: bool
    under_way: bool
    pinned: bool
    outbox: bool
    released: bool
    overdue: bool
    alive_until: datetime | None
    ends: bool
    wake_at: datetime | None
    uncounted: bool
    look_at: datetime | None

    def is_past(self, moment: datetime | None) -> bool:
        return moment is not None and moment <= self.now

    @property
    def is_alive(self) -> bool:
        """Whether a worker is alive."""
        return self.alive_until is not None and self.alive_until > self.now

    @property
    def is_well(self) -> bool:
        """Whether to call the dead man's switch: a worker is alive, and no schedule has been due for ``LATE``."""
        return self.is_alive and (self.fire_at is None or self.now - self.fire_at < LATE)

    def seconds_to_next(self) -> float:
        """Return the seconds until the first of the times that are in the future; infinite: there is none."""
        moments = (
            self.fire_at, self.ready_at, self.lease_until, self.deliver_at, self.hold_until, self.expected_at,
            self.wake_at, self.look_at,
        )  # fmt: skip
        waits = [(moment - self.now).total_seconds() for moment in moments if moment and moment > self.now]
        return min(waits, default=float("inf"))


def _least(column: sa.Column[datetime], where: str | None = None) -> sa.ScalarSelect[datetime]:
    """The least value, read from the start of the index."""
    query = sa.select(sa.func.min(column))
    if where is not None:
        query = query.where(sa.text(where))
    return query.with_hint(column.table, PASS, "mssql").scalar_subquery()


def _any(where: str, source: sa.FromClause = run) -> sa.ColumnElement[bool]:
    return _exists(sa.select(run.c.id).select_from(source).with_hint(run, PASS, "mssql").where(sa.text(where)))


def _both(first: sa.ColumnElement[bool], second: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    return sa.case((sa.and_(first, second), sa.true()), else_=sa.false())


def _exists(query: sa.Select[Any]) -> sa.ColumnElement[bool]:
    return sa.case((sa.exists(query), sa.true()), else_=sa.false())


_UNADDRESSED = sa.select(outbox_event.c.id).with_hint(outbox_event, PASS, "mssql").where(sa.text("news.id > 0"))
# Without bound parameters, because a parameterised statement costs one more round trip on SQL Server.
POLL = sa.select(
    utcnow().label("now"),
    _least(schedule.c.fire_at, "fire_at IS NOT NULL AND paused = 0").label("fire_at"),
    _least(run.c.ready_at, f"state = '{RunState.SCHEDULED}'").label("ready_at"),
    _least(worker_lease.c.lease_until, "ended = 0").label("lease_until"),
    _least(notification.c.due_at, f"state = '{Delivery.WAITING}'").label("deliver_at"),
    _least(start_hold.c.until, "freed = 0").label("hold_until"),
    _least(expectation.c.due_at).label("expected_at"),
    _any(
        f"run.state IN ({sql_literals(HELD)}) AND worker.state IN ({sql_literals(set(WorkerState) - ALIVE)})",
        run.join(worker, worker.c.id == run.c.worker_id),
    ).label("orphaned"),
    _any(f"state = '{RunState.BLOCKED}'").label("blocked"),
    _both(IS_SEQUENCE_QUEUED, ~EVERYTHING).label("queued"),
    _any(f"state IN ({sql_literals(HELD)}) AND worker_id IS NULL").label("under_way"),
    _any(f"state = '{RunState.QUEUED}' AND queue LIKE '{runs.queue_of_worker('')}%'").label("pinned"),
    _exists(_UNADDRESSED).label("outbox"),
    _exists(
        sa.select(start_hold.c.id)
        .with_hint(start_hold, PASS, "mssql")
        .where(sa.text("start_hold.freed = 0"), start_hold.c.released_at.is_not(None))
    ).label("released"),
    _exists(
        sa.select(expectation.c.job).with_hint(expectation, PASS, "mssql").where(sa.text("overdue_at IS NOT NULL"))
    ).label("overdue"),
    sa.select(sa.func.max(worker_lease.c.lease_until))
    .with_hint(worker_lease, PASS, "mssql")
    .where(sa.text("ended = 0"))
    .scalar_subquery()
    .label("alive_until"),
    _exists(schedules.WAITING).label("ends"),
    _least(visit.c.wake_at, WAKES).label("wake_at"),
    _any(UNCOUNTED).label("uncounted"),
    _least(visit.c.look_at, ASKED).label("look_at"),
)


def read_poll(conn: sa.Connection) -> Poll:
    """Poll once. Also watches the clock of the database, so that no lease is ended because that was set forward."""
    sent = boot_ms()
    poll = Poll(*conn.execute(POLL).one())
    forward_steps(conn.engine.url).note(poll.now, sent)
    return poll
