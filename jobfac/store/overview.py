"""The overview of the current state, read with six statements, and one more each for holds, failures and overdue jobs.

Each statement reads the beginning of a filtered index, or one row per live worker and held run. So neither a
long queue nor a long history makes an overview expensive.
"""

import functools
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import PASS, lists, utcnow
from jobfac.database.tables import expectation, job, queue, run, schedule
from jobfac.database.types import flag, sql_literals
from jobfac.states import FAILURES, HELD, RunState
from jobfac.store import expectations, jobs, notes, workers
from jobfac.store.history.recovery import shows_recovery, unindexed
from jobfac.store.history.waiting import at_steps
from jobfac.store.holds import reading as holds
from jobfac.store.holds.conditions import ANY
from jobfac.store.runs import queue_of_worker
from jobfac.views.holds import HoldView, first_over
from jobfac.views.jobs import OverdueView
from jobfac.views.overview import DueSchedule, Overview, RunLine, WaitingRuns
from jobfac.views.serialization import columns, from_row, from_rows
from jobfac.views.workers import WorkerView

RUNNING, ENDED, DUE, FAILED, HOLDS = 200, 100, 50, 50, 50
"""The maximum number of running runs, ended runs, due schedules, unacknowledged failures and holds in an overview."""

RECENT = 2000
"""How many of the latest ended runs are searched for the runs of a limited caller. This bounds the cost."""

LATEST = 200
"""How many of the failures that ended last are searched for those that are not among the ``FAILED`` newest runs."""


def served(workers: Sequence[WorkerView], now: datetime) -> set[str]:
    """Return what these workers serve now, as ``WaitingRuns.pool`` names it: pools, themselves, and sequences.

    In lower case, because a worker takes from a pool whose name differs only in case.
    """
    pools = {pool.lower() for one in workers if one.takes_runs(now) for pool in one.pools}
    themselves = {queue_of_worker(one.name).lower() for one in workers if not one.is_silent(now)}
    return pools | themselves | {jobs.SEQUENCE_QUEUE}


def unclaimed(workers: Sequence[WorkerView], now: datetime) -> set[str]:
    """Return what these workers serve, but all of those that serve it claim nothing now: each has a ``message``."""
    return served(workers, now) - served([one for one in workers if one.message is None], now)


class Queries(NamedTuple):
    """The statements of an overview, except for the statement that reads the workers."""

    counts: sa.Select[Any]
    queued: sa.Select[Any]
    running: sa.Select[Any]
    ended: sa.Select[Any]
    due: sa.Select[Any]
    failures: sa.Select[Any]
    late_failures: sa.Select[Any]
    overdue: sa.Select[Any]
    all_overdue: sa.Select[int]


def read(conn: sa.Connection, categories: Sequence[str] | None = None) -> Overview:
    """Return the current overview. ``categories`` limits the runs, schedules and holds to jobs of these categories, but
    not the workers."""
    queries = _queries(conn.dialect.name, categories is not None)
    parameters = {} if categories is None else {"p_categories": lists.as_list(categories)}
    counts = conn.execute(queries.counts, parameters).one()
    holding = holds.active(conn) if counts.held_back else []
    if categories is not None:
        holding = holds.of_categories(conn, holding, categories)
    failures = _read_failures(conn, queries, parameters) if counts.failed else []
    overdue = conn.execute(queries.overdue, parameters).mappings().all() if counts.overdue else []
    return Overview(
        counts.now,
        workers.workers(conn, alive_only=True),
        [_waiting(_Queued(*row), counts.now, holding) for row in conn.execute(queries.queued, parameters)],
        counts.blocked,
        counts.scheduled,
        counts.held,
        _with_steps(conn, from_rows(RunLine, conn.execute(queries.running, parameters))),
        from_rows(RunLine, conn.execute(queries.ended, parameters)),
        from_rows(DueSchedule, conn.execute(queries.due, parameters)),
        failures,
        holding[:HOLDS],
        [from_row(OverdueView, row) for row in overdue],
        max(0, len(holding) - HOLDS),
        conn.execute(queries.all_overdue, parameters).scalar_one() - DUE if len(overdue) == DUE else 0,
    )


