"""How the factory stands at one moment: what a person who watches it wants to see, in six statements.

Each statement reads the beginning of a filtered index, or as many rows as there are live workers and held runs, so
that neither a long queue nor a long history makes an overview expensive.
"""

import functools
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import PASS, utcnow
from jobfac.database.tables import job, queue, run, schedule
from jobfac.database.types import sql_literals
from jobfac.states import HELD, RunState
from jobfac.store import workers
from jobfac.store.runs.reading import present

RUNNING, ENDED, DUE = 200, 100, 50
"""Rows of each kind that are read at most."""

RECENT = 2000
"""Ended runs among which those of a limited caller are looked for, so that a long history costs nothing."""


class Waiting(NamedTuple):
    """Queued runs of a pool; ``seconds``: how long the first of them has waited."""

    pool: str
    number: int
    seconds: float


class Overview(NamedTuple):
    """Workers, runs and schedules are the JSON-able objects of the API; ``now`` is the database's clock."""

    now: datetime
    workers: Sequence[dict[str, Any]]  # alive, newest first, with ``busy``
    queued: Sequence[Waiting]
    blocked: int  # runs that wait for a concurrency rule
    scheduled: int  # runs that wait for their time
    held: int  # runs under way, of which ``running`` has the first
    running: Sequence[dict[str, Any]]  # longest first
    ended: Sequence[dict[str, Any]]  # latest first
    due: Sequence[dict[str, Any]]  # ``job``, ``name``, ``fire_at`` of the next schedules


class Queries(NamedTuple):
    """The statements of an overview, besides that of the workers."""

    counts: sa.Select[Any]
    queued: sa.Select[Any]
    running: sa.Select[Any]
    ended: sa.Select[Any]
    due: sa.Select[Any]


def read(conn: sa.Connection, categories: Sequence[str] | None = None) -> Overview:
    """The factory as it stands; with ``categories`` only their jobs' runs and schedules, and all workers."""
    queries = _queries(categories is not None)
    given = {} if categories is None else {"p_categories": list(categories)}
    counts = conn.execute(queries.counts, given).one()
    return Overview(
        counts.now,
        [workers.present(row) for row in workers.workers(conn, alive_only=True)],
        [_waiting(row, counts.now) for row in conn.execute(queries.queued, given)],
        counts.blocked,
        counts.scheduled,
        counts.held,
        [present(row) for row in conn.execute(queries.running, given).mappings()],
        [present(row) for row in conn.execute(queries.ended, given).mappings()],
        [present(row) for row in conn.execute(queries.due, given).mappings()],
    )


def as_json(overview: Overview) -> dict[str, Any]:
    """The overview as a JSON object."""
    shown = {**overview._asdict(), "now": overview.now.isoformat(timespec="milliseconds")}
    return shown | {"queued": [waiting._asdict() for waiting in overview.queued]}


def from_json(shown: Mapping[str, Any]) -> Overview:
    """The overview that ``as_json`` made this object of. Members that are not known are left out."""
    known = {name: shown[name] for name in Overview._fields}
    queued = [Waiting(one["pool"], one["number"], one["seconds"]) for one in shown["queued"]]
    return Overview(**known | {"now": datetime.fromisoformat(shown["now"]), "queued": queued})


def _waiting(row: Any, now: datetime) -> Waiting:
    return Waiting(row.pool, row.number, max(0.0, (now - row.since).total_seconds()))


_RUN = (
    run.c.id,
    run.c.job,
    run.c.kind,
    run.c.state,
    run.c.attempt,
    run.c.worker,
    run.c.started_at,
    run.c.ended_at,
    run.c.progress,
    run.c.message,
    run.c.reason,
    run.c.exit_message,
    run.c.sequence_run_id,
)
_SEEN = job.c.category.in_(sa.bindparam("p_categories", expanding=True))


@functools.cache
def _queries(limited: bool) -> Queries:
    seen = [run.c.job.in_(sa.select(job.c.id).where(_SEEN))] if limited else []
    return Queries(_counts(seen), _queued(seen), _running(seen), _ended(limited), _due(limited))


def _counts(seen: Sequence[sa.ColumnElement[bool]]) -> sa.Select[Any]:
    def count(where: str) -> sa.ScalarSelect[int]:
        query = sa.select(sa.func.count()).select_from(run).with_hint(run, PASS, "mssql")
        return query.where(sa.text(where), *seen).scalar_subquery()

    return sa.select(
        utcnow().label("now"),
        count(f"state = '{RunState.BLOCKED}'").label("blocked"),
        count(f"state = '{RunState.SCHEDULED}'").label("scheduled"),
        count(f"state IN ({sql_literals(HELD)})").label("held"),
    )


def _queued(seen: Sequence[sa.ColumnElement[bool]]) -> sa.Select[Any]:
    # The index has queue and id: when the first of a queue came is read of one row a queue.
    first = (
        sa.select(run.c.queue, sa.func.count().label("number"), sa.func.min(run.c.id).label("first"))
        .with_hint(run, PASS, "mssql")
        .where(sa.text(f"run.state = '{RunState.QUEUED}'"), *seen)
        .group_by(run.c.queue)
        .subquery("waiting")
    )
    return (
        sa.select(
            queue.c.pool, sa.func.sum(first.c.number).label("number"), sa.func.min(run.c.queued_at).label("since")
        )
        .select_from(first.join(queue, queue.c.name == first.c.queue).join(run, run.c.id == first.c.first))
        .with_hint(run, PASS, "mssql")
        .group_by(queue.c.pool)
        .order_by(queue.c.pool)
    )


def _running(seen: Sequence[sa.ColumnElement[bool]]) -> sa.Select[Any]:
    return (
        sa.select(*_RUN)
        .with_hint(run, PASS, "mssql")
        .where(sa.text(f"state IN ({sql_literals(HELD)})"), *seen)
        .order_by(run.c.started_at, run.c.id)
        .limit(RUNNING)
    )


def _ended(limited: bool) -> sa.Select[Any]:
    recent = (
        sa.select(*_RUN)
        .with_hint(run, PASS, "mssql")
        .where(run.c.ended_at.is_not(None))
        .order_by(run.c.ended_at.desc())
        .limit(RECENT if limited else ENDED)
    )
    if not limited:
        return recent
    some = recent.subquery("recent")
    mine = sa.select(some).where(some.c.job.in_(sa.select(job.c.id).where(_SEEN)))
    return mine.order_by(some.c.ended_at.desc()).limit(ENDED)


def _due(limited: bool) -> sa.Select[Any]:
    return (
        sa.select(schedule.c.job, schedule.c.name, schedule.c.fire_at)
        .join(job, job.c.id == schedule.c.job)
        .with_hint(schedule, PASS, "mssql")
        .where(sa.text("schedule.fire_at IS NOT NULL AND schedule.paused = 0"), job.c.enabled)
        .where(*([_SEEN] if limited else []))
        .order_by(schedule.c.fire_at)
        .limit(DUE)
    )
