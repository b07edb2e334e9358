"""Read the data of the reports from the database, with one query per function."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import current_time
from jobfac.database.tables import attempt, daily_worker, job, run, worker, worker_lease
from jobfac.database.tables import daily as daily_table
from jobfac.database.types import sql_literals
from jobfac.errors import LIST_JOBS, NotFound
from jobfac.reports.measures import by_job
from jobfac.states import ACTIVE, FAILURES, FINAL
from jobfac.store import statistics
from jobfac.store.history import totals as by_day
from jobfac.store.history.totals import DailyTotals, EndedRun, Execution, Presence, Work

EARLIEST = date(1970, 1, 1)
"""The earliest first day. There are no runs before it, and a report also reads the period before its own."""

JobFilter = Callable[[str], bool]

NUMBERS = [field.name for field in fields(DailyTotals) if field.name != "states"]

TRIES = 10
"""The maximum number of times that the statistics are read because a scheduler is adding to them."""


@dataclass(frozen=True)
class Period:
    """The first and the last day (UTC, both included) of a report, and the time at which it is made."""

    since: date
    until: date
    now: datetime

    @property
    def days(self) -> list[date]:
        """All days of the period, in order."""
        return [self.since + timedelta(days=number) for number in range((self.until - self.since).days + 1)]

    @property
    def before(self) -> date:
        """The first day of the preceding period of the same length."""
        return self.since - (self.until - self.since) - timedelta(days=1)


class Latest(NamedTuple):
    """The last run of a job that ended in a certain failure state."""

    run_id: int
    ended_at: datetime
    reason: str | None


@dataclass(frozen=True)
class Facts:
    """The data of all reports about a period.

    Attributes:
        jobs: the category of each defined job, by job id.
        runs: totals by day and job.
        before: the same for the preceding period of the same length.
        work: by day and worker, for all jobs.
        latest: the last failures that are still stored, by job and state.
        filter_text: the filter, such as "job load"; empty: all jobs.
    """

    period: Period
    jobs: Mapping[str, str | None]
    runs: Mapping[tuple[date, str], DailyTotals]
    before: Mapping[tuple[date, str], DailyTotals]
    work: Mapping[tuple[date, str], Work]
    latest: Mapping[tuple[str, str], Latest]
    filter_text: str = ""

    @cached_property
    def by_job(self) -> Mapping[str, DailyTotals]:
        """The totals of each job over all days, ordered by job."""
        return by_job(self.runs)

    @cached_property
    def before_by_job(self) -> Mapping[str, DailyTotals]:
        """The same for the preceding period."""
        return by_job(self.before)


def period(conn: sa.Connection, since: date | None = None, until: date | None = None) -> Period:
    """Return the period from ``since`` (default: 29 days before ``until``) to ``until`` (default: today)."""
    now = current_time(conn)
    until = min(until or now.date(), now.date())
    return Period(min(since or until - timedelta(days=29), until), until, now)


def facts(conn: sa.Connection, when: Period, job_id: str | None = None, category: str | None = None) -> Facts:
    """Read the data of a period, of all jobs, one job or the jobs of one category.

    Raises:
        NotFound: the job is not defined and did not run in the period, or no job has the category.
    """
    categories = _categories(conn)
    if category is not None and category not in categories.values():
        raise NotFound(f"No job is of the category '{category}'; {{way}} shows the categories.", LIST_JOBS)

    def is_included(name: str) -> bool:
        return job_id in (None, name) and category in (None, categories.get(name))

    totals, work = _statistics(conn, when, is_included)
    if job_id is not None and job_id not in categories and not totals:
        raise NotFound(f"There is no job '{job_id}', and none of that name ran; {{way}} shows the jobs.", LIST_JOBS)
    return Facts(
        period=when,
        jobs={name: of_job for name, of_job in categories.items() if is_included(name)},
        runs={key: of_day for key, of_day in totals.items() if when.since <= key[0] <= when.until},
        before={key: of_day for key, of_day in totals.items() if when.before <= key[0] < when.since},
        work={key: of_day for key, of_day in work.items() if when.since <= key[0] <= when.until},
        latest=_latest(conn, when, is_included),
        filter_text=f"job {job_id}" if job_id else f"category {category}" if category else "",
    )


def _statistics(
    conn: sa.Connection, when: Period, is_included: JobFilter
) -> tuple[dict[tuple[date, str], DailyTotals], dict[tuple[date, str], Work]]:
    """Return totals by day and job, and work by day and worker, including runs that are not counted yet."""
    for _ in range(TRIES):
        recent = [EndedRun(*row) for row in conn.execute(statistics.uncounted())]
        executions = [Execution(*row) for row in conn.execute(statistics.uncounted_executions())]
        totals, work = _counted(conn, when, is_included), _counted_work(conn, when)
        # A run that is counted between these queries would be included twice, unless the transaction is a snapshot.
        still_uncounted = {row.id for row in conn.execute(statistics.uncounted())}
        if all(row.id in still_uncounted for row in recent):
            break
    for key, more in by_day.totals(row for row in recent if is_included(row.job)).items():
        totals.setdefault(key, DailyTotals()).add(more)
    for parts in (by_day.work(executions), _under_way(conn, when), by_day.presence(_workers(conn, when))):
        for key, part in parts.items():
            work.setdefault(key, Work()).add(part)
    return totals, work


def _categories(conn: sa.Connection) -> dict[str, str | None]:
    return {row.id: row.category for row in conn.execute(sa.select(job.c.id, job.c.category))}


def _counted(conn: sa.Connection, when: Period, is_included: JobFilter) -> dict[tuple[date, str], DailyTotals]:
    """Return the stored statistics by day and job, from the beginning of the preceding period."""
    query = sa.select(daily_table).where(daily_table.c.day >= when.before, daily_table.c.day <= when.until)
    totals = {}
    words = [state.value for state in sorted(FINAL)]
    columns: list[sa.ColumnElement[Any]] = [daily_table.c[name] for name in ("day", "job", *words, *NUMBERS)]
    columns[2 + len(words) + NUMBERS.index("cpu_ms")] = sa.func.coalesce(daily_table.c.cpu_ms, 0)
    where = 2 + len(words)
    for part in conn.execute(query.with_only_columns(*columns)).partitions(1000):  # there may be hundreds of thousands
        for row in part:
            if is_included(row[1]):
                totals[row[0], row[1]] = DailyTotals(dict(zip(words, row[2:where], strict=True)), *row[where:])
    return totals


def _counted_work(conn: sa.Connection, when: Period) -> dict[tuple[date, str], Work]:
    """Return the stored statistics by day and worker."""
    query = sa.select(daily_worker).where(daily_worker.c.day >= when.since, daily_worker.c.day <= when.until)
    return {(row.day, row.worker): Work(row.attempts, row.busy_ms, row.slot_ms) for row in conn.execute(query)}


def _latest(conn: sa.Connection, when: Period, is_included: JobFilter) -> dict[tuple[str, str], Latest]:
    """Return the last stored failure of each job and state."""
    failed = sa.text(f"run.state IN ({sql_literals(FAILURES)})")
    begin, end = _bounds(when)
    last = sa.select(sa.func.max(run.c.id).label("id")).where(failed, run.c.ended_at >= begin, run.c.ended_at < end)
    chosen = last.group_by(run.c.job, run.c.state).subquery("chosen")
    query = sa.select(run.c.id, run.c.job, run.c.state, run.c.ended_at, run.c.reason)
    return {
        (row.job, row.state): Latest(row.id, row.ended_at, row.reason)
        for row in conn.execute(query.join(chosen, chosen.c.id == run.c.id))
        if is_included(row.job)
    }


def _under_way(conn: sa.Connection, when: Period) -> dict[tuple[date, str], Work]:
    """Return the executions of runs that have not ended, by day and worker; those that still run count until now.

    A run that is retried has ended executions, too, and ``run.started_at`` is the start of the first one.
    """
    query = (
        sa.select(*statistics.EXECUTION)
        .select_from(attempt.join(run, run.c.id == attempt.c.run_id))
        .where(sa.text(f"run.state IN ({sql_literals(ACTIVE)})"), run.c.attempt > 0)
    )
    executions = [Execution(*row) for row in conn.execute(query)]
    found = by_day.work(one for one in executions if one.ended_at is not None)
    for one in executions:
        if one.ended_at is None:
            for day, milliseconds in by_day.shares(one.started_at, when.now):
                found.setdefault((day, one.worker), Work()).busy_ms += (one.slots or 1) * milliseconds
    return found


def _workers(conn: sa.Connection, when: Period) -> list[Presence]:
    """Return when each worker was present in the period. A worker without heartbeats counts until its lease ends."""
    columns = (worker.c.name, worker.c.slots, worker.c.started_at, worker.c.ended_at, worker_lease.c.lease_until)
    begin, _ = _bounds(when)
    query = (
        sa.select(*columns)
        .join(worker_lease, worker_lease.c.worker_id == worker.c.id)
        .where(sa.or_(worker.c.ended_at.is_(None), worker.c.ended_at >= begin))
    )
    return [
        Presence(row.name, row.slots, max(row.started_at, begin), row.ended_at or min(row.lease_until, when.now))
        for row in conn.execute(query)
    ]


def _bounds(when: Period) -> tuple[datetime, datetime]:
    """Return the instants at which the period begins and ends."""
    begin = datetime(when.since.year, when.since.month, when.since.day, tzinfo=UTC)
    return begin, begin + timedelta(days=len(when.days))
