"""Remove finished runs after their retention, in small transactions that do not slow down claims.

A job defines how long its runs are kept (``retention``), also after it was deleted or renamed. The settings apply to
jobs without this definition. A purge reads the runs of each job from the oldest on, so it does not read the runs that
are kept. A run is removed only after it was counted in the daily statistics. The statistics stay.
"""

import functools
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database import locks
from jobfac.database.dialects import CLAIMING, DIRTY, FOUND_BY_KEY, IS_ALIVE, PASS, SKIP, utcnow
from jobfac.database.dialects.rows import delete, rows_parameter, rows_table
from jobfac.database.engine import Database
from jobfac.database.tables import (
    attempt,
    job,
    job_version,
    note,
    run,
    run_event,
    run_output,
    visit,
    worker,
    worker_lease,
)
from jobfac.database.types import BigId, sql_literals
from jobfac.definitions import DefinitionError, Retention
from jobfac.settings import Settings
from jobfac.states import FAILED, HELD, RunState, WorkerState
from jobfac.store import audit, jobs, outbox, retaining, statistics, upstream
from jobfac.store.history.recovery import has_worked, is_of_backfill
from jobfac.store.history.totals import Presence
from jobfac.store.holds import placing
from jobfac.store.runs.subscribers import JUDGED
from jobfac.store.schedules import arriving, pausing

PAGE = 100
"""The number of jobs that one query reads."""

BATCH = 100
"""The maximum number of rows of one table that one transaction removes."""

REST = 4.0
"""The pause of ``purge_all`` after a step, as a multiple of the step's duration."""

LONGEST_REST = 1.0
"""The maximum pause in seconds: a step that took long has waited for a lock, and kept nobody waiting meanwhile."""


REMEMBERED = timedelta(days=1)
"""How long a run that was started with a key is kept after its end, at least: its row is what remembers the key."""

WORKER_RETURNS = timedelta(days=7)
"""How long after its end a worker may come back under its name. Later, nothing waits for its next success."""

SILENCE = timedelta(days=1)
"""How old the newest run is if nobody uses the factory, or if the database's clock is ahead."""

DOUBTFUL = timedelta(hours=6)
"""How long nothing is removed if a clock may be wrong. What was removed does not come back when it is right again."""


class Purged(NamedTuple):
    """The number of removed runs, whether there may be more, and the id of the first removed run (0: none)."""

    runs: int
    more: bool
    first: int = 0


@dataclass(frozen=True)
class Keep:
    """Retention times in seconds.

    ``age`` and ``count`` (the number of a job's newest runs to keep) apply to jobs that define no retention.
    """

    age: float
    count: int | None = None
    statistics: float = 1095 * 86400.0
    audit: float = 1095 * 86400.0

    @classmethod
    def of(cls, settings: Settings) -> "Keep":
        """Return the retention that the settings define."""
        count = settings.retention_count or None
        return cls(settings.retention, count, settings.statistics_retention, settings.audit_retention)


class Overdue(NamedTuple):
    """How long the runs of a job are kept.

    ``latest``: so many of its latest runs that show whether it works stay, since it pauses its schedules by them, and
    beside them its last success, and its last failure until a success follows. None: the job is gone, and nothing needs
    its runs.
    """

    keep: Retention
    latest: int | None = None


class Removed(NamedTuple):
    """The number of removed runs, and whether there may be more."""

    removed: int
    more: bool


def is_silent(conn: sa.Connection) -> bool:
    """Whether the newest run was created more than a day ago.

    Nobody has used the factory since, or the database's clock is ahead, as one that was not set yet.
    """
    newest = sa.select(run.c.created_at, utcnow().label("now")).with_hint(run, PASS, "mssql")
    row = conn.execute(newest.order_by(run.c.id.desc()).limit(1)).first()
    return row is not None and row.now - row.created_at > SILENCE


