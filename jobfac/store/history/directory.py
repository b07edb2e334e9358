"""Jobs in lists: found by text, category and state, a page at a time."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import PASS, lists
from jobfac.database.tables import job, job_version, run, schedule
from jobfac.database.types import contains, sql_literals
from jobfac.definitions import stored_body
from jobfac.states import FAILED, JobKind
from jobfac.store.runs.subscribers import JUDGED
from jobfac.views.serialization import columns, from_row

NAMES = 500
"""The maximum number of job names that a field suggests."""


class JobRow(NamedTuple):
    """A job in a list. ``definition``: its canonical JSON text. ``fire_at``: when its next schedule fires; ``paused``:
    how many of its ``schedules`` are paused."""

    id: str
    kind: JobKind
    enabled: bool
    category: str | None
    version: int
    definition: dict[str, Any]
    fire_at: datetime | None
    schedules: int
    paused: int


class Filter(NamedTuple):
    """Which jobs to list. ``state``: enabled, disabled, paused or failing; ``after``: continue after this id."""

    text: str | None = None
    category: str | None = None
    state: str | None = None
    categories: Sequence[str] | None = None
    after: str | None = None


def _of(
    *values: sa.ColumnElement[Any], where: Sequence[sa.ColumnElement[bool] | sa.TextClause] = ()
) -> sa.ScalarSelect[Any]:
    return sa.select(*values).where(schedule.c.job == job.c.id, *where).scalar_subquery()


_IS_PAUSED = sa.text("schedule.paused = 1")
_SHOWN = {
    **job.c,
    "definition": job_version.c.definition,
    "fire_at": _of(sa.func.min(schedule.c.fire_at), where=[sa.text("schedule.paused = 0")]).label("fire_at"),
    "schedules": _of(sa.func.count()).label("schedules"),
    "paused": _of(sa.func.count(), where=[_IS_PAUSED]).label("paused"),
}
_JOBS = sa.select(*(_SHOWN[name] for name in columns(JobRow))).join(
    job_version, (job_version.c.job == job.c.id) & (job_version.c.version == job.c.version)
)


def find(conn: sa.Connection, wanted: Filter, limit: int) -> list[JobRow]:
    """Return up to ``limit`` jobs that match, ordered by id."""
    query = _JOBS.where(*_seen(wanted.categories)).order_by(job.c.id).limit(limit)
    if wanted.text:
        query = query.where(_contains(conn.dialect.name, wanted.text))
    if wanted.category is not None:
        query = query.where(job.c.category == wanted.category)
    if wanted.after is not None:
        query = query.where(job.c.id > wanted.after)
    if wanted.state in ("enabled", "disabled"):
        query = query.where(job.c.enabled == (wanted.state == "enabled"))
    if wanted.state == "paused":
        query = query.where(sa.exists().where(schedule.c.job == job.c.id, _IS_PAUSED).select_from(schedule))
    if wanted.state == "failing":
        query = query.where(_last_failed())
    found = ({**row, "definition": stored_body(row["definition"])} for row in conn.execute(query).mappings())
    return [from_row(JobRow, row) for row in found]


def _last_failed() -> sa.ColumnElement[bool]:
    """Condition on a job: the last run that shows whether it works has failed. One that waits or runs does not yet."""
    judged = sa.text(f"run.state IN ({sql_literals(JUDGED)})")
    last = sa.select(sa.func.max(run.c.id)).with_hint(run, PASS, "mssql").where(run.c.job == job.c.id, judged)
    last = last.correlate(job)  # two levels up: without this the newest run of all jobs would decide
    ended = run.alias("ended")
    failed = sa.text(f"ended.state IN ({sql_literals(FAILED)})")
    return sa.exists().where(ended.c.id == last.scalar_subquery(), failed).select_from(ended)


def _contains(engine: str, text: str) -> sa.ColumnElement[bool]:
    return contains(engine, job.c.id, text) | contains(engine, job_version.c.definition, text)


def _seen(categories: Sequence[str] | None) -> list[sa.ColumnElement[bool]]:
    return [] if categories is None else [lists.among(job.c.category, categories)]


def matching(conn: sa.Connection, text: str, categories: Sequence[str] | None = None) -> bool:
    """Whether the id of a job contains the text."""
    query = sa.select(job.c.id).where(contains(conn.dialect.name, job.c.id, text), *_seen(categories)).limit(1)
    return conn.execute(query).first() is not None


def names(conn: sa.Connection, categories: Sequence[str] | None = None) -> Sequence[str]:
    """Return the ids of the first jobs, for suggestions."""
    return conn.execute(sa.select(job.c.id).where(*_seen(categories)).order_by(job.c.id).limit(NAMES)).scalars().all()


def categories(conn: sa.Connection, limited: Sequence[str] | None = None) -> Sequence[str]:
    """Return the categories of jobs, in order."""
    query = sa.select(job.c.category).distinct().where(job.c.category.is_not(None), *_seen(limited))
    return conn.execute(query.order_by(job.c.category)).scalars().all()
