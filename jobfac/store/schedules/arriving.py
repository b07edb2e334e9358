"""Start the jobs of files that have arrived: one run for each file, however many workers see it.

What makes a file one and the same is its path, its size and its time of modification. The table ``arrived_file`` has a
row for each file of a job that has become a run. It is written in the transaction that starts the run, under a named
lock of the job, so a crash leaves either both or neither, and of two workers the second finds the row. A file that has
gone and come back is another one (see ``departing``).
"""

import functools
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import FOUND_BY_KEY, PASS, lists, rows, utcnow
from jobfac.database.tables import WATCHED, arrived_file, job, schedule
from jobfac.definitions import Schedule
from jobfac.store import runs
from jobfac.store.history.recovery import REPEATS
from jobfac.store.holds import reading
from jobfac.store.runs import StartRequest
from jobfac.store.schedules import departing
from jobfac.store.schedules.decision import TICK, UNUSABLE, ScheduleRow, read, request
from jobfac.store.schedules.inserting import FREE_ROWS, Refusal, last_due, locked_jobs

FILES = 500
"""The maximum number of files in one transaction."""

SEEN_AGAIN = 3600.0
"""Seconds for which a file that was seen is not noted again."""

REPORTED_AGAIN = 12 * 3600.0
"""Seconds after which a worker reports the files again that were handled, so that the database knows that they are
still there."""

KEPT = 4 * REPORTED_AGAIN
"""Seconds for which a file that nobody sees is remembered at least: a worker has to report it again before, or a file
that is still there would start again."""

FORGOTTEN = 500
"""The maximum number of files that one transaction forgets."""


class WatchedSchedule(NamedTuple):
    """A schedule for whose files a worker watches. ``definition``: its rule, as ``decision.write`` stores it."""

    id: int
    job: str
    name: str
    definition: str

    @property
    def rule(self) -> Schedule | None:
        """The rule; None: it cannot be read here."""
        try:
            return read(self.definition)
        except UNUSABLE:
            return None


class ArrivedFile(NamedTuple):
    """A complete file: its path, its size in bytes, and its time of modification in whole seconds since 1970.

    Whole seconds, because a network drive does not give every machine the same fraction. ``place``: the folder in which
    it was seen, of one machine; empty: unknown.
    """

    path: str
    size: int
    modified: int
    place: str = ""

    @property
    def key(self) -> str:
        """What makes it one and the same file."""
        text = f"{self.size} {self.modified} {self.path}"
        return hashlib.sha256(text.encode()).hexdigest()


class Arrived(NamedTuple):
    """What became of files.

    Attributes:
        runs: ids of the new runs.
        handled: the runs of the files that need no more attention, by key: each is one of ``runs``, or was one before.
        refusals: why the others were not started. They may be tried again.
    """

    runs: list[int]
    handled: Mapping[str, int]
    refusals: list[Refusal]


_IS_WATCHED = sa.text(f"schedule.{WATCHED} AND paused = 0")
_WATCHED = (
    sa.select(*(schedule.c[name] for name in WatchedSchedule._fields))
    .with_hint(schedule, PASS, "mssql")
    .join(job, job.c.id == schedule.c.job)
    .with_hint(job, PASS, "mssql")
    .where(_IS_WATCHED, job.c.enabled == sa.true())
    .order_by(schedule.c.id)
)
_ROW = FREE_ROWS.where(_IS_WATCHED)


def watched(conn: sa.Connection, pools: Collection[str]) -> list[WatchedSchedule]:
    """Return the schedules for whose files the workers of these pools watch. Paused ones are not among them."""
    return [WatchedSchedule(*row) for row in conn.execute(_WATCHED.where(lists.among(schedule.c.pool, pools)))]


def start_arrived(
    conn: sa.Connection, watch: WatchedSchedule, files: Sequence[ArrivedFile], looked_at: datetime | None = None
) -> Arrived:
    """Start a run for each of up to ``FILES`` files that has not become one, or has come back since. Safe to repeat.

    Starts nothing if the schedule was changed, paused or removed since ``watch`` was read, the job is disabled, or
    another transaction holds its row or a named lock of the job: then the files are not handled.

    Args:
        looked_at: the time of the database before the worker began to look; None: unknown.
    """
    assert len(files) <= FILES
    # Named locks come before row locks. The job's lock makes two workers take turns. A worker that waited for one that
    # an open transaction holds would see no files of other jobs meanwhile.
    if not departing.take_turn(conn, watch.job) or locked_jobs(conn, [watch.job]):
        return Arrived([], {}, [])
    found = conn.execute(_ROW.where(schedule.c.id == watch.id)).first()
    if found is None or found.definition != watch.definition or not _is_enabled(conn, watch.job):
        return Arrived([], {}, [])
    keys = {file.key: file for file in files}
    known = _known(conn, watch.job, keys)
    again: Mapping[str, departing.Repeated] = {}
    if known:
        back = departing.returned(conn, watch.job, {key: one.place for key, one in keys.items()}, known, looked_at)
        again = back.files
        keys = {key: file for key, file in keys.items() if key not in back.doubtful}
        known = {key: one for key, one in known.items() if key not in again and key not in back.doubtful}
    fresh = [file for key, file in keys.items() if key not in known]
    if not fresh:
        return Arrived([], known, [])
    row = ScheduleRow(*found)
    is_held = bool(reading.over_jobs(conn, {watch.job}))  # then all files that come wait for its end
    requests = [replace(one, queues=is_held) for one in _requests(row, last_due(conn, row), fresh, again)]
    answers = runs.start_each(conn, requests)
    started = {file.key: answer for file, answer in zip(fresh, answers, strict=True) if isinstance(answer, int)}
    if started:
        departing.store(conn, [{"job": watch.job, "file_key": key, "run_id": one} for key, one in started.items()])
        last = requests[-1].due_at
        conn.execute(schedule.update().where(schedule.c.id == watch.id).values(last_due_at=last))
    refusals = [
        Refusal(watch.job, watch.name, start.due_at, f"{file.path}: {answer}")
        for file, start, answer in zip(fresh, requests, answers, strict=True)
        if isinstance(answer, Exception)
    ]
    return Arrived(list(started.values()), known | started, refusals)