def _with_steps(conn: sa.Connection, running: Sequence[RunLine]) -> list[RunLine]:
    """Return the runs. The message of a sequence that waits for a person, a time, a file or an answer says it."""
    waits = at_steps(conn, running)
    return [one._replace(message=f"waits for {waits[one.id]}") if one.id in waits else one for one in running]


def _read_failures(conn: sa.Connection, queries: Queries, parameters: Mapping[str, Any]) -> list[RunLine]:
    """Return the failures that nobody has acknowledged, those first that ended last."""
    found = {one.id: one for one in from_rows(RunLine, conn.execute(queries.failures, parameters))}
    if len(found) >= FAILED:  # a run that took long may be older than all of them
        found |= {one.id: one for one in from_rows(RunLine, conn.execute(queries.late_failures, parameters))}
    return sorted(found.values(), key=_end, reverse=True)[:FAILED]


def _end(one: RunLine) -> tuple[float, int]:
    return (one.ended_at.timestamp() if one.ended_at else 0.0, one.id)


class Executed(NamedTuple):
    """A run that a worker executes. ``number``: how many it executes."""

    worker_id: int
    id: int
    job: str
    number: int


def by_worker(conn: sa.Connection, categories: Sequence[str] | None, most: int) -> list[Executed]:
    """Return the runs that each worker executes, the ``most`` that began first. ``categories``: as in ``read``."""
    of_worker = run.c.worker_id
    number = sa.func.count().over(partition_by=of_worker).label("number")
    place = sa.func.row_number().over(partition_by=of_worker, order_by=(run.c.started_at, run.c.id)).label("place")
    every = sa.select(run.c.worker_id, run.c.id, run.c.job, number, place).with_hint(run, PASS, "mssql")
    every = every.where(
        sa.text(f"state IN ({sql_literals(HELD)})"), of_worker.is_not(None), *_visible(categories is not None)
    )
    held = every.subquery("held")
    query = sa.select(*(held.c[name] for name in Executed._fields)).where(held.c.place <= most)
    parameters = {} if categories is None else {"p_categories": lists.as_list(categories)}
    return [Executed(*row) for row in conn.execute(query.order_by(held.c.worker_id, held.c.place), parameters)]


class _Queued(NamedTuple):
    """The queued runs of a pool: their number, and since when the oldest of them has waited."""

    pool: str
    number: int
    since: datetime


def _waiting(row: _Queued, now: datetime, holding: list[HoldView]) -> WaitingRuns:
    hold = first_over([one for one in holding if one.job is None and one.category is None], "", None, row.pool)
    seconds = max(0.0, (now - row.since).total_seconds())
    return WaitingRuns(row.pool, row.number, seconds, None if hold is None else hold.sentence)


_RUN = [run.c[name] for name in columns(RunLine)]
_SEEN = job.c.category.in_(sa.select(lists.names("p_categories").c.value))


def _visible(limited: bool) -> list[sa.ColumnElement[bool]]:
    return [run.c.job.in_(sa.select(job.c.id).where(_SEEN))] if limited else []


@functools.cache
def _queries(engine: str, limited: bool) -> Queries:
    seen = _visible(limited)
    overdue = _overdue(limited)
    everything = sa.select(sa.func.count()).select_from(overdue.subquery("overdue"))
    return Queries(
        _counts(seen), _queued(seen), _running(seen), _ended(limited), _due(limited),
        _failures(engine, seen).order_by(run.c.id.desc()).limit(FAILED), _late_failures(engine, seen),
        overdue.order_by(expectation.c.overdue_at).limit(DUE), everything,
    )  # fmt: skip


