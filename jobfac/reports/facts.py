"""What the reports rest on, read from the database: one query per function."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import utcnow
from jobfac.database.tables import daily as daily_table
from jobfac.database.tables import daily_worker, job, run, worker, worker_lease
from jobfac.database.types import sql_literals
from jobfac.errors import NotFound
from jobfac.states import FAILURES, FINAL, HELD
from jobfac.store import statistics
from jobfac.store.statistics import DailyTotals, Work

EARLIEST = date(1970, 1, 1)
"""The earliest first day. There are no runs before it, and a report also reads the period before its own."""

Wanted = Callable[[str], bool]

NUMBERS = [one.name for one in fields(DailyTotals) if one.name != "states"]

TRIES = 10
"""How often the statistics are read at most, while they are being added to."""


@dataclass(frozen=True)
class Period:
    """The days (UTC) that a report is about, both included, and the moment at which it is made."""

    since: date
    until: date
    now: datetime

    @property
    def days(self) -> list[date]:
        """Every day of it."""
        return [self.since + timedelta(days=number) for number in range((self.until - self.since).days + 1)]

    @property
    def before(self) -> date:
        """The first day of the period of the same length that comes before."""
        return self.since - (self.until - self.since) - timedelta(days=1)


class Latest(NamedTuple):
    """The last of the runs of a job that ended in the same bad way."""

    run_id: int
    ended_at: datetime
    reason: str | None


@dataclass(frozen=True)
class Facts:
    """What happened in a period, and by day and job in the one before it."""

    period: Period
    jobs: Mapping[str, str | None]  # its category, of each job that is defined
    runs: Mapping[tuple[date, str], DailyTotals]
    before: Mapping[tuple[date, str], DailyTotals]
    work: Mapping[tuple[date, str], Work]  # by day and worker, of all jobs
    latest: Mapping[tuple[str, str], Latest]  # by job and state, of runs that are kept
    only: str = ""  # what was asked for, in words; "": everything


def period(conn: sa.Connection, since: date | None = None, until: date | None = None) -> Period:
    """The days from ``since`` (default: 30 days, today included) to ``until`` (default: today)."""
    now = conn.execute(sa.select(utcnow())).scalar_one()
    until = min(until or now.date(), now.date())
    return Period(min(since or until - timedelta(days=29), until), until, now)


def facts(conn: sa.Connection, when: Period, job_id: str | None = None, category: str | None = None) -> Facts:
    """Everything about the period, of one job or of the jobs of a category if these are given.

    Raises:
        NotFound: no such job was ever run or is defined, or no job is of that category.
    """
    categories = _categories(conn)
    if category is not None and category not in categories.values():
        raise NotFound(f"No job is of the category '{category}'; `jobfac jobs list` shows the categories.")

    def wanted(name: str) -> bool:
        return job_id in (None, name) and category in (None, categories.get(name))

    found, work = _statistics(conn, when, wanted)
    if job_id is not None and job_id not in categories and not found:
        raise NotFound(f"There is no job '{job_id}', and none of that name ran; `jobfac jobs list` shows the jobs.")
    return Facts(
        period=when,
        jobs={name: its for name, its in categories.items() if wanted(name)},
        runs={key: tally for key, tally in found.items() if when.since <= key[0] <= when.until},
        before={key: tally for key, tally in found.items() if when.before <= key[0] < when.since},
        work={key: its for key, its in work.items() if when.since <= key[0] <= when.until},
        latest=_latest(conn, when, wanted),
        only=f"job {job_id}" if job_id else f"category {category}" if category else "",
    )


def _statistics(
    conn: sa.Connection, when: Period, wanted: Wanted
) -> tuple[dict[tuple[date, str], DailyTotals], dict[tuple[date, str], Work]]:
    """Runs by day and job, and work by day and worker: what is counted, and what is not yet."""
    for _ in range(TRIES):
        recent = conn.execute(statistics.uncounted()).all()
        executions = conn.execute(statistics.uncounted_executions()).all()
        found, work = _counted(conn, when, wanted), _counted_work(conn, when)
        # Without snapshots, what is counted between these queries would be in here twice.
        still = {row.id for row in conn.execute(statistics.uncounted())}
        if all(row.id in still for row in recent):
            break
    for key, tally in statistics.tally(row for row in recent if wanted(row.job)).items():
        found.setdefault(key, DailyTotals()).add(tally)
    for more in (statistics.work(executions), _going_on(conn, when), statistics.presence(_workers(conn, when))):
        for key, its in more.items():
            work.setdefault(key, Work()).add(its)
    return found, work


def _categories(conn: sa.Connection) -> dict[str, str | None]:
    return {row.id: row.category for row in conn.execute(sa.select(job.c.id, job.c.category))}


def _counted(conn: sa.Connection, when: Period, wanted: Wanted) -> dict[tuple[date, str], DailyTotals]:
    """The statistics by day and job, from the beginning of the period before."""
    query = sa.select(daily_table).where(daily_table.c.day >= when.before, daily_table.c.day <= when.until)
    found = {}
    for row in conn.execute(query).mappings():
        if wanted(row["job"]):
            states = {state.value: row[state.value] for state in sorted(FINAL)}
            found[row["day"], row["job"]] = DailyTotals(states, **{name: row[name] for name in NUMBERS})
    return found


def _counted_work(conn: sa.Connection, when: Period) -> dict[tuple[date, str], Work]:
    """The statistics by day and worker."""
    query = sa.select(daily_worker).where(daily_worker.c.day >= when.since, daily_worker.c.day <= when.until)
    return {(row.day, row.worker): Work(row.attempts, row.busy_ms, row.slot_ms) for row in conn.execute(query)}


def _latest(conn: sa.Connection, when: Period, wanted: Wanted) -> dict[tuple[str, str], Latest]:
    """The last failure of each kind of each job, of those that are kept."""
    failed = sa.text(f"run.state IN ({sql_literals(FAILURES)})")
    begin, end = _bounds(when)
    last = sa.select(sa.func.max(run.c.id).label("id")).where(failed, run.c.ended_at >= begin, run.c.ended_at < end)
    chosen = last.group_by(run.c.job, run.c.state).subquery("chosen")
    query = sa.select(run.c.id, run.c.job, run.c.state, run.c.ended_at, run.c.reason)
    return {
        (row.job, row.state): Latest(row.id, row.ended_at, row.reason)
        for row in conn.execute(query.join(chosen, chosen.c.id == run.c.id))
        if wanted(row.job)
    }


def _going_on(conn: sa.Connection, when: Period) -> dict[tuple[date, str], Work]:
    """The executions that go on, up to now."""
    query = sa.select(run.c.worker, run.c.started_at).where(
        sa.text(f"run.state IN ({sql_literals(HELD)})"), run.c.worker.is_not(None)
    )
    found: dict[tuple[date, str], Work] = {}
    for row in conn.execute(query):
        for day, milliseconds in statistics.shares(row.started_at, when.now):
            found.setdefault((day, row.worker), Work()).busy_ms += milliseconds
    return found


def _workers(conn: sa.Connection, when: Period) -> list[SimpleNamespace]:
    """The workers that were there in the period; one that is silent was there to the end of its lease."""
    columns = (worker.c.name, worker.c.slots, worker.c.started_at, worker.c.ended_at, worker_lease.c.lease_until)
    begin, _ = _bounds(when)
    query = (
        sa.select(*columns)
        .join(worker_lease, worker_lease.c.worker_id == worker.c.id)
        .where(sa.or_(worker.c.ended_at.is_(None), worker.c.ended_at >= begin))
    )
    return [
        SimpleNamespace(
            name=row.name,
            slots=row.slots,
            started_at=max(row.started_at, begin),
            ended_at=row.ended_at or min(row.lease_until, when.now),
        )
        for row in conn.execute(query)
    ]


def _bounds(when: Period) -> tuple[datetime, datetime]:
    """When the period begins, and when it is over."""
    begin = datetime(when.since.year, when.since.month, when.since.day, tzinfo=UTC)
    return begin, begin + timedelta(days=len(when.days))
