"""How the factory is doing, by what its tables say: workers, queue, schedules, notifications."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from jobfac.database.dialects import utcnow
from jobfac.database.tables import news, notification, run, schedule
from jobfac.database.types import Instant
from jobfac.doctor.finding import Finding, State
from jobfac.states import Delivery, RunState, WorkerState
from jobfac.store import workers as worker_store
from jobfac.store.jobs import SEQUENCE_QUEUE, matching_queues
from jobfac.views.workers import WorkerView

LINES = 500
"""Lines of the view that are read at most."""

SUBJECTS = 3
"""Of what has the same problem, so many are named."""

LATE = 600.0
"""Seconds after which a notification that waits is late."""

WHERE = {"lease expired": "workers", "schedule overdue": "schedules", "keeps failing": "jobs"}
"""What is said under which check; everything else is of the queue. `no worker` is told more exactly by ``takers``."""

ELSEWHERE = ("no worker", "notification dead")
"""Kinds of trouble that other checks report more exactly."""

SERIOUS = ("lease expired", "not promoted", "schedule overdue")
"""Kinds of trouble that mean that a role is missing."""

_HEALTH = sa.Table(
    "v_health",
    sa.MetaData(),
    sa.Column("problem", sa.Unicode),
    sa.Column("subject", sa.Unicode),
    sa.Column("since", Instant),
    sa.Column("remedy", sa.Unicode),
)


def now(conn: sa.Connection) -> datetime:
    """The database's clock."""
    moment: datetime = conn.execute(sa.select(utcnow())).scalar_one()
    return moment


def trouble(conn: sa.Connection) -> list[Finding]:
    """What the view ``v_health`` says, one finding for each kind of trouble."""
    query = sa.select(_HEALTH).where(_HEALTH.c.problem.not_in(ELSEWHERE)).order_by(_HEALTH.c.problem, _HEALTH.c.since)
    return judge_trouble(conn.execute(query.limit(LINES)).mappings().all(), now(conn))


def judge_trouble(lines: Sequence[Mapping[Any, Any]], moment: datetime) -> list[Finding]:
    """One finding for each kind, with the oldest cases first."""
    findings = []
    for kind, group in groupby(lines, lambda line: str(line["problem"])):
        cases = list(group)
        named = ", ".join(case["subject"] for case in cases[:SUBJECTS])
        more = f" and {len(cases) - SUBJECTS} more" if len(cases) > SUBJECTS else ""
        since = f"{(moment - cases[0]['since']).total_seconds() / 60:,.0f} minutes"
        state = State.PROBLEM if kind in SERIOUS else State.WARNING
        found = f"{kind}, for up to {since}: {named}{more}"
        findings.append(Finding(WHERE.get(kind, "queue"), state, found, cases[0]["remedy"]))
    return findings


def workers(conn: sa.Connection) -> list[Finding]:
    """Who is alive, and who has not been heard from."""
    return judge_workers(worker_store.workers(conn, alive_only=True), now(conn))


def judge_workers(rows: Sequence[WorkerView], moment: datetime) -> list[Finding]:
    """What follows from the workers that have not ended."""
    live = [row for row in rows if row.lease_until > moment]
    findings = []
    if silent := [row.name for row in rows if row.lease_until <= moment]:
        named = ", ".join(silent[:SUBJECTS]) + (f" and {len(silent) - SUBJECTS} more" if len(silent) > SUBJECTS else "")
        remedy = "Their runs are given back soon by any worker or scheduler; see whether those machines are well."
        findings.append(Finding("workers", State.WARNING, f"not heard from since their lease ended: {named}", remedy))
    if not live:
        findings.append(Finding("workers", State.WARNING, "no worker is alive", "Start one: `jobfac worker`."))
        return findings
    slots, busy = sum(row.slots for row in live), sum(row.busy for row in live)
    findings.append(Finding("workers", State.OK, f"{len(live)} alive, {busy:,} of {slots:,} slots busy"))
    return findings


