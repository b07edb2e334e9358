"""Insert the runs of due schedules, exactly one for each due time."""

import functools
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database import locks
from jobfac.database.dialects import DIRTY, PASS, SKIP, lists, rows, utcnow
from jobfac.database.tables import run, schedule
from jobfac.database.types import BigId
from jobfac.definitions import DefinitionError, Schedule
from jobfac.recurrence import due_times
from jobfac.recurrence.due import ON_TIME
from jobfac.store import audit, jobs, outbox, runs
from jobfac.store.holds import reading
from jobfac.store.outbox import OutboxEvent
from jobfac.store.runs import StartRequest
from jobfac.store.schedules.decision import (
    AHEAD,
    RETRY_AFTER,
    RUNS,
    TICK,
    UNUSABLE,
    Decision,
    ScheduleRow,
    decide,
    postpone,
    read,
    request,
)
from jobfac.views.holds import HoldView

BATCH = 200
"""The maximum number of schedules in one transaction. A small number keeps other schedulers from waiting long."""


LEFT_TO_OTHERS = timedelta(seconds=30)
"""How long a due schedule that cannot be used here stays due. Another scheduler may be newer, or have newer data on
time zones and holidays, and to that one a time of a minute ago would be missed."""


class Refusal(NamedTuple):
    """A due time whose start was refused. ``due_at`` None: the schedule itself could not be used."""

    job: str
    name: str
    due_at: datetime | None
    why: str


class Miss(NamedTuple):
    """Due times from ``since`` to before ``until`` passed without a run, as the schedule's ``missed`` defines."""

    job: str
    name: str
    since: datetime
    until: datetime


class Inserted(NamedTuple):
    """The result of ``insert_due``: the number of due schedules, the ids of the new runs, the refusals and misses.

    ``locked``: due jobs that started nothing, because another transaction holds a named lock of their rule.
    """

    schedules: int
    runs: list[int]
    refusals: list[Refusal]
    misses: list[Miss]
    locked: Collection[str] = ()


FREE_ROWS = sa.select(
    *(utcnow().label("now") if name == "now" else schedule.c[name] for name in ScheduleRow._fields)
).with_hint(schedule, SKIP, "mssql")
"""The schedules whose rows nobody has locked, as ``ScheduleRow``. The transaction locks those that it reads."""

_LAST_DUE = sa.select(sa.func.max(run.c.due_at)).with_hint(run, DIRTY, "mssql").where(run.c.due_at <= utcnow(AHEAD))

_IS_DUE = (sa.text("fire_at IS NOT NULL AND paused = 0"), schedule.c.fire_at <= utcnow())
_DUE = FREE_ROWS.where(*_IS_DUE).order_by(schedule.c.fire_at)
_DUE_JOBS = sa.select(schedule.c.job).with_hint(schedule, PASS, "mssql").where(*_IS_DUE).order_by(schedule.c.fire_at)

_MOVED = ("next_due_at", "fire_at", "last_due_at", "resumed_at")


@functools.cache
def advancing(engine: str) -> sa.Update:
    """Return the statement that stores what changes of schedules when they are due, by id."""
    c = rows.rows_table(engine, id=BigId, **{name: schedule.c[name].type for name in _MOVED}).c
    change = schedule.update().where(schedule.c.id == c.id).values({name: c[name] for name in _MOVED})
    return rows.by_primary_key(change, schedule)


