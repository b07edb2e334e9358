"""Note which files have gone from their folders, so that one that comes back starts a run.

A file has become a run. A worker that knows this has seen the file, and after the end of that run it sees for a while
that the file is gone. Then it stores a note: a row of ``arrived_file`` whose key is made of the file and of the place,
and which names that run. If a worker sees the file again in the same place, the file has come back, and becomes another
run.

Only a run that did not succeed leaves such a note. What has succeeded must not be done twice, because a mirror brings
back what the job has removed. Nor does a run of a job with ``each_worker``: other workers may have succeeded.

This cannot start a file twice for one arrival:

- A note only counts with the run that it names. The first worker that starts the returned file stores the new run,
  under the named lock of the job, and so ends all notes about the former one, whichever worker wrote them or is just
  about to write one.
- A place is a folder of one machine. What is gone from the disk of one machine says nothing about a folder of the same
  path on another one, or about a file that is sent there later. A drive that is not mounted is another folder.
- A run or a retry that moves its file away and back again is not over meanwhile. Only what a worker has seen after
  their end counts, by the time that the database had before the worker began to look.
- A worker that was stopped for hours reports what it saw before. It began to look before the note was written, so its
  report starts nothing.
- The new run is stored as a retry of the former one, so nobody retries that while the new one has not ended, also not
  with many others. A retry of any of the file's runs counts: a person who retries the first one puts the file back for
  that retry.

Files are never forgotten here, so a worker that sees an old listing of a network drive starts nothing, either.
"""

import functools
import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database import locks
from jobfac.database.dialects import DIRTY, FOUND_BY_KEY, current_time, lists, rows, utcnow
from jobfac.database.tables import arrived_file, run
from jobfac.database.types import BigId
from jobfac.states import ACTIVE, FINAL, RunState
from jobfac.store.history import retries

FAILED = FINAL - {RunState.SUCCEEDED}
"""The states of runs whose files may come back."""


class Gone(NamedTuple):
    """A file that has gone: its key, the run that it had become, and the place."""

    key: str
    run_id: int
    place: str


class Repeated(NamedTuple):
    """The run that the run of a returned file repeats, and the first one of the retries that led to it."""

    run_id: int
    first: int


class Returned(NamedTuple):
    """The files that have come back, by key, and the keys of those that were perhaps seen before they went."""

    files: Mapping[str, Repeated]
    doubtful: Collection[str]


def take_turn(conn: sa.Connection, job_id: str) -> bool:
    """Take the lock with which workers take turns with the files of a job; False: it is not free."""
    turn = f"jobfac:files:{job_id}"
    return turn in locks.take_free(conn, {turn})


def note_gone(conn: sa.Connection, job_id: str, gone: Sequence[Gone], looked_at: datetime) -> Collection[str]:
    """Note that files have gone. Returns the keys of those that need no more attention. Safe to repeat.

    The run of the others, or a retry of it, has not ended before ``looked_at``: the time of the database before the
    worker began to look.
    """
    if not take_turn(conn, job_id):
        return set()
    known = remembered(conn, job_id, (one.key for one in gone))
    ours = [one for one in gone if known.get(one.key, 0) == one.run_id]
    states = _states(conn, {one.run_id for one in ours})
    last = retries.last_ones(conn, job_id, {run_id for run_id, state in states.items() if state in FAILED})
    if looked_at > current_time(conn):  # the clock was set back
        return set()
    waiting = {run_id for run_id, state in states.items() if state in ACTIVE}
    waiting.update(run_id for run_id, one in last.items() if one.ended_at is None or one.ended_at >= looked_at)
    left = {run_id: one for run_id, one in last.items() if run_id not in waiting and one.state != RunState.SUCCEEDED}
    notes = [(_note(one.key, one.place), left[one.run_id].id) for one in ours if one.run_id in left]
    store(conn, [{"job": job_id, "file_key": key, "run_id": run_id} for key, run_id in notes])
    return {one.key for one in gone} - {one.key for one in ours if one.run_id in waiting}


