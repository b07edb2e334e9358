"""Numbers for the header of every page, and a value that changes whenever a page would change."""

import functools
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from jobfac.database.dialects import DIRTY, IS_ALIVE, PASS, lease_now, lists, utcnow
from jobfac.database.tables import audit, job, notification, run, run_event, worker, worker_lease
from jobfac.database.types import sql_literals
from jobfac.states import FAILED, FAILURES, HELD, RunState
from jobfac.views.overview import Counts
from jobfac.views.runs import RunRow
from jobfac.views.serialization import columns, from_row

DAY = 86400.0
"""Seconds for which the header of the pages counts a failure."""

_SEEN = run.c.job.in_(sa.select(job.c.id).where(job.c.category.in_(sa.select(lists.names("p_categories").c.value))))
_FAILED = (
    sa.text(f"run.state IN ({sql_literals(FAILURES)})"),
    sa.text(f"run.state IN ({sql_literals(FAILED)})"),
    run.c.ended_at >= utcnow(-DAY * 1000),
)
"""The first condition is that of the filtered index, word for word."""


def read(conn: sa.Connection, categories: Sequence[str] | None = None) -> Counts:
    """Return the numbers; ``categories`` limits the runs to jobs of these categories."""
    row = conn.execute(_counts(categories is not None), _category_parameter(categories)).mappings().one()
    return from_row(Counts, row)


def _category_parameter(categories: Sequence[str] | None) -> dict[str, Any]:
    return {} if categories is None else {"p_categories": lists.as_list(categories)}


@functools.cache
def _counts(limited: bool) -> sa.Select[Any, int, int, int, int, int, Any]:
    seen = [_SEEN] if limited else []

    def number(*where: sa.ColumnElement[bool] | sa.TextClause) -> sa.ScalarSelect[int]:
        query = sa.select(sa.func.count()).select_from(run).with_hint(run, PASS, "mssql")
        return query.where(*where, *seen).scalar_subquery()

    def state(word: RunState) -> sa.TextClause:
        return sa.text(f"run.state = '{word}'")

    leased = worker.join(worker_lease, worker_lease.c.worker_id == worker.c.id)
    workers = (
        sa.select(sa.func.count())
        .select_from(leased)
        .with_hint(worker_lease, DIRTY, "mssql")
        .where(IS_ALIVE, worker_lease.c.lease_until > lease_now())
        .scalar_subquery()
    )
    return sa.select(
        utcnow().label("now"),
        number(*_FAILED).label("failed"),
        number(sa.text(f"run.state IN ({sql_literals(HELD)})")).label("running"),
        number(state(RunState.QUEUED)).label("queued"),
        number(state(RunState.BLOCKED)).label("blocked"),
        number(state(RunState.SCHEDULED)).label("scheduled"),
        workers.label("workers"),
    )


def failures(conn: sa.Connection, limit: int, categories: Sequence[str] | None = None) -> list[RunRow]:
    """Return the runs that failed within the last day, the latest first."""
    query = (
        sa.select(*(run.c[name] for name in columns(RunRow)))
        .with_hint(run, PASS, "mssql")
        .where(*_FAILED, *([_SEEN] if categories is not None else []))
        .order_by(run.c.ended_at.desc())
        .limit(limit)
    )
    return [from_row(RunRow, row) for row in conn.execute(query, _category_parameter(categories)).mappings()]


_HELD = sa.text(f"run.state IN ({sql_literals(HELD)})")
_FINGERPRINT = sa.select(
    sa.select(sa.func.max(run_event.c.id)).scalar_subquery().label("events"),
    sa.select(sa.func.max(audit.c.id)).scalar_subquery().label("audit"),
    sa.select(sa.func.max(notification.c.id)).scalar_subquery().label("notifications"),
    sa.select(sa.func.count()).select_from(worker).where(IS_ALIVE).scalar_subquery().label("workers"),
    sa.select(sa.func.sum(worker.c.id)).where(IS_ALIVE).scalar_subquery().label("which"),
    sa.select(sa.func.count(worker.c.message)).where(IS_ALIVE).scalar_subquery().label("unhealthy"),
    sa.select(sa.func.sum(run.c.progress))
    .with_hint(run, PASS, "mssql")
    .where(_HELD)
    .scalar_subquery()
    .label("progress"),
)


def fingerprint(conn: sa.Connection) -> tuple[Any, ...]:
    """Return a value that differs whenever something happened that a page shows. One statement, a few seeks."""
    return tuple(conn.execute(_FINGERPRINT).one())