def insert_due(conn: sa.Connection, by: str, limit: int = BATCH) -> Inserted:
    """Start the due runs of up to ``limit`` schedules, and set the next due time of these. Safe to repeat.

    Hardly waits for a job whose named lock another transaction holds, but leaves it to a later call.
    """
    refusals: list[Refusal] = []
    missed: list[tuple[ScheduleRow, Decision]] = []
    requests: list[StartRequest] = []
    moves: list[dict[str, Any]] = []
    # Named locks come before row locks, so read the due schedules without locks first.
    due = locks.first_free(partial(_due_jobs, conn, limit), limit, partial(locked_jobs, conn))
    if not due.found:
        return Inserted(0, [], [], [], due.locked)
    found = _ready(conn, due, limit)
    # Holds come last: they may change while the transaction waits for the locks.
    held = reading.over_jobs(conn, {row.job for row in found}) if found else {}
    stored = jobs.load_many(conn, {row.job for row in found}, True) if found else {}
    for row in found:
        if len(requests) >= RUNS:
            break
        try:
            decision, starts = _decided(row, stored.get(row.job), held.get(row.job))
            requests += starts
        except UNUSABLE as error:
            if row.now - row.next_due_at < LEFT_TO_OTHERS:
                continue
            decision = Decision([], row.next_due_at, row.now + RETRY_AFTER)
            refusals.append(Refusal(row.job, row.name, None, f"the schedule cannot be used: {error}"))
        moves.append(_move(row, decision))
        if decision.missed is not None:
            missed.append((row, decision))
    if not moves:
        return Inserted(0, [], [], [], due.locked)
    misses = _misses(conn, missed)
    requests = _without_duplicates(conn, requests)
    started = runs.start_each(conn, requests)
    conn.execute(advancing(conn.dialect.name), rows.rows_parameter(moves))
    for miss in misses:
        span = f"{miss.since.isoformat()} to {miss.until.isoformat()}"
        audit.note(conn, by, "missed", f"{miss.job}/{miss.name}", after=span)
    outbox.record(conn, map(missed_event, misses))
    refusals += [
        Refusal(start.job, start.by.removeprefix("schedule "), start.due_at, str(answer))
        for start, answer in zip(requests, started, strict=True)
        if isinstance(answer, Exception)
    ]
    record_refused(conn, refusals, by)
    new = [answer for answer in started if isinstance(answer, int)]
    return Inserted(len(moves), new, refusals, misses, due.locked)


def _decided(
    row: ScheduleRow, job: jobs.Stored | DefinitionError | None, hold: HoldView | None
) -> tuple[Decision, list[StartRequest]]:
    """Return the decision about a due schedule, and its starts. ``hold``: one that covers its job.

    Raises one of ``UNUSABLE``. A job that cannot be read here would refuse the due times, and lose them.
    """
    if isinstance(job, DefinitionError):
        raise job
    rule = read(row.definition)
    waits = hold is not None and rule.missed.policy != "all"  # with `all` each time queues up
    decision = postpone(row, hold.until) if hold is not None and waits else decide(rule, row)
    return decision, _requests(rule, row, decision.times, is_held=hold is not None)


def _requests(rule: Schedule, row: ScheduleRow, times: Sequence[datetime], *, is_held: bool) -> list[StartRequest]:
    """Return the starts of these due times. Several that were missed, or that a hold keeps, queue with ``all``."""
    catches_up = rule.missed.policy == "all" and (is_held or len(times) > 1)
    return [replace(request(rule, row, due), queues=catches_up) for due in times]


def _ready(conn: sa.Connection, due: locks.Free[str], limit: int) -> list[ScheduleRow]:
    """Lock and return the due schedules of the jobs whose named locks the transaction holds."""
    ready = set(due.found)  # while others insert the first ones, a page has other schedules than the one before
    found = [ScheduleRow(*row) for row in _on_time_first(conn, _without(_DUE, due.locked), limit)]
    rows_by_id = {row.id: row for row in found if row.job in ready}
    return sorted(rows_by_id.values(), key=lambda row: row.next_due_at < row.now - ON_TIME)


def _due_jobs(conn: sa.Connection, limit: int, without: Collection[str]) -> Sequence[str]:
    return [row.job for row in _on_time_first(conn, _without(_DUE_JOBS, without), limit)]


def _on_time_first(conn: sa.Connection, query: sa.Select[Any], limit: int) -> Sequence[Any]:
    """Return up to ``limit`` rows of due schedules, some perhaps twice.

    Those that are on time come first. Behind a long backlog of others they would be missed, and start nothing.
    """
    found = conn.execute(query.limit(limit)).all()
    if len(found) < limit:
        return found
    on_time = schedule.c.fire_at > utcnow(-ON_TIME.total_seconds() * 1000)
    return [*conn.execute(query.where(on_time).limit(limit)), *found][:limit]


def _without(query: sa.Select[Any], jobs_left_out: Collection[str]) -> sa.Select[Any]:
    return query.where(~lists.among(schedule.c.job, jobs_left_out)) if jobs_left_out else query


def locked_jobs(conn: sa.Connection, job_ids: Sequence[str]) -> set[str]:
    """Take the locks that starts of these jobs need and that are free. Returns the jobs that need another one."""
    rules = {rule.job: [rule] for rule in runs.rules_of_jobs(conn, set(job_ids))}
    free = runs.lock_free(conn, rules)
    replacing = {job for job in free if rules[job][0].already_running == "replace"}
    busy = {job.lower() for job in runs.lock_room(conn, replacing)}
    return (rules.keys() - free) | {job for job in replacing if job.lower() in busy}


