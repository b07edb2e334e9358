"""Runs and due times within a span of time, for the timeline."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import PASS, lists
from jobfac.database.tables import job, run, schedule
from jobfac.database.types import sql_literals
from jobfac.states import HELD
from jobfac.views.overview import DueSchedule
from jobfac.views.runs import PastRun
from jobfac.views.serialization import columns, from_row

_COLUMNS = [run.c[name] for name in columns(PastRun)]


class Filter(NamedTuple):
    """Which runs: of a job or on a worker whose name contains the text, and of the caller's categories."""

    text: str | None = None
    categories: Sequence[str] | None = None


def ran(conn: sa.Connection, begin: datetime, end: datetime, wanted: Filter, limit: int) -> list[PastRun]:
    """Return the runs that ended between two times, or have not ended; at most ``limit`` that ended, the latest."""
    done = sa.select(*_COLUMNS).with_hint(run, PASS, "mssql").where(run.c.ended_at >= begin, run.c.started_at < end)
    held = sa.select(*_COLUMNS).with_hint(run, PASS, "mssql").where(sa.text(f"state IN ({sql_literals(HELD)})"))
    conditions = [run.c.started_at.is_not(None), *_conditions(wanted)]
    latest = done.where(run.c.ended_at < end, *conditions).order_by(run.c.ended_at.desc()).limit(limit)
    found = [from_row(PastRun, row) for row in conn.execute(latest).mappings()]
    under_way = held.where(run.c.started_at < end, *conditions).order_by(run.c.started_at).limit(limit)
    return found + [from_row(PastRun, row) for row in conn.execute(under_way).mappings()]


def _conditions(wanted: Filter) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = []
    if wanted.text:
        contains = (column.icontains(wanted.text, autoescape=True) for column in (run.c.job, run.c.worker))
        found.append(sa.or_(*contains))
    if wanted.categories is not None:
        found.append(run.c.job.in_(sa.select(job.c.id).where(lists.among(job.c.category, wanted.categories))))
    return found


def due(conn: sa.Connection, begin: datetime, end: datetime, wanted: Filter, limit: int) -> list[DueSchedule]:
    """Return the next time of each schedule that fires between two times, soonest first."""
    query = (
        sa.select(*(schedule.c[name] for name in columns(DueSchedule)))
        .join(job, job.c.id == schedule.c.job)
        .with_hint(schedule, PASS, "mssql")
        .where(sa.text("schedule.fire_at IS NOT NULL AND schedule.paused = 0"), job.c.enabled)
        .where(schedule.c.fire_at >= begin, schedule.c.fire_at < end)
        .order_by(schedule.c.fire_at)
        .limit(limit)
    )
    if wanted.text:
        query = query.where(schedule.c.job.icontains(wanted.text, autoescape=True))
    if wanted.categories is not None:
        query = query.where(lists.among(job.c.category, wanted.categories))
    return [from_row(DueSchedule, row) for row in conn.execute(query).mappings()]