def purge_all(db: Database, keep: Keep, seconds: float | None = None) -> Removed:
    """Remove everything whose retention is over, with a pause after each step.

    ``seconds``: about the longest time that it takes; None: to the end.
    """
    removed = 0
    began = begun = time.monotonic()
    for runs in steps(db, keep):
        removed += runs
        if seconds is not None and time.monotonic() - began > seconds:
            return Removed(removed, True)
        # SQLite does not queue its writers. Without a pause, a claim would rarely get the write lock.
        time.sleep(min(REST * (time.monotonic() - begun), LONGEST_REST))
        begun = time.monotonic()
    return Removed(removed, False)


def steps(db: Database, keep: Keep, retry_for: float = 15.0) -> Iterator[int]:
    """Do the work of ``purge_all`` in small transactions. Yields after each step the number of runs it removed.

    ``retry_for``: as in ``Database.transact``.
    """
    while db.transact(statistics.count, retry_for=retry_for) == statistics.BATCH:
        yield 0
    after: str | None = ""
    while after is not None:
        overdue, after = db.query(overdue_jobs, after, keep)
        yield 0
        for job_id, its in overdue.items():
            more = True
            while more:
                runs, more = _purge(db, job_id, its, retry_for)
                yield runs
    for forget, age in (
        (forget_workers, keep.age), (outbox.forget, keep.age), (placing.forget, keep.age), (arriving.forget, keep.age),
        (upstream.forget_orphans, 0.0), (pausing.forget_surplus, 0.0),
        (statistics.forget, keep.statistics), (audit.forget, keep.audit),
    ):  # fmt: skip
        more = True
        while more:
            more = db.transact(forget, age, retry_for=retry_for)
            yield 0


def _purge(db: Database, job_id: str, its: Overdue, retry_for: float) -> tuple[int, bool]:
    """Run ``purge`` in one transaction. Also counts a batch whose commit succeeded but got no answer."""
    batches: dict[int, int] = {}

    def work(conn: sa.Connection) -> Purged:
        done = purge(conn, job_id, its.keep, its.latest)
        batches[done.first] = done.runs  # a batch that was rolled back is read again and begins with the same run
        return done

    more = db.transact(work, retry_for=retry_for).more
    return sum(batches.values()), more


def overdue_jobs(conn: sa.Connection, after: str, default: Keep) -> tuple[dict[str, Overdue], str | None]:
    """Return the jobs that have runs to remove, among the next page of job ids after ``after``.

    The second value is the id from which to continue; None: there are no more jobs.
    """
    page = sa.select(job_version.c.job).where(job_version.c.job > after).distinct().order_by(job_version.c.job)
    some = page.limit(PAGE).subquery("page")
    # Not those that ended while the clock was ahead: the first of them would keep all that came after it.
    ended = run.c.ended_at <= utcnow()
    oldest = sa.select(run.c.ended_at).where(run.c.job == some.c.job, ended).order_by(run.c.id).limit(1)
    # The database decides which job it is: its collation may treat ids as equal that differ in case.
    now = (utcnow().label("now"), job.c.id.label("current"))
    last = sa.select(sa.func.max(job_version.c.version)).where(job_version.c.job == some.c.job).scalar_subquery()
    query = sa.select(some.c.job, oldest.scalar_subquery().label("oldest"), last.label("last"), *now)
    rows = conn.execute(query.outerjoin(job, job.c.id == some.c.job).order_by(some.c.job)).all()
    stored = jobs.load_many(conn, [row.current for row in rows if row.oldest is not None and row.current is not None])
    overdue = {}
    for row in rows:
        if row.oldest is None:
            continue
        # The last definition of a job that is gone still says how long its runs are kept.
        found = jobs.find_version(conn, row.job, row.last) if row.current is None else stored.get(row.current)
        if found is None or (isinstance(found, DefinitionError) and _has_retention(conn, row.job, row.last)):
            continue  # it has just been deleted, or a newer version knows how long
        definition = found.definition if isinstance(found, jobs.Stored) else found
        own = None if isinstance(definition, DefinitionError) else definition
        keep = (own and own.retention) or Retention(age=default.age, count=default.count)
        if keep.count is not None or _is_too_old(row.oldest, keep, row.now):
            overdue[row.job] = Overdue(keep, None if row.current is None else (own and own.pause_after) or 0)
    return overdue, rows[-1].job if len(rows) == PAGE else None