def missed_event(miss: Miss) -> OutboxEvent:
    """Return the event that times of a schedule were missed."""
    since, until = miss.since.isoformat(), miss.until.isoformat()
    body = {"job": miss.job, "schedule": miss.name, "since": since, "until": until}
    why = f"times of the schedule '{miss.name}' from {since} to before {until} passed without a run"
    return OutboxEvent(miss.job, "missed", body, detail=why)


def record_refused(conn: sa.Connection, refusals: Sequence[Refusal], by: str) -> None:
    """Record that due times started no run, as missed. Not those of disabled jobs: somebody wanted it so."""
    at = {one: one.due_at for one in refusals if one.due_at is not None}
    stored = jobs.load_many(conn, {one.job for one in at}, True) if at else {}
    events = []
    for one, due in at.items():
        if getattr(stored.get(one.job), "enabled", False):
            body = {"job": one.job, "schedule": one.name, "since": due.isoformat(), "until": (due + TICK).isoformat()}
            why = f"the due time {due.isoformat()} of the schedule '{one.name}' started no run: {one.why}"
            events.append(OutboxEvent(one.job, "missed", body, detail=why))
            audit.note(
                conn, by, "missed", f"{one.job}/{one.name}", after=f"{due.isoformat()} started no run: {one.why}"
            )
    outbox.record(conn, events)


def _move(row: ScheduleRow, decision: Decision) -> dict[str, Any]:
    return {
        "id": row.id,
        "next_due_at": decision.next_due_at,
        "fire_at": decision.fire_at,
        "last_due_at": decision.times[-1] if decision.times else row.last_due_at,
        "resumed_at": decision.held_at or row.resumed_at,
    }


def _misses(conn: sa.Connection, missed: Sequence[tuple[ScheduleRow, Decision]]) -> list[Miss]:
    """Return what these decisions miss, from the first due time that has no run.

    The first due times of a span have runs if the clock was behind for a while: they ran before it was set back.
    """
    spans = {row.id: (row, *decision.missed) for row, decision in missed if decision.missed is not None}
    if not spans:
        return []
    query = (
        sa.select(run.c.schedule_id, run.c.due_at)
        .with_hint(run, DIRTY, "mssql")
        .where(
            sa.text("schedule_id IS NOT NULL"),
            lists.by_id(run.c.schedule_id, spans),
            run.c.due_at >= min(since for _, since, _ in spans.values()),
        )
    )
    ran: dict[int, set[datetime]] = {}
    for found in conn.execute(query):
        ran.setdefault(found.schedule_id, set()).add(found.due_at)
    misses = []
    for row, since, until in spans.values():
        first: datetime | None = since
        if known := ran.get(row.id):
            times = due_times(read(row.definition), since - TICK, until - TICK)
            first = next((time for time in times if time not in known), None)
        if first is not None:
            misses.append(Miss(row.job, row.name, first, until))
    return misses


def _without_duplicates(conn: sa.Connection, requests: Sequence[StartRequest]) -> list[StartRequest]:
    """Return the requests whose run does not exist yet.

    The lock on the schedule normally prevents duplicates. They occur only if someone sets a row back by hand. Then the
    unique index must not let one schedule stop all others.
    """
    if not requests:
        return []
    query = sa.select(run.c.schedule_id, run.c.due_at).where(
        sa.text("schedule_id IS NOT NULL"),
        lists.by_id(run.c.schedule_id, (one.schedule_id for one in requests if one.schedule_id is not None)),
        run.c.due_at >= min(request.due_at for request in requests if request.due_at),
    )
    known = {tuple(row) for row in conn.execute(query)}
    return (
        [request for request in requests if (request.schedule_id, request.due_at) not in known]
        if known
        else list(requests)
    )


def last_due(conn: sa.Connection, row: ScheduleRow) -> datetime | None:
    """Return the last due time of a schedule: of its runs, or as it is stored. The caller has locked its row.

    A time that has a run cannot be inserted again: every later turn would fail, for all schedules. For an end or a file
    a later time is as good; a time of a calendar is left out instead (``_without_duplicates``). The runs are read
    without locks, because nobody else inserts runs of this schedule, and their times do not change.

    Times of runs that started while the clock was far ahead do not count. All later runs would come after them.
    """
    used = conn.execute(_LAST_DUE.where(run.c.schedule_id == row.id)).scalar_one()
    latest = row.now + timedelta(milliseconds=AHEAD)
    return max((time for time in (used, row.last_due_at) if time is not None and time <= latest), default=None)
