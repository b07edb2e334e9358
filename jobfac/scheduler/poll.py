"""The poll: one query that tells a scheduler which duties have work."""

from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import PASS, utcnow
from jobfac.database.tables import notification, outbox_event, run, schedule, worker, worker_lease
from jobfac.database.types import sql_literals
from jobfac.states import ALIVE, HELD, Delivery, RunState, WorkerState
from jobfac.store import jobs, runs


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
        pinned: runs wait for one worker each.
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
    pinned: bool
    outbox: bool

    def is_past(self, moment: datetime | None) -> bool:
        return moment is not None and moment <= self.now

    def seconds_to_next(self) -> float:
        """Return the seconds until the first of the times that are in the future; infinite: there is none."""
        moments = (self.fire_at, self.ready_at, self.lease_until, self.deliver_at)
        waits = [(moment - self.now).total_seconds() for moment in moments if moment and moment > self.now]
        return min(waits, default=float("inf"))


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
POLL = sa.select(
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
    _any(f"state = '{RunState.QUEUED}' AND queue LIKE '{runs.queue_of_worker('')}%'").label("pinned"),
    _exists(_UNADDRESSED).label("outbox"),
)
