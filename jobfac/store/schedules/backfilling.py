"""Runs for due times that have passed: one for each due time, however often they are asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from heapq import merge
from itertools import islice
from operator import attrgetter
from typing import NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import LOCKED, current_time
from jobfac.database.tables import run, schedule
from jobfac.definitions import AnyJob, Schedule
from jobfac.recurrence import due_times
from jobfac.store import runs
from jobfac.store.runs.drafting import limits, low_priority
from jobfac.store.schedules.decision import TICK, read, request
from jobfac.store.schedules.steering import no_schedule


class Stored(NamedTuple):
    """A stored schedule with its rule."""

    id: int
    job: str
    name: str
    rule: Schedule


class DueTime(NamedTuple):
    """A due time of a schedule. ``run``: its run, None: there is none."""

    due_at: datetime
    schedule: Stored
    run: int | None = None


class Period(NamedTuple):
    """Due times from ``since`` on and before ``until``. ``name``: only of this schedule; None: of all."""

    job: str
    name: str | None
    since: datetime
    until: datetime


def find(conn: sa.Connection, period: Period, limit: int) -> list[DueTime]:
    """Return the first ``limit`` due times of a period that have passed, in order, with the runs that they have.

    Raises:
        NotFound: the job has no such schedule.
    """
    stored = _schedules(conn, period, lock=False)
    until = min(period.until, current_time(conn))
    streams = [_times(one, period.since, until) for one in stored]
    times = list(islice(merge(*streams, key=attrgetter("due_at")), limit))
    known = _runs(conn, times)
    return [time._replace(run=known.get((time.schedule.id, time.due_at))) for time in times]


def insert(
    conn: sa.Connection, job: AnyJob, times: Sequence[DueTime], at_most: int, priority: int | None, by: str
) -> list[DueTime]:
    """Start a run for each of these due times that has none. Returns them with their runs.

    Args:
        at_most: how many of the runs may run at a time.
        priority: of the runs; None: below that of the job.

    Raises:
        NotFound, Refused: the job does not allow the start; nothing was started.
    """
    job_id = times[0].schedule.job
    values = limits(job_id, job, at_most)
    runs.lock(conn, [runs.Rule(job_id, values["already_running"], values["concurrency_key"])])
    # With the schedules locked, no scheduler inserts runs for the same times.
    ids = {one.id for one in _schedules(conn, Period(job_id, None, times[0].due_at, times[-1].due_at), lock=True)}
    known = _runs(conn, times)
    missing = [one for one in times if (one.schedule.id, one.due_at) not in known and one.schedule.id in ids]
    level = low_priority(job) if priority is None else priority
    requests = [
        replace(request(one.schedule.rule, one.schedule, one.due_at), by=by, priority=level, at_most=at_most)
        for one in missing
    ]
    for one, answer in zip(missing, runs.start_each(conn, requests) if requests else [], strict=True):
        if isinstance(answer, Exception):
            raise answer
        known[one.schedule.id, one.due_at] = answer
    return [one._replace(run=known.get((one.schedule.id, one.due_at))) for one in times]


def _schedules(conn: sa.Connection, period: Period, *, lock: bool) -> list[Stored]:
    query = sa.select(schedule.c.id, schedule.c.job, schedule.c.name, schedule.c.definition)
    if lock:
        query = query.with_hint(schedule, LOCKED, "mssql")
    rows = conn.execute(query.where(schedule.c.job == period.job).order_by(schedule.c.id)).all()
    found = [Stored(row.id, row.job, row.name, read(row.definition)) for row in rows]
    chosen = [one for one in found if period.name in (None, one.name)]
    if not chosen and not lock:
        raise no_schedule(period.job, period.name, [one.name for one in found])
    return [one for one in chosen if one.rule.enabled and one.rule.is_calendar]


def _times(stored: Stored, since: datetime, until: datetime) -> Iterator[DueTime]:
    for due in due_times(stored.rule, since - TICK, until - TICK):
        yield DueTime(due, stored)


def _runs(conn: sa.Connection, times: Sequence[DueTime]) -> dict[tuple[int, datetime], int]:
    """Return the runs that exist for these times, by schedule and due time."""
    found: dict[tuple[int, datetime], int] = {}
    for schedule_id in sorted({time.schedule.id for time in times}):
        query = sa.select(run.c.due_at, run.c.id).where(
            sa.text("schedule_id IS NOT NULL"),
            run.c.schedule_id == schedule_id,
            run.c.due_at >= times[0].due_at,
            run.c.due_at <= times[-1].due_at,
        )
        found |= {(schedule_id, row.due_at): row.id for row in conn.execute(query)}
    return found
