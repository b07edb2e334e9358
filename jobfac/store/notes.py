"""Notes about runs, and the acknowledgement of failures.

A failure is acknowledged by a person, or by a later success of its job: by one of a later run that ended after the
failure and shows that it is over (``history.recovery``). The views under ``sql/`` and the overview see such a success
at once; ``acknowledge_recovered`` records it within a minute, when the success is counted for the statistics, so that
the transaction in which a run ends does not have to.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import LOCKED_BY_KEY, PASS, SKIP, lists, rows, utcnow
from jobfac.database.tables import note, run
from jobfac.database.types import BigId, sql_literals, truncate_utf16
from jobfac.errors import no_run
from jobfac.states import TO_ACKNOWLEDGE
from jobfac.store import audit
from jobfac.store.history.recovery import Ended, candidates, ended_runs, shows_recovery, unindexed
from jobfac.store.runs.event import Event
from jobfac.store.runs.events import record
from jobfac.views.runs import NoteView
from jobfac.views.serialization import columns, from_row

LIMIT = 4000
"""The maximum length of a note, in characters."""

BATCH, MOST = 500, 5000
"""How many failures one statement, and about how many one transaction, acknowledges for successes at most: a job may
fail each minute for days."""

_BARE = f"state IN ({sql_literals(TO_ACKNOWLEDGE)}) AND acknowledged_at IS NULL"
UNACKNOWLEDGED = f"run.state IN ({sql_literals(TO_ACKNOWLEDGE)}) AND run.acknowledged_at IS NULL"
"""Condition of the filtered index of the failures that nobody has acknowledged."""

_SHOWN = sa.select(*(note.c[name] for name in columns(NoteView)))


def lock_run(conn: sa.Connection, run_id: int) -> None:
    """Let no purge remove a finished run until the transaction ends.

    Raises:
        NotFound: it has just been removed.
    """
    if conn.execute(sa.select(run.c.id).with_hint(run, LOCKED_BY_KEY, "mssql").where(run.c.id == run_id)).first():
        return
    raise no_run(run_id)


def add(conn: sa.Connection, run_id: int, text: str, by: str) -> NoteView:
    """Write a note about a run."""
    values = {"run_id": run_id, "by": truncate_utf16(by, 128), "text": text}
    note_id = conn.execute(note.insert().values(at=utcnow()).returning(note.c.id), values).scalar_one()
    audit.note(conn, by, "note", f"run {run_id}", after=text)
    return from_row(NoteView, conn.execute(_SHOWN.where(note.c.id == note_id)).mappings().one())


def of_run(conn: sa.Connection, run_id: int, limit: int | None = None, after: int = 0) -> list[NoteView]:
    """Return the notes about a run, oldest first: up to ``limit`` of those with a greater id than ``after``."""
    query = _SHOWN.where(note.c.run_id == run_id, note.c.id > after).order_by(note.c.id).limit(limit)
    return [from_row(NoteView, row) for row in conn.execute(query).mappings()]


def newest_of_run(conn: sa.Connection, run_id: int, limit: int) -> list[NoteView]:
    """Return up to ``limit`` notes about a run, the newest ones, oldest first."""
    query = _SHOWN.where(note.c.run_id == run_id).order_by(note.c.id.desc()).limit(limit)
    return [from_row(NoteView, row) for row in conn.execute(query).mappings()][::-1]


def acknowledge(conn: sa.Connection, run_id: int, by: str) -> bool:
    """Acknowledge a failure. Returns False if it was acknowledged before, or has not failed."""
    change = run.update().where(run.c.id == run_id, sa.text(_BARE))
    if not conn.execute(change.values(acknowledged_at=utcnow(), acknowledged_by=truncate_utf16(by, 128))).rowcount:
        return False
    attempt = conn.execute(sa.select(run.c.attempt).where(run.c.id == run_id)).scalar_one()
    record(conn, [Event(run_id, attempt, "acknowledged", by)])
    audit.note(conn, by, "acknowledge", f"run {run_id}")
    return True


class Success(NamedTuple):
    """A successful run of a job."""

    job: str
    run_id: int
    ended_at: datetime


def acknowledge_recovered(conn: sa.Connection, successes: Iterable[Success]) -> int:
    """Acknowledge up to ``MOST`` failures that were followed by one of these successes. Returns how many."""
    given = list(successes)
    engine, ids = conn.dialect.name, rows.rows_parameter({"id": one.run_id} for one in given)
    failures = _read(conn, _failures(engine), {"names": lists.as_list({one.job for one in given})}) if given else []
    if not failures:
        return 0
    pairs = [
        {"failure": failure.id, "success": success.id}
        for failure, followers in candidates(failures, _read(conn, _successes(engine), ids))
        for success in followers
    ]
    number = 0
    for at in range(0, len(pairs), BATCH):
        if number < MOST:
            number += _acknowledge_some(conn, pairs[at : at + BATCH])
    return number


def _read(conn: sa.Connection, query: sa.Select[Any], given: Mapping[str, Any]) -> list[Ended]:
    return [Ended(*row) for row in conn.execute(query, given)]


def _acknowledge_some(conn: sa.Connection, pairs: Sequence[Mapping[str, Any]]) -> int:
    """Acknowledge the failures among these pairs that their successes show to be over."""
    engine = conn.dialect.name
    found: dict[int, sa.Row[tuple[int, int, int]]] = {}
    for row in conn.execute(_recovered(engine), rows.rows_parameter(pairs)):
        if row.id not in found or row.success < found[row.id].success:
            found[row.id] = row
    if found:
        changes = [{"id": row.id, "who": f"run {row.success} succeeded"} for row in found.values()]
        conn.execute(_acknowledge_all(engine), rows.rows_parameter(changes))
        by = [Event(row.id, row.attempt, "acknowledged", f"run {row.success} succeeded") for row in found.values()]
        record(conn, by)
    return len(found)


@functools.cache
def _failures(engine: str) -> sa.Select[Any]:
    """Return the query of the failures of the given jobs that nobody has acknowledged."""
    given = lists.names()
    query = ended_runs(engine).with_hint(run, PASS, "mssql")
    return query.where(sa.text(UNACKNOWLEDGED), unindexed(engine, "run.job").in_(sa.select(given.c.value))).order_by(
        run.c.id
    )


@functools.cache
def _successes(engine: str) -> sa.Select[Any]:
    given = rows.rows_table(engine, id=BigId)
    return ended_runs(engine).join(given, given.c.id == run.c.id)


@functools.cache
def _recovered(engine: str) -> sa.Select[tuple[int, int, int]]:
    """Return the query of those of the given pairs whose failure the success shows to be over."""
    good = run.alias("good")
    given = rows.rows_table(engine, failure=BigId, success=BigId)
    return (
        sa.select(run.c.id, run.c.attempt, given.c.success)
        .join(given, given.c.failure == run.c.id)
        .join(good, good.c.id == given.c.success)
        .with_hint(run, SKIP, "mssql")
        .where(sa.text(UNACKNOWLEDGED), shows_recovery(engine, "good", "run"))
    )


@functools.cache
def _acknowledge_all(engine: str) -> sa.Update:
    given = rows.rows_table(engine, id=BigId, who=run.c.acknowledged_by.type)
    change = run.update().where(run.c.id == given.c.id, run.c.acknowledged_at.is_(None))
    return rows.by_primary_key(change.values(acknowledged_at=utcnow(), acknowledged_by=given.c.who), run)
