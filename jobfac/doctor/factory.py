"""Checks of the factory's tables: workers, queue, schedules, notifications."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import characters, current_time, utcnow
from jobfac.database.sequence_tables import LOOKED_FOR
from jobfac.database.tables import (
    WATCHED,
    attempt,
    job,
    notification,
    outbox_event,
    run,
    run_event,
    schedule,
    upstream_end,
    visit,
)
from jobfac.database.types import Instant, sql_literals
from jobfac.definitions import DefinitionError
from jobfac.doctor.finding import Finding, State
from jobfac.states import HELD, Delivery, RunState, WorkerState
from jobfac.store import expectations, jobs, sequences
from jobfac.store import schedulers as scheduler_store
from jobfac.store import schedules as schedule_store
from jobfac.store import workers as worker_store
from jobfac.store.holds import reading
from jobfac.store.jobs import SEQUENCE_QUEUE, matching_queues
from jobfac.store.runs import queue_of_worker
from jobfac.store.workers.suspects import ISOLATING
from jobfac.views.durations import spaced_duration
from jobfac.views.workers import WorkerView, why_idle

MAX_NAMES = 3
"""Names listed in one finding; the rest is counted."""

LATE = 600.0
"""Seconds after which a waiting notification is late."""

DAY = 86400.0
"""Seconds for which a program is named that has survived KILL and the lease of its worker."""

EVENTS = 100_000
"""The newest events, among which such programs are looked for: events have no index by time."""

LATE_FOR = 60.0
"""Seconds after which a due time that nothing has come of was put off."""

CHECKS = {"lease expired": "workers", "schedule overdue": "schedules", "keeps failing": "jobs"}
"""The check under which a problem of ``v_health`` is reported; all others belong to ``queue``."""

ELSEWHERE = ("no worker", "notification dead", "overdue")
"""Kinds of trouble that other checks report more exactly."""

SERIOUS = ("lease expired", "not promoted", "schedule overdue")
"""Problems of ``v_health`` that mean that no worker or no scheduler runs."""

_HEALTH = sa.Table(
    "v_health",
    sa.MetaData(),
    sa.Column("problem", sa.Unicode),
    sa.Column("subject", sa.Unicode),
    sa.Column("since", Instant),
    sa.Column("remedy", sa.Unicode),
)


_QUEUE = sa.Table("v_queue", sa.MetaData(), sa.Column("queue", sa.Unicode), sa.Column("hold_id", sa.BigInteger))


class Health(NamedTuple):
    """A row of the view ``v_health``. ``number``: how many rows there are of its kind of problem."""

    problem: str
    subject: str
    since: datetime
    remedy: str
    number: int


def trouble(conn: sa.Connection) -> list[Finding]:
    """Report the view ``v_health``, one finding for each kind of problem. ``queues`` reports `no worker` in detail."""
    kind = _HEALTH.c.problem
    order = (_HEALTH.c.since, characters(_HEALTH.c.subject), _HEALTH.c.subject)  # run 2 comes before run 10
    number = sa.func.count().over(partition_by=kind).label("number")
    place = sa.func.row_number().over(partition_by=kind, order_by=order).label("place")
    every = sa.select(_HEALTH, number, place).where(sa.text(f"problem NOT IN ({sql_literals(ELSEWHERE)})"))
    cases = every.subquery("cases")  # many of one kind hide no other
    query = sa.select(*(cases.c[name] for name in Health._fields)).where(cases.c.place <= MAX_NAMES)
    query = query.order_by(cases.c.problem, cases.c.place)
    return judge_trouble([Health(*row) for row in conn.execute(query)], current_time(conn))


def judge_trouble(rows: Sequence[Health], moment: datetime) -> list[Finding]:
    """Return one finding for each kind of problem. ``rows``: the first of each, sorted by problem, then by time."""
    findings = []
    for problem, group in groupby(rows, lambda row: row.problem):
        cases = list(group)
        lasted = spaced_duration((moment - cases[0].since).total_seconds())
        state = State.PROBLEM if problem in SERIOUS else State.WARNING
        found = f"{problem}, for up to {lasted}: {_names([case.subject for case in cases], cases[0].number)}"
        findings.append(Finding(CHECKS.get(problem, "queue"), state, found, cases[0].remedy))
    return findings


def _names(names: Sequence[str], number: int | None = None) -> str:
    """Return the first ``MAX_NAMES`` names, and how many more there are of ``number``; None: of these names."""
    number = len(names) if number is None else number
    more = f" and {number - MAX_NAMES:,} more" if number > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more


def workers(conn: sa.Connection) -> list[Finding]:
    """Report live workers, and workers whose lease has expired."""
    return judge_workers(worker_store.workers(conn, alive_only=True), current_time(conn))


def judge_workers(rows: Sequence[WorkerView], moment: datetime) -> list[Finding]:
    """Judge the workers that have not ended."""
    live = [row for row in rows if row.lease_until > moment]
    findings = []
    if silent := [row.name for row in rows if row.lease_until <= moment]:
        remedy = "Any worker or scheduler that runs requeues their runs; check those machines."
        found = f"no heartbeat since the lease expired: {_names(silent)}"
        findings.append(Finding("workers", State.WARNING, found, remedy))
    if not live:
        findings.append(Finding("workers", State.WARNING, "no worker is alive", "Start one: `jobfac worker`."))
        return findings
    if doubled := [name for name, number in Counter(row.name for row in live).items() if number > 1]:
        remedy = "Give each worker a --name of its own: those of one name share one run of a job with each_worker."
        found = f"several live workers have one name: {_names(doubled)}"
        findings.append(Finding("workers", State.WARNING, found, remedy))
    if idle := [f"{row.name} ({why_idle(row.message)})" for row in live if row.message]:
        remedy = "Look at those machines and runs, or start another worker."
        findings.append(Finding("workers", State.WARNING, f"these claim nothing: {_names(idle)}", remedy))
    slots, busy = sum(row.slots for row in live), sum(row.busy for row in live)
    findings.append(Finding("workers", State.OK, f"{len(live)} alive, {busy:,} of {slots:,} slots busy"))
    return findings


def schedulers(conn: sa.Connection) -> list[Finding]:
    """Check that a scheduler is alive."""
    if alive := scheduler_store.number_alive(conn):
        return [Finding("schedulers", State.OK, f"{alive} alive")]
    remedy = "Start one: `jobfac scheduler`. Without one nothing is scheduled or notified."
    return [Finding("schedulers", State.WARNING, "no scheduler is alive", remedy)]


def queues(conn: sa.Connection) -> Iterator[Finding]:
    """Check that a live worker serves every queue that has queued runs: its pool, labels and slots match.

    Runs under a hold do not count: they need no worker before its end, and ``holds`` reports it.
    """
    of = _QUEUE if reading.active(conn) else run  # the view takes seconds for a long queue
    query = sa.select(of.c.queue, sa.func.count().label("number")).group_by(of.c.queue)
    query = query.where(sa.text(f"state = '{RunState.QUEUED}'"))
    query = query.where(_QUEUE.c.hold_id.is_(None)) if of is _QUEUE else query
    queued = {row.queue: row.number for row in conn.execute(query)}
    served = {SEQUENCE_QUEUE} if scheduler_store.number_alive(conn) else set()
    idle: dict[str, WorkerView] = {}
    moment, seen = current_time(conn), set()
    for row in worker_store.workers(conn, alive_only=True):
        kind = (tuple(row.pools), tuple(row.labels.items()), row.slots, row.message)
        mine = {queue_of_worker(row.name)}
        if row.state == WorkerState.ACTIVE and row.lease_until > moment and kind not in seen:
            seen.add(kind)
            mine.update(matching_queues(conn, row.pools, row.labels, row.slots))
        if row.message:  # it says why it claims nothing
            idle |= {name: row for name in mine if name not in idle or row.message == ISOLATING}
        else:
            served.update(mine)
        if row.lease_until > moment:
            served.add(SEQUENCE_QUEUE)
    yield from judge_queues(queued, served, idle)


def judge_queues(queued: Mapping[str, int], served: Iterable[str], idle: Mapping[str, WorkerView]) -> Iterator[Finding]:
    """Judge the number of queued runs in each queue, the queues that live workers serve, and those of idle workers.

    ``idle``: by queue, a worker that says why it claims nothing. One that isolates itself resumes without help.
    """
    served_all = f"{sum(queued.values()):,} runs queued, each has a worker that may take it"
    remedy = (
        "Start a worker with that --pool, those --label and as many --slots; or correct those keys of the jobs, then "
        "stop and retry these runs, which keep their version."
    )
    unserved = sorted(set(queued) - set(served))
    for name in unserved:
        if name == SEQUENCE_QUEUE:
            found = f"no live worker or scheduler begins the {queued[name]:,} sequences that are queued"
            yield Finding("queue", State.PROBLEM, found, "Start one: `jobfac worker` or `jobfac scheduler`.")
            continue
        found = f"no live worker takes the {queued[name]:,} runs queued in '{name}'"
        if (row := idle.get(name)) is None:
            yield Finding("queue", State.PROBLEM, found, remedy)
            continue
        found += f" now; worker {row.name} claims nothing: {why_idle(row.message or '')}"
        if row.message == ISOLATING:
            yield Finding(
                "queue", State.WARNING, found, "It goes on within minutes; another worker takes them at once."
            )
        else:
            yield Finding("queue", State.PROBLEM, found, "Look at that machine, or start another worker.")
    if not unserved:
        yield Finding("queue", State.OK, served_all if queued else "no run waits for a worker")


def triggers(conn: sa.Connection) -> Iterator[Finding]:
    """Check that a live worker serves every pool whose workers look for files of schedules or of waiting steps."""
    wanted = {pool for query in _WATCHED_POOLS for pool in conn.execute(query).scalars()}
    if not wanted:
        return
    moment = current_time(conn)
    live = [row for row in worker_store.workers(conn, alive_only=True) if row.lease_until > moment]
    unserved = sorted(wanted - {pool for row in live for pool in row.pools})
    for pool in unserved:
        names = [f"schedule {one.name} of job {one.job}" for one in schedule_store.watched(conn, [pool])]
        names += [f"step {one.step} of run {one.run_id}" for one in sequences.looked_for(conn, [pool])]
        if names:
            found = f"no live worker serves pool '{pool}', so nothing looks for the files of {_names(names)}"
            remedy = f"Start a worker: `jobfac worker --pool {pool}`, or correct `pool` of the schedule or step."
            yield Finding("triggers", State.WARNING, found, remedy)
    if served := wanted - set(unserved):
        yield Finding("triggers", State.OK, f"workers look for files in the pools {_names(sorted(served))}")


_WATCHED_POOLS = (
    sa.select(schedule.c.pool).distinct().where(sa.text(WATCHED)),
    sa.select(visit.c.pool).distinct().where(sa.text(LOOKED_FOR)),
)


def holds(conn: sa.Connection) -> Iterator[Finding]:
    """Report the active holds and the overdue jobs."""
    active, late = reading.active(conn), expectations.overdue(conn)
    for hold in active[:MAX_NAMES]:
        remedy = f"`jobfac release {hold.id}` ends it, if it is no longer needed."
        yield Finding("holds", State.WARNING, f"{hold.sentence} (by {hold.created_by})", remedy)
    yield from _more("holds", len(active), "active holds", "`jobfac holds` lists them.")
    for one in late[:MAX_NAMES]:
        found = f"job '{one.job}' is overdue: it should have succeeded by {local(one.due_at)}"
        yield Finding("overdue", State.WARNING, found, f"`jobfac runs list --job {one.job}` shows its runs.")
    yield from _more("overdue", len(late), "overdue jobs", "The view v_overdue lists them.")


def _more(check: str, number: int, what: str, remedy: str) -> Iterator[Finding]:
    """Report how many there are beside the first ``MAX_NAMES``."""
    if number > MAX_NAMES:
        yield Finding(check, State.WARNING, f"and {number - MAX_NAMES:,} more {what}", remedy)


def programs(conn: sa.Connection) -> Iterator[Finding]:
    """Report the runs whose program KILL does not end, and of late those that lost their worker meanwhile."""
    is_last = sa.and_(run_event.c.run_id == run.c.id, run_event.c.attempt == run.c.attempt)
    query = sa.select(run.c.id, run_event.c.by, run_event.c.detail).join(run_event, is_last)
    query = query.where(sa.text(f"state IN ({sql_literals(HELD)})"), run_event.c.event == "kill_unanswered")
    held = "Look at the process on {}; its run holds a slot until it ends."
    lost = "See on {} whether the process lives before you retry the run: its worker has lost it."
    for which, remedy in ((query.order_by(run.c.id).limit(MAX_NAMES), held), (_lost_programs(), lost)):
        for run_id, worker, detail in conn.execute(which):
            found = f"run {run_id} on {worker}: {detail}"
            yield Finding("programs", State.WARNING, found, remedy.format(worker))


def _lost_programs() -> sa.Select[Any]:
    """Programs that KILL did not end when their worker lost its lease. Nothing tells when they have ended."""
    is_its = sa.and_(attempt.c.run_id == run_event.c.run_id, attempt.c.number == run_event.c.attempt)
    newest = sa.select(sa.func.max(run_event.c.id)).scalar_subquery()
    query = sa.select(run_event.c.run_id, run_event.c.by, run_event.c.detail).join(attempt, is_its)
    query = query.where(run_event.c.event == "kill_unanswered", attempt.c.state == RunState.LOST)
    query = query.where(run_event.c.id > newest - EVENTS, run_event.c.at > utcnow(-DAY * 1000))
    return query.order_by(run_event.c.id.desc()).limit(MAX_NAMES)


def schedules(conn: sa.Connection) -> Iterator[Finding]:
    """Report the number of active schedules of jobs that are enabled, the time of the next one, and unreadable ones."""
    due = sa.text("schedule.fire_at IS NOT NULL AND schedule.paused = 0")
    query = sa.select(sa.func.count(), sa.func.min(schedule.c.fire_at)).join(job, job.c.id == schedule.c.job)
    count, first = conn.execute(query.where(due, job.c.enabled)).one()
    found = f"{count:,} in force, the next at {local(first)}" if count else "none in force"
    yield Finding("schedules", State.OK, found)
    # A scheduler that cannot use a schedule puts it off and leaves its next due time.
    put_off = sa.select(schedule.c.job).join(job, job.c.id == schedule.c.job)
    put_off = put_off.where(due, job.c.enabled, schedule.c.next_due_at < utcnow(-LATE_FOR * 1000)).distinct()
    # It leaves the ends of other jobs, too.
    left = sa.select(schedule.c.job).join(upstream_end, upstream_end.c.schedule_id == schedule.c.id).distinct()
    stored = jobs.load_many(conn, {*conn.execute(put_off).scalars(), *conn.execute(left).scalars()})
    unread = [one for _, one in sorted(stored.items()) if isinstance(one, DefinitionError)]
    remedy = "Update jobfac, tzdata and holidays where it cannot be read, or correct the definition and apply it."
    for error in unread[:MAX_NAMES]:
        yield Finding("schedules", State.WARNING, f"start nothing: {error}", remedy)
    yield from _more("schedules", len(unread), "jobs whose schedules start nothing", remedy)
    under_way = sa.select(run.c.job, run.c.job_version).where(sa.text(f"state = '{RunState.RUNNING}'"))
    for version in conn.execute(under_way.where(run.c.kind == "sequence").distinct()).all():
        if isinstance(definition := jobs.find_version(conn, *version), DefinitionError):
            remedy = (
                "Update jobfac, tzdata and holidays where it cannot be read, or stop the runs and start them again."
            )
            yield Finding("schedules", State.WARNING, f"its sequences under way wait: {definition}", remedy)


def notifications(conn: sa.Connection) -> Iterator[Finding]:
    """Check for dead and late notifications, and for outbox events that no scheduler has read."""
    late = utcnow(-LATE * 1000)
    waiting = sa.text(f"notification.state = '{Delivery.WAITING}'")
    counts = sa.select(
        _count(notification, notification.c.state == Delivery.DEAD),
        _count(notification, waiting),
        _count(notification, sa.and_(waiting, notification.c.created_at < late)),
        _count(outbox_event, outbox_event.c.created_at < late),
        _count(notification, sa.and_(waiting, notification.c.error.is_not(None))),
    )
    yield from judge_notifications(*conn.execute(counts).one())


def judge_notifications(dead: int, waiting: int, late: int, unread: int, refused: int) -> Iterator[Finding]:
    """Judge the numbers of dead, waiting and late notifications, and of late outbox events (``unread``).

    ``refused``: those that wait because a try has failed.
    """
    if dead:
        remedy = "`jobfac notify list --state dead` says why; then `jobfac notify requeue --all-dead`."
        yield Finding("notifications", State.WARNING, f"{dead:,} were given up after many tries", remedy)
    if late:
        remedy = "`jobfac notify list --state waiting` says why; `jobfac notify test` tries a channel."
        yield Finding("notifications", State.WARNING, f"{late:,} wait for more than {LATE / 60:.0f} minutes", remedy)
    elif refused:
        remedy = "`jobfac notify list --state waiting` says why; they are tried again by themselves."
        yield Finding("notifications", State.WARNING, f"{refused:,} could not be delivered yet", remedy)
    if unread:
        found = f"{unread:,} events with subscribers wait for more than {LATE / 60:.0f} minutes"
        remedy = "No scheduler is running, or its log says why it cannot (duty_failed)."
        yield Finding("notifications", State.PROBLEM, found, remedy)
    if not (dead or late or unread or refused):
        yield Finding("notifications", State.OK, f"{waiting:,} waiting" if waiting else "none wait")


def local(moment: datetime) -> str:
    """Return a time in the zone of this machine, with its offset."""
    return moment.astimezone().isoformat(" ", "seconds")


def _count(table: sa.Table, condition: sa.ColumnElement[bool] | sa.TextClause) -> sa.ScalarSelect[int]:
    return sa.select(sa.func.count()).select_from(table).where(condition).scalar_subquery()