def _counts(seen: Sequence[sa.ColumnElement[bool]]) -> sa.Select[Any]:
    def count(where: str) -> sa.ScalarSelect[int]:
        query = sa.select(sa.func.count()).select_from(run).with_hint(run, PASS, "mssql")
        return query.where(sa.text(where), *seen).scalar_subquery()

    return sa.select(
        utcnow().label("now"),
        count(f"state = '{RunState.BLOCKED}'").label("blocked"),
        count(f"state = '{RunState.SCHEDULED}'").label("scheduled"),
        count(f"state IN ({sql_literals(HELD)})").label("held"),
        flag(ANY).label("held_back"),
        flag(sa.exists(_first(run).where(sa.text(notes.UNACKNOWLEDGED)))).label("failed"),
        flag(sa.exists(_first(expectation).where(sa.text("overdue_at IS NOT NULL")))).label("overdue"),
    )


def _first(table: sa.Table) -> sa.Select[Any]:
    return sa.select(sa.literal_column("1")).select_from(table).with_hint(table, PASS, "mssql")


def _queued(seen: Sequence[sa.ColumnElement[bool]]) -> sa.Select[Any]:
    # The index contains only queue and id. So the time of a queue's first run comes from one more row per queue.
    first = (
        sa.select(run.c.queue, sa.func.count().label("number"), sa.func.min(run.c.id).label("first"))
        .with_hint(run, PASS, "mssql")
        .where(sa.text(f"run.state = '{RunState.QUEUED}'"), *seen)
        .group_by(run.c.queue)
        .subquery("waiting")
    )
    pool = sa.func.coalesce(queue.c.pool, first.c.queue)  # runs that are pinned to a worker have its queue alone
    return (
        sa.select(
            pool.label("pool"), sa.func.sum(first.c.number).label("number"), sa.func.min(run.c.queued_at).label("since")
        )
        .select_from(first.outerjoin(queue, queue.c.name == first.c.queue).join(run, run.c.id == first.c.first))
        .with_hint(run, PASS, "mssql")
        .group_by(pool)
        .order_by(pool)
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
        sa.select(*(schedule.c[name] for name in columns(DueSchedule)))
        .join(job, job.c.id == schedule.c.job)
        .with_hint(schedule, PASS, "mssql")
        .where(sa.text("schedule.fire_at IS NOT NULL AND schedule.paused = 0"), job.c.enabled)
        .where(*([_SEEN] if limited else []))
        .order_by(schedule.c.fire_at)
        .limit(DUE)
    )


def _failures(engine: str, seen: Sequence[sa.ColumnElement[bool]]) -> sa.Select[Any]:
    """The failures that nobody has acknowledged. A later success counts before it is recorded.

    It is recorded when it is counted, so only those that are not counted yet are read, however many came since.
    """
    later = run.alias("later")
    recovered = sa.exists(
        sa.select(later.c.id)
        .with_hint(later, PASS, "mssql")
        .where(sa.text("later.ended_at IS NOT NULL AND later.counted = 0"))
        .where(unindexed(engine, "later.job") == run.c.job, unindexed(engine, "later.id") > run.c.id)
        .where(later.c.state == RunState.SUCCEEDED)
        .where(later.c.ended_at >= run.c.ended_at)  # not one that ended while the failed run was still running
        .where(shows_recovery(engine, "later", "run"))
    )
    return sa.select(*_RUN).with_hint(run, PASS, "mssql").where(sa.text(notes.UNACKNOWLEDGED), ~recovered, *seen)


def _late_failures(engine: str, seen: Sequence[sa.ColumnElement[bool]]) -> sa.Select[Any]:
    """Those of them among the ``LATEST`` failures that ended last."""
    failed = (
        sa.select(run.c.id).with_hint(run, PASS, "mssql").where(sa.text(f"run.state IN ({sql_literals(FAILURES)})"))
    )
    latest = failed.order_by(run.c.ended_at.desc()).limit(LATEST).subquery("latest")
    return _failures(engine, seen).join(latest, latest.c.id == run.c.id).order_by(run.c.ended_at.desc()).limit(FAILED)


def _overdue(limited: bool) -> sa.Select[Any]:
    query = (
        sa.select(*expectations.OVERDUE_COLUMNS)
        .with_hint(expectation, PASS, "mssql")
        .where(expectation.c.overdue_at.is_not(None))
    )
    return query.join(job, job.c.id == expectation.c.job).where(_SEEN) if limited else query
