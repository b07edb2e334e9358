"""List, pause, resume and preview schedules."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from heapq import merge
from itertools import islice
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from jobfac.database.dialects import current_time, lists, utcnow
from jobfac.database.tables import job, schedule
from jobfac.definitions import DefinitionError, Schedule
from jobfac.errors import LIST_SCHEDULES, NotFound, Refused, no_job
from jobfac.recurrence import explain
from jobfac.store import audit, jobs, runs
from jobfac.store.holds import reading as holds
from jobfac.store.schedules import decision
from jobfac.views.schedules import CandidateView, ScheduleView
from jobfac.views.serialization import columns, from_row

LONGEST_GAP = 100_000
"""A preview of a schedule stops after this many consecutive candidates that do not fire."""


def list_schedules(
    conn: sa.Connection, job_id: str | None = None, categories: Sequence[str] | None = None
) -> list[ScheduleView]:
    """Return schedules, ordered by job and id, optionally of one job or of the jobs in some categories."""
    query = _SHOWN.order_by(schedule.c.job, schedule.c.id)
    if job_id is not None:
        query = query.where(schedule.c.job == job_id)
    if categories is not None:
        query = query.where(lists.among(job.c.category, categories))
    return _with_holds(conn, [from_row(ScheduleView, row) for row in conn.execute(query).mappings()])


def _with_holds(conn: sa.Connection, views: list[ScheduleView]) -> list[ScheduleView]:
    """Add the hold that covers the job of each schedule."""
    over = holds.over_jobs(conn, {view.job for view in views}) if views else {}
    return [view._replace(held=over[view.job].sentence) if view.job in over else view for view in views]


def get(conn: sa.Connection, schedule_id: int, categories: Sequence[str] | None = None) -> ScheduleView:
    """Return a schedule, optionally only if its job has one of some categories.

    Raises:
        NotFound: there is no such schedule.
    """
    query = _SHOWN.where(schedule.c.id == schedule_id)
    if categories is not None:
        query = query.where(lists.among(job.c.category, categories))
    row = conn.execute(query).mappings().first()
    if row is None:
        raise NotFound(f"There is no schedule {schedule_id}; {{way}} shows what there is.", LIST_SCHEDULES)
    return _with_holds(conn, [from_row(ScheduleView, row)])[0]


_SELECTED = {"job_enabled": job.c.enabled.label("job_enabled")}
_SHOWN = sa.select(
    *(_SELECTED[name] if name in _SELECTED else schedule.c[name] for name in columns(ScheduleView))
).join(job, job.c.id == schedule.c.job)


def pause(conn: sa.Connection, job_id: str, name: str | None, by: str) -> list[str]:
    """Pause a schedule, or all schedules of a job (``name`` None). Returns the names of the newly paused ones.

    Raises:
        NotFound: the job has no such schedule.
    """
    return _switch(conn, job_id, name, by, "pause", {"paused": True})


def resume(conn: sa.Connection, job_id: str, name: str | None, by: str) -> list[str]:
    """Resume schedules. Due times during the pause count as missed.

    Returns the names of the resumed schedules. Raises as ``pause``.
    """
    return _switch(conn, job_id, name, by, "resume", {"paused": False, "resumed_at": utcnow()})


def paused(conn: sa.Connection) -> list[tuple[str, str]]:
    """Return the paused schedules, as (job, name)."""
    query = sa.select(schedule.c.job, schedule.c.name).where(schedule.c.paused == sa.true())
    return [(row.job, row.name) for row in conn.execute(query.order_by(schedule.c.job, schedule.c.id))]


def _switch(
    conn: sa.Connection, job_id: str, name: str | None, by: str, action: str, values: Mapping[str, Any]
) -> list[str]:
    query = sa.select(schedule.c.id, schedule.c.name, schedule.c.paused).where(schedule.c.job == job_id)
    found = conn.execute(query.order_by(schedule.c.id)).all()
    chosen = [row for row in found if name is None or row.name == name]
    if not chosen:
        if jobs.load(conn, job_id) is None:
            raise no_job(job_id)
        raise no_schedule(job_id, name, [row.name for row in found])
    changed = []
    for row in chosen:
        change = schedule.update().where(schedule.c.id == row.id, schedule.c.paused == (not values["paused"]))
        if conn.execute(change.values({**values, "updated_at": utcnow()})).rowcount:
            audit.note(conn, by, action, f"{job_id}/{row.name}")
            changed.append(row.name)
    return changed


def no_schedule(job_id: str, name: str | None, names: Sequence[str]) -> NotFound:
    """Return the error for a schedule that the job does not have."""
    if not names:
        return NotFound(f"Job '{job_id}' has no schedules; {{way}} shows what there is.", LIST_SCHEDULES)
    return NotFound(f"Job '{job_id}' has no schedule '{name}'; its schedules are: {', '.join(names)}.")


def preview(
    conn: sa.Connection,
    job_id: str,
    count: int,
    start: datetime | None = None,
    every_candidate: bool = False,
    of_each: bool = False,
) -> list[CandidateView]:
    """Return the next ``count`` due times of a job, merged from all its schedules, in order of time.

    Ignores jitter, pauses and whether the job is enabled. A schedule that its definition disables has no due times.

    Args:
        start: an aware time; only later times are returned. Default: now, by the database's clock.
        every_candidate: include candidates that do not fire.
        of_each: as many of each schedule, however often the others are due.

    Raises:
        NotFound: there is no such job.
    """
    stored = jobs.load(conn, job_id)
    if stored is None:
        raise no_job(job_id)
    definition = stored.definition
    begin = current_time(conn) if start is None else start
    streams = [
        islice(_candidates(name, rule, begin, every_candidate), count)
        for name, rule in zip(definition.schedule_names(), definition.schedules, strict=True)
        if rule.enabled and rule.is_calendar
    ]
    found = list(islice(merge(*streams, key=attrgetter("due_at")), None if of_each else count))
    rules = dict(zip(definition.schedule_names(), definition.schedules, strict=True))
    return [_with_parameters(conn, stored, rules[one.schedule], one) for one in found]


def _with_parameters(
    conn: sa.Connection, stored: jobs.Stored, rule: Schedule, candidate: CandidateView
) -> CandidateView:
    """Return the candidate with the parameters that its run would have, or why they would be refused."""
    if not stored.definition.parameters or not candidate.fires:
        return candidate
    due = candidate.due_at
    row = decision.ScheduleRow(0, stored.id, candidate.schedule, "", due, None, None, due)
    start = decision.request(rule, row, candidate.due_at)
    try:
        values = runs.new_row(conn, stored._replace(enabled=True), start)
    except (Refused, DefinitionError) as error:
        return candidate._replace(reason=f"its start would be refused: {error}")
    return candidate._replace(parameters=json.loads(values["parameters"]))


def _candidates(name: str, rule: Schedule, start: datetime, every_candidate: bool) -> Iterator[CandidateView]:
    silent = 0
    for candidate in explain(rule, start, 10**9, only_due=not every_candidate):
        silent = 0 if candidate.fires else silent + 1
        if silent > LONGEST_GAP:
            return
        if candidate.fires or every_candidate:
            yield CandidateView(candidate.due_at, name, candidate.local, candidate.fires, candidate.reason)
