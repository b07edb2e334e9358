"""Runs and due times within a span of time, for the timeline."""

import json
from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import PASS, lists
from jobfac.database.dialects.rows import rows_parameter, rows_table
from jobfac.database.tables import attempt, job, run, schedule
from jobfac.database.types import BigId, contains, sql_literals
from jobfac.recurrence import due_times
from jobfac.recurrence.due import TICK
from jobfac.states import HELD
from jobfac.store.schedules import decision
from jobfac.views.overview import DueSchedule
from jobfac.views.runs import AttemptView, PastRun
from jobfac.views.serialization import columns, from_rows


class Filter(NamedTuple):
    """Which runs: of a job or on a worker whose name contains the text, and of the caller's categories."""

    text: str | None = None
    categories: Sequence[str] | None = None


class Ran(NamedTuple):
    """A run of the span, without the times, which are read for those alone that are drawn."""

    id: int
    job: str
    worker: str | None


_RAN = [run.c[name] for name in columns(Ran)]

LATER = 20_000
"""How many of the runs that ended after a span are searched for those that began before its end: no index has both."""


def ran(conn: sa.Connection, begin: datetime, end: datetime, wanted: Filter, limit: int) -> list[Ran]:
    """Return the runs that were under way at some time between two times: of those that ended within it the latest.

    At most ``limit`` each of those that ended within it, that ended later, and that have not ended. Those that ended
    after ``searched_until`` are left out.
    """
    done = sa.select(*_RAN).with_hint(run, PASS, "mssql").where(run.c.ended_at >= begin, run.c.started_at < end)
    held = sa.select(*_RAN).with_hint(run, PASS, "mssql").where(sa.text(f"state IN ({sql_literals(HELD)})"))
    conditions = [run.c.started_at.is_not(None), *_conditions(conn.dialect.name, wanted)]
    latest = done.where(run.c.ended_at < end, *conditions).order_by(run.c.ended_at.desc()).limit(limit)
    under_way = held.where(run.c.started_at < end, *conditions).order_by(run.c.started_at).limit(limit)
    after = sa.select(run.c.id, run.c.started_at).with_hint(run, PASS, "mssql").where(run.c.ended_at >= end)
    first = after.order_by(run.c.ended_at).limit(LATER).subquery("first")
    spanning = sa.select(*_RAN).with_hint(run, PASS, "mssql").join(first, first.c.id == run.c.id)
    spanning = spanning.where(first.c.started_at < end, *conditions).order_by(run.c.id).limit(limit)
    found = {one.id: one for query in (latest, spanning, under_way) for one in from_rows(Ran, conn.execute(query))}
    return list(found.values())


def searched_until(conn: sa.Connection, end: datetime) -> datetime | None:
    """Return the end of the runs that ``ran`` searches after a span; None: it searches all of them."""
    after = sa.select(run.c.ended_at).with_hint(run, PASS, "mssql").where(run.c.ended_at >= end)
    return conn.execute(after.order_by(run.c.ended_at).offset(LATER).limit(1)).scalar()


def of_ids(conn: sa.Connection, run_ids: Sequence[int]) -> list[PastRun]:
    """Return these runs, oldest first."""
    given = rows_table(conn.dialect.name, id=BigId)
    shown = (run.c[name] for name in columns(PastRun))
    query = sa.select(*shown).with_hint(run, PASS, "mssql").join(given, given.c.id == run.c.id).order_by(run.c.id)
    # As ``rows_parameter``, which is slower because it converts the values of each row.
    return from_rows(PastRun, conn.execute(query, {"rows": json.dumps([{"id": run_id} for run_id in run_ids])}))


def tries(conn: sa.Connection, run_ids: Sequence[int], begin: datetime, end: datetime) -> dict[int, list[AttemptView]]:
    """Return the attempts that were under way between two times, by run, of those runs that have several."""
    given = rows_table(conn.dialect.name, id=BigId)
    query = (
        sa.select(*(attempt.c[name] for name in columns(AttemptView)))
        .select_from(attempt.join(given, given.c.id == attempt.c.run_id).join(run, run.c.id == attempt.c.run_id))
        .with_hint(run, PASS, "mssql")
        .where(run.c.attempt > 1)
        .order_by(attempt.c.run_id, attempt.c.number)
    )
    found: dict[int, list[AttemptView]] = {}
    for one in from_rows(AttemptView, conn.execute(query, {"rows": json.dumps([{"id": one} for one in run_ids])})):
        its = found.setdefault(one.run_id, [])
        if one.started_at < end and (one.ended_at is None or one.ended_at >= begin):
            its.append(one)
    return found


def _conditions(engine: str, wanted: Filter) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = []
    if wanted.text:
        found.append(sa.or_(*(contains(engine, column, wanted.text) for column in (run.c.job, run.c.worker))))
    return found + lists.of_categories(run.c.job, wanted.categories)


_DUE = [schedule.c[name] for name in (*columns(DueSchedule), "next_due_at", "definition")]


def due(conn: sa.Connection, begin: datetime, end: datetime, wanted: Filter) -> list[DueSchedule]:
    """Return the first time of each schedule that fires between two times; without its jitter if it fires before."""
    query = (
        sa.select(*_DUE)
        .join(job, job.c.id == schedule.c.job)
        .with_hint(schedule, PASS, "mssql")
        .where(sa.text("schedule.fire_at IS NOT NULL AND schedule.paused = 0"), job.c.enabled)
        .where(schedule.c.fire_at < end)
    )
    if wanted.text:
        query = query.where(contains(conn.dialect.name, schedule.c.job, wanted.text))
    if wanted.categories is not None:
        query = query.where(lists.among(job.c.category, wanted.categories))
    found = []
    for row in conn.execute(query):
        times = [row.fire_at] if row.fire_at >= begin else _times(row, begin - TICK, end - TICK, 1)
        found += [DueSchedule(row.job, row.name, time) for time in times]
    return found


def repeats(
    conn: sa.Connection, job_ids: Sequence[str], after: datetime, end: datetime, limit: int
) -> list[DueSchedule]:
    """Return the later due times, after the next one, of the schedules of these jobs until ``end``.

    At most ``limit`` of each schedule, without their jitter.
    """
    given = rows_table(conn.dialect.name, job=schedule.c.job.type)
    query = (
        sa.select(*_DUE)
        .join(given, given.c.job == schedule.c.job)
        .with_hint(schedule, PASS, "mssql")
        .where(sa.text("schedule.fire_at IS NOT NULL AND schedule.paused = 0"), schedule.c.fire_at < end)
    )
    found = []
    for row in conn.execute(query, rows_parameter({"job": job_id} for job_id in job_ids)):
        found += [DueSchedule(row.job, row.name, time) for time in _times(row, after, end, limit)]
    return found


def _times(row: sa.Row[Any], after: datetime, end: datetime, limit: int) -> list[datetime]:
    """Return the due times after the next one of a schedule, and later than ``after``; none if it cannot be read."""
    try:
        rule = decision.read(row.definition)
        if not rule.is_calendar:
            return []
        return list(islice(due_times(rule, max(after, row.next_due_at or row.fire_at), end), limit))
    except decision.UNUSABLE:  # a newer jobfac stored it
        return []