def _is_enabled(conn: sa.Connection, job_id: str) -> bool:
    return bool(conn.execute(sa.select(job.c.enabled).with_hint(job, PASS, "mssql").where(job.c.id == job_id)).scalar())


def _requests(
    row: ScheduleRow, last: datetime | None, files: Sequence[ArrivedFile], again: Mapping[str, departing.Repeated]
) -> list[StartRequest]:
    """Return the start requests of files. Each has a time of its own, as an index demands.

    ``again``: by key, what the runs of those repeat that have come back.
    """
    rule = read(row.definition)
    due = row.now if last is None else max(row.now, last + TICK)
    requests = []
    for file in files:
        name = file.path.replace("\\", "/").rpartition("/")[2]
        origin: dict[str, Any] = {"due": due.astimezone(rule.zone).isoformat()}
        origin |= {"path": file.path, "name": name, "size": file.size}
        former = again.get(file.key) if again else None
        if former is not None:
            origin[REPEATS] = former.first
        one = request(rule, row, due, origin)
        requests.append(one if former is None else replace(one, retry_of=former.run_id))
        due += TICK
    return requests


def _known(conn: sa.Connection, job_id: str, keys: Collection[str]) -> dict[str, int]:
    """Return the runs of the files that have become runs before, by key, and note that they are still there."""
    given = {**rows.rows_parameter({"file_key": key} for key in keys), "p_job": job_id}
    found = conn.execute(_find(conn.dialect.name), given).all()
    if any(row.is_old for row in found):
        conn.execute(_see(conn.dialect.name), given)
    return {row.file_key: row.run_id for row in found}


@functools.cache
def _find(engine: str) -> sa.Select[Any]:
    is_old = sa.case((arrived_file.c.seen_at < utcnow(-SEEN_AGAIN * 1000), 1), else_=0).label("is_old")
    query = sa.select(arrived_file.c.file_key, arrived_file.c.run_id, is_old)
    return query.with_hint(arrived_file, FOUND_BY_KEY, "mssql").where(*departing.is_given(engine))


@functools.cache
def _see(engine: str) -> sa.Update:
    change = arrived_file.update().where(*departing.is_given(engine))
    return rows.by_primary_key(change.values(seen_at=utcnow()), arrived_file)


# What was seen just now does not count: workers that come back after an outage report the files one after another.
_LAST = (
    sa.select(sa.func.max(arrived_file.c.seen_at))
    .with_hint(arrived_file, PASS, "mssql")
    .where(arrived_file.c.job == sa.bindparam("p_job"), arrived_file.c.seen_at < utcnow(-2 * SEEN_AGAIN * 1000))
)
_UNSEEN = sa.exists(
    sa.select(schedule.c.id)
    .with_hint(schedule, PASS, "mssql")
    .where(schedule.c.job == arrived_file.c.job, sa.text(f"schedule.{WATCHED}"))
    .where(sa.or_(schedule.c.paused == sa.true(), schedule.c.resumed_at > utcnow(-2 * SEEN_AGAIN * 1000)))
)
"""Condition on a file: its job has a schedule for whose files nobody looks, or not for long."""

_OVERDUE = (
    sa.select(arrived_file.c.job, sa.func.max(job.c.id).label("known"), utcnow().label("now"))
    .with_hint(arrived_file, PASS, "mssql")
    .outerjoin(job, job.c.id == arrived_file.c.job)
    .where(~_UNSEEN)
    .group_by(arrived_file.c.job)
    .order_by(arrived_file.c.job)
)


def forget(conn: sa.Connection, age: float) -> bool:
    """Forget up to ``FORGOTTEN`` files that no worker has seen for ``age`` seconds while it saw others of the job.

    Not before ``KEPT``. While a schedule is paused, its job is disabled or no worker runs, nobody sees any. Then none
    is forgotten, or all of them would start again. Returns True if there may be more.
    """
    age = max(age, KEPT)
    overdue = _OVERDUE.having(sa.func.min(arrived_file.c.seen_at) < utcnow(-age * 1000))
    for row in conn.execute(overdue).all():
        last = conn.execute(_LAST, {"p_job": row.job}).scalar_one() if row.known else row.now
        if last is None:  # somebody is just writing those rows
            continue
        query = (
            sa.select(arrived_file.c.job, arrived_file.c.file_key)
            .with_hint(arrived_file, PASS, "mssql")
            .where(arrived_file.c.job == row.job, arrived_file.c.seen_at < last - timedelta(seconds=age))
            .limit(FORGOTTEN)
        )
        if found := conn.execute(query).mappings().all():
            return rows.delete(conn, arrived_file, found) > 0
    return False