def _has_retention(conn: sa.Connection, job_id: str, version: int) -> bool:
    return jobs.version_body(conn, job_id, version).get("retention") is not None


def purge(conn: sa.Connection, job_id: str, keep: Retention, latest: int | None = None) -> Purged:
    """Remove some of a job's finished runs that are too old or too many, with their dependent rows.

    Runs of an unfinished sequence stay, because its next steps depend on them, and so do those that it continues. Runs
    that are not counted yet stay too, those with a key that ended within ``REMEMBERED``, those that retried a run that
    is there, those whose events were not addressed yet, and those that the job needs (``latest``, see ``Overdue``).
    """
    finished = (run.c.job == job_id, run.c.ended_at.is_not(None))
    parent = run.alias("parent")
    unfinished = sa.exists().where(parent.c.id == run.c.sequence_run_id, parent.c.ended_at.is_(None))
    former = run.alias("former")
    # Otherwise a retry of many runs would retry that one again.
    is_remembered = sa.select(former.c.id).with_hint(former, DIRTY, "mssql").where(former.c.id == run.c.retry_of)
    too_many = 0
    if keep.count is not None:
        surplus = sa.select(run.c.id).where(*finished).order_by(run.c.id.desc()).offset(keep.count).limit(1)
        too_many = conn.execute(surplus).scalar() or 0
    has_ended = sa.or_(run.c.ended_at <= utcnow(), run.c.id <= too_many)  # see ``overdue_jobs``
    is_forgettable = sa.or_(run.c.start_key.is_(None), run.c.ended_at < utcnow(-REMEMBERED.total_seconds() * 1000))
    query = (
        sa.select(run.c.id, run.c.state, run.c.ended_at, utcnow().label("now"))
        .with_hint(run, CLAIMING, "mssql")
        .where(*finished, has_ended, run.c.counted == sa.true(), ~unfinished, is_forgettable, ~is_remembered.exists())
        .where(*retaining.needed_elsewhere(conn))
        .where(*([] if latest is None else [~_is_last(), run.c.id < _first_of_latest(conn, job_id, latest)]))
        .order_by(run.c.id)
        .limit(BATCH)
    )
    rows = conn.execute(query).all()
    ids = [row.id for row in rows if row.id <= too_many or _is_too_old(row.ended_at, keep, row.now)]
    if not ids:
        return Purged(0, False)
    for table in (run_output, run_event, attempt, visit, note):
        # Dependent rows go first, so an interrupted purge leaves no orphans. Events go before visits: a sequence
        # without events is not continued, because its visits may be incomplete.
        if _remove_some(conn, table, ids) == BATCH:
            return Purged(0, True)
    delete(conn, run, [{"id": run_id} for run_id in ids])
    return Purged(len(ids), True, ids[0])