def _states(conn: sa.Connection, run_ids: Collection[int]) -> dict[int, RunState]:
    """Return the states of these runs, without those that were purged and those of one worker each."""
    if not run_ids:
        return {}
    query = sa.select(run.c.id, run.c.state).with_hint(run, DIRTY, "mssql").where(run.c.for_worker.is_(None))
    return {row.id: RunState(row.state) for row in conn.execute(query.where(lists.by_id(run.c.id, run_ids)))}


def returned(
    conn: sa.Connection, job_id: str, places: Mapping[str, str], known: Mapping[str, int], looked_at: datetime | None
) -> Returned:
    """Return which of the files that are known have come back.

    Args:
        places: where they were seen, by key. A file without a place has not come back.
        known: the runs that they have become, by key.
        looked_at: the time of the database before the worker began to look; None: unknown.
    """
    notes = {_note(key, place): key for key, place in places.items() if place and key in known}
    found = _read(conn, job_id, notes) if notes else []
    if not found:
        return Returned({}, ())
    runs = {known[notes[row.file_key]] for row in found}
    firsts = retries.first_ones(conn, runs)
    # Of a start and a retry at the same moment, only one happens: a retry takes this lock, too.
    held = locks.take_free(conn, {_turn(first) for first in firsts.values()})
    last = retries.last_ones(conn, job_id, runs)
    valid = {key: row for row in found if (one := last.get(known[key := notes[row.file_key]])) and row.run_id == one.id}
    if looked_at is None:
        return Returned({}, valid.keys())
    back = {
        key: Repeated(row.run_id, firsts[known[key]])
        for key, row in valid.items()
        if row.seen_at < looked_at and _turn(firsts[known[key]]) in held
    }
    return Returned(back, valid.keys() - back.keys())


def _turn(first: int) -> str:
    return f"jobfac:retry:{first}"


def remembered(conn: sa.Connection, job_id: str, keys: Iterable[str]) -> dict[str, int]:
    """Return the runs that files have become, by key."""
    return {row.file_key: row.run_id for row in _read(conn, job_id, keys)}


def store(conn: sa.Connection, values: Sequence[Mapping[str, Any]]) -> None:
    """Store rows, each with ``job``, ``file_key`` and ``run_id``, in place of those with the same keys."""
    if values:
        rows.delete(conn, arrived_file, [{"job": one["job"], "file_key": one["file_key"]} for one in values])
        conn.execute(_insert(conn.dialect.name), rows.rows_parameter(values))


def _note(key: str, place: str) -> str:
    """Return the key of the note that a file has gone from a place. No file has such a key: it begins with its size."""
    return hashlib.sha256(f"gone {place} {key}".encode()).hexdigest()


def _read(conn: sa.Connection, job_id: str, keys: Iterable[str]) -> Sequence[Any]:
    given = {**rows.rows_parameter({"file_key": key} for key in keys), "p_job": job_id}
    return conn.execute(_find(conn.dialect.name), given).all()


@functools.cache
def _find(engine: str) -> sa.Select[Any]:
    columns = (arrived_file.c.file_key, arrived_file.c.run_id, arrived_file.c.seen_at)
    return sa.select(*columns).with_hint(arrived_file, FOUND_BY_KEY, "mssql").where(*is_given(engine))


def is_given(engine: str) -> tuple[sa.ColumnElement[bool], ...]:
    """Conditions on a file: it is one of the job ``p_job`` whose keys are in the parameter ``rows``."""
    given = rows.rows_table(engine, file_key=arrived_file.c.file_key.type)
    # IN and no join: SQLite would read the parameter again for each row of the table.
    return arrived_file.c.job == sa.bindparam("p_job"), arrived_file.c.file_key.in_(sa.select(given.c.file_key))


@functools.cache
def _insert(engine: str) -> sa.Insert:
    kinds = {name: arrived_file.c[name].type for name in ("job", "file_key")}
    given = rows.rows_table(engine, **kinds, run_id=BigId)
    values = sa.select(given.c.job, given.c.file_key, given.c.run_id, utcnow())
    return arrived_file.insert().from_select(["job", "file_key", "run_id", "seen_at"], values)
