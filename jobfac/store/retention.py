"""Removal of finished runs that need not be kept any longer, in small transactions, off the claim's path.

A job says how long its runs are kept (``retention``); where it does not, and for jobs that are gone, the settings do.
Runs are looked at job by job from the oldest on, so that what is kept is not waded through. A run goes only after it
was counted for the statistics by day, which stay.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa

from jobfac.database import locks
from jobfac.database.dialects import PASS, SKIP, utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import attempt, job_version, run, run_event, run_output, visit, worker, worker_lease
from jobfac.database.types import sql_literals
from jobfac.definitions import Retention
from jobfac.settings import Settings
from jobfac.states import HELD, WorkerState
from jobfac.store import audit, jobs, outbox, statistics

PAGE = 100
"""Jobs looked at in one query."""

BATCH = 100
"""Rows of one table removed in one transaction at most."""

REST = 4.0
"""How long ``purge_all`` rests after a step, as a multiple of the time that it took."""


class Purged(NamedTuple):
    """How many runs were removed, whether there may be more to remove, and the id of the first that was, 0: none."""

    runs: int
    more: bool
    first: int = 0


@dataclass(frozen=True)
class Keep:
    """How long things are kept, in seconds. ``age`` and ``count`` (of a job's newest runs) where a job does not say."""

    age: float
    count: int | None = None
    statistics: float = 1095 * 86400.0
    audit: float = 1095 * 86400.0

    @classmethod
    def of(cls, settings: Settings) -> "Keep":
        """What the settings say."""
        count = settings.retention_count or None
        return cls(settings.retention, count, settings.statistics_retention, settings.audit_retention)


def purge_all(db: Database, keep: Keep) -> int:
    """Remove everything that is due to go, resting most of the time. Returns the number of runs."""
    removed = 0
    begun = time.monotonic()
    for runs in steps(db, keep):
        removed += runs
        # SQLite's writers do not queue: who asks again at once would leave a claim only the gaps.
        time.sleep(REST * (time.monotonic() - begun))
        begun = time.monotonic()
    return removed


def steps(db: Database, keep: Keep) -> Iterator[int]:
    """Like ``purge_all``, one small transaction for each step; yields the number of runs that went in it."""
    while db.transact(statistics.count) == statistics.BATCH:
        yield 0
    after: str | None = ""
    while after is not None:
        overdue, after = db.query(overdue_jobs, after, keep)
        yield 0
        for job_id, its in overdue.items():
            more = True
            while more:
                runs, more = _purge(db, job_id, its)
                yield runs
    for forget, age in (
        (forget_workers, keep.age), (outbox.forget, keep.age), (statistics.forget, keep.statistics),
        (audit.forget, keep.audit),
    ):  # fmt: skip
        more = True
        while more:
            more = db.transact(forget, age)
            yield 0


def _purge(db: Database, job_id: str, keep: Retention) -> tuple[int, bool]:
    """One transaction of ``purge``; a batch whose commit was made but not answered is counted too."""
    batches: dict[int, int] = {}

    def work(conn: sa.Connection) -> Purged:
        done = purge(conn, job_id, keep)
        batches[done.first] = done.runs  # a batch that was rolled back is found again, and begins with the same run
        return done

    more = db.transact(work).more
    return sum(batches.values()), more


def overdue_jobs(conn: sa.Connection, after: str, default: Keep) -> tuple[dict[str, Retention], str | None]:
    """Of the next jobs by id, past ``after``, those with runs to remove; and where to go on, None: at the end."""
    page = sa.select(job_version.c.job).where(job_version.c.job > after).distinct().order_by(job_version.c.job)
    some = page.limit(PAGE).subquery("page")
    ended = run.c.ended_at.is_not(None)
    oldest = sa.select(run.c.ended_at).where(run.c.job == some.c.job, ended).order_by(run.c.id).limit(1)
    query = sa.select(some.c.job, oldest.scalar_subquery().label("oldest"), utcnow().label("now"))
    rows = conn.execute(query.order_by(some.c.job)).all()
    stored = jobs.load_many(conn, [row.job for row in rows if row.oldest is not None])
    overdue = {}
    for row in rows:
        found = stored.get(row.job)
        own = found.definition.retention if isinstance(found, jobs.Stored) else None
        keep = own or Retention(age=default.age, count=default.count)
        if row.oldest is not None and (keep.count is not None or _is_too_old(row.oldest, keep, row.now)):
            overdue[row.job] = keep
    return overdue, rows[-1].job if len(rows) == PAGE else None


def purge(conn: sa.Connection, job_id: str, keep: Retention) -> Purged:
    """Remove some of a job's finished runs that are too old or too many, with everything that hangs on them.

    Runs of a sequence that is not over yet stay: its course depends on them. So do runs that are not counted yet.
    """
    finished = (run.c.job == job_id, run.c.ended_at.is_not(None))
    parent = run.alias("parent")
    unfinished = sa.exists().where(parent.c.id == run.c.sequence_run_id, parent.c.ended_at.is_(None))
    query = (
        sa.select(run.c.id, run.c.ended_at, utcnow().label("now"))
        .with_hint(run, SKIP, "mssql")
        .where(*finished, run.c.counted == sa.true(), ~unfinished)
        .order_by(run.c.id)
        .limit(BATCH)
    )
    rows = conn.execute(query).all()
    too_many = 0
    if keep.count is not None:
        surplus = sa.select(run.c.id).where(*finished).order_by(run.c.id.desc()).offset(keep.count).limit(1)
        too_many = conn.execute(surplus).scalar() or 0
    ids = [row.id for row in rows if row.id <= too_many or _is_too_old(row.ended_at, keep, row.now)]
    if not ids:
        return Purged(0, False)
    for table in (run_output, run_event, attempt, visit):
        # What hangs on a run goes first, so that nothing is left over if this is the last that happens.
        if _remove_some(conn, table, ids) == BATCH:
            return Purged(0, True)
    conn.execute(run.delete().where(run.c.id.in_(ids)))
    return Purged(len(ids), True, ids[0])


def _is_too_old(ended_at: datetime, keep: Retention, now: datetime) -> bool:
    return keep.age is not None and ended_at < now - timedelta(seconds=keep.age)


def _remove_some(conn: sa.Connection, table: sa.Table, run_ids: list[int]) -> int:
    """Delete up to one batch of the rows that hang on these runs; how many there were."""
    key = list(table.primary_key.columns)
    rows = conn.execute(sa.select(*key).where(table.c.run_id.in_(run_ids)).limit(BATCH)).mappings().all()
    if rows:
        this = [column == sa.bindparam(f"p_{column.name}", type_=column.type) for column in key]
        conn.execute(table.delete().where(*this), [{f"p_{name}": value for name, value in row.items()} for row in rows])
    return len(rows)


def forget_workers(conn: sa.Connection, age: float) -> bool:
    """Remove some workers that left or died more than ``age`` seconds ago and hold nothing; True: there may be more."""
    holds = sa.exists().where(sa.text(f"run.state IN ({sql_literals(HELD)})"), run.c.worker_id == worker.c.id)
    gone = (
        sa.select(worker.c.id, worker.c.name, worker.c.slots, worker.c.started_at, worker.c.ended_at)
        .where(worker.c.state.in_((WorkerState.STOPPED, WorkerState.DEAD)), ~holds)
        .where(worker.c.ended_at < utcnow(-age * 1000))
        .limit(BATCH)
    )
    if not conn.execute(gone.with_hint(worker, PASS, "mssql").limit(1)).first():
        return False
    locks.take(conn, {locks.DAILY})
    rows = conn.execute(gone.with_hint(worker, SKIP, "mssql")).all()
    if rows:
        statistics.count_presence(conn, rows)
        ids = [row.id for row in rows]
        conn.execute(worker_lease.delete().where(worker_lease.c.worker_id.in_(ids)))
        conn.execute(worker.delete().where(worker.c.id.in_(ids)))
    return len(rows) == BATCH