def _is_last() -> sa.ColumnElement[bool]:
    """The condition that a run is the last success of its job, or its last failure if no success has followed.

    ``expect`` and ``${previous.success}`` look at the first one; after the second one comes the recovery. They pass
    over a later sequence that has skipped all of its steps. Of runs that were for one worker, it is the last one for
    that worker, if that is there or may come back. New workers with new names come all the time where machines are
    added and removed automatically, and each would leave runs for good.
    """
    later = run.alias("later")
    failed = sql_literals(FAILED)
    is_alike = f"later.state = '{RunState.SUCCEEDED}' OR run.state IN ({failed}) AND later.state IN ({failed})"
    back_since = utcnow(-WORKER_RETURNS.total_seconds() * 1000)
    there = sa.select(worker.c.name).with_hint(worker, DIRTY, "mssql")
    there = there.where(sa.or_(IS_ALIVE, worker.c.ended_at >= back_since))
    is_for_same = sa.or_(
        run.c.for_worker.is_(None), later.c.for_worker == run.c.for_worker, run.c.for_worker.not_in(there)
    )
    # A run that is locked, and so passed over, keeps one that is not the last.
    others = (
        sa.select(later.c.id).with_hint(later, PASS, "mssql").where(later.c.job == run.c.job, later.c.id > run.c.id)
    )
    shows_as_much = sa.or_(later.c.state != RunState.SUCCEEDED, has_worked(later), ~has_worked())
    has_later = others.where(sa.text(f"({is_alike})"), is_for_same, shows_as_much).correlate(run).exists()
    return sa.and_(sa.text(f"run.state IN ({sql_literals({RunState.SUCCEEDED, *FAILED})})"), ~has_later)


def _first_of_latest(conn: sa.Connection, job_id: str, number: int) -> int:
    """Return the id of the first of a job's latest ``number`` runs that show whether it works."""
    if not number:
        return sys.maxsize
    judged = sa.select(run.c.id).where(run.c.job == job_id, sa.text(f"run.state IN ({sql_literals(JUDGED)})"))
    judged = judged.where(~is_of_backfill(conn.dialect.name))  # as ``pause_after`` counts
    return conn.execute(judged.order_by(run.c.id.desc()).offset(number - 1).limit(1)).scalar() or 0


def _is_too_old(ended_at: datetime, keep: Retention, now: datetime) -> bool:
    return keep.age is not None and ended_at < now - timedelta(seconds=keep.age)


def _remove_some(conn: sa.Connection, table: sa.Table, run_ids: list[int]) -> int:
    """Delete up to ``BATCH`` rows of ``table`` that belong to these runs. Returns the number of deleted rows."""
    query, owners = _dependent(conn.dialect.name, table), rows_parameter({"owner": run_id} for run_id in run_ids)
    return delete(conn, table, conn.execute(query, owners).mappings().all())


@functools.cache
def _dependent(engine: str, table: sa.Table) -> sa.Select[Any]:
    """Return the query of the primary keys of up to ``BATCH`` rows that belong to the runs in the parameter."""
    given = rows_table(engine, owner=BigId)
    theirs = table.join(given, table.c.run_id == given.c.owner)
    found = sa.select(*table.primary_key.columns).select_from(theirs).limit(BATCH)
    return found.with_hint(table, FOUND_BY_KEY, "mssql")


def forget_workers(conn: sa.Connection, age: float) -> bool:
    """Remove up to ``BATCH`` workers that stopped or died more than ``age`` seconds ago and hold no run.

    Returns True if there may be more.
    """
    holds = sa.exists().where(sa.text(f"run.state IN ({sql_literals(HELD)})"), run.c.worker_id == worker.c.id)
    gone = (
        sa.select(worker.c.id, worker.c.name, worker.c.slots, worker.c.started_at, worker.c.ended_at)
        .where(sa.text(f"worker.state IN ({sql_literals((WorkerState.STOPPED, WorkerState.DEAD))})"), ~holds)
        .where(worker.c.ended_at < utcnow(-age * 1000))
        .limit(BATCH)
    )
    if not conn.execute(gone.with_hint(worker, PASS, "mssql").limit(1)).first():
        return False
    locks.take(conn, {locks.DAILY})
    rows = conn.execute(gone.with_hint(worker, SKIP, "mssql")).all()
    if rows:
        present = [Presence(row.name, row.slots, row.started_at, row.ended_at) for row in rows]
        statistics.count_presence(conn, present)
        delete(conn, worker_lease, [{"worker_id": row.id} for row in rows])
        delete(conn, worker, [{"id": row.id} for row in rows])
    return len(rows) == BATCH