def takers(conn: sa.Connection) -> Iterator[Finding]:
    """Whether there is a worker for every run that is queued: of its pool, and with the labels it asks for."""
    query = sa.select(run.c.queue, sa.func.count().label("number")).where(sa.text(f"state = '{RunState.QUEUED}'"))
    queued = {row.queue: row.number for row in conn.execute(query.group_by(run.c.queue))}
    taken = {SEQUENCE_QUEUE}
    moment, seen = now(conn), set()
    for row in worker_store.workers(conn, alive_only=True):
        kind = (tuple(row.pools), tuple(row.labels.items()))
        if row.state == WorkerState.ACTIVE and row.lease_until > moment and kind not in seen:
            seen.add(kind)
            taken.update(matching_queues(conn, row.pools, row.labels))
    yield from judge_takers(queued, taken)


def judge_takers(queued: Mapping[str, int], taken: Iterable[str]) -> Iterator[Finding]:
    """What follows from the number of runs in each queue, and the queues that somebody takes from."""
    waiting = f"{sum(queued.values()):,} runs queued"
    remedy = "Start a worker with that --pool and those --label, or correct the pool and labels of the jobs."
    lonely = sorted(set(queued) - set(taken))
    for name in lonely:
        found = f"no live worker takes the {queued[name]:,} runs queued in '{name}'"
        yield Finding("queue", State.PROBLEM, found, remedy)
    if not lonely:
        yield Finding("queue", State.OK, f"{waiting}, each has a worker that may take it" if queued else "empty")


def schedules(conn: sa.Connection) -> Iterator[Finding]:
    """How many schedules there are, and when the next one fires."""
    due = sa.text("fire_at IS NOT NULL AND paused = 0")
    count, first = conn.execute(sa.select(sa.func.count(), sa.func.min(schedule.c.fire_at)).where(due)).one()
    found = f"{count:,} in force, the next at {first.astimezone():%Y-%m-%d %H:%M:%S}" if count else "none in force"
    yield Finding("schedules", State.OK, found)


def notifications(conn: sa.Connection) -> Iterator[Finding]:
    """Messages that were given up, that wait for long, or that nobody has begun to send."""
    late = utcnow(-LATE * 1000)
    waiting = sa.text(f"notification.state = '{Delivery.WAITING}'")
    counts = sa.select(
        _count(notification, notification.c.state == Delivery.DEAD),
        _count(notification, waiting),
        _count(notification, sa.and_(waiting, notification.c.created_at < late)),
        _count(news, news.c.created_at < late),
    )
    yield from judge_notifications(*conn.execute(counts).one())


def judge_notifications(dead: int, waiting: int, long: int, unread: int) -> Iterator[Finding]:
    """What follows from these numbers; ``unread``: things to tell of that no scheduler has looked at."""
    if dead:
        remedy = "`jobfac notify list --state dead` says why; then `jobfac notify requeue --all-dead`."
        yield Finding("notifications", State.WARNING, f"{dead:,} were given up after many tries", remedy)
    if long:
        remedy = "`jobfac notify list --state waiting` says why; `jobfac notify test` tries a channel."
        yield Finding("notifications", State.WARNING, f"{long:,} wait for more than {LATE / 60:.0f} minutes", remedy)
    if unread:
        found = f"{unread:,} events of which somebody is to be told wait for more than {LATE / 60:.0f} minutes"
        yield Finding("notifications", State.PROBLEM, found, "No scheduler is at work: start one.")
    if not (dead or long or unread):
        yield Finding("notifications", State.OK, f"{waiting:,} on their way" if waiting else "none wait")


def _count(table: sa.Table, condition: sa.ColumnElement[bool] | sa.TextClause) -> sa.ScalarSelect[int]:
    return sa.select(sa.func.count()).select_from(table).where(condition).scalar_subquery()
