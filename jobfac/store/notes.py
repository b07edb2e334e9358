"""Notes about runs, and the acknowledgement of failures.

A failure is acknowledged by a person, or by a later success of its job: by one of a later run that ended after the
failure. The views under ``sql/`` and the overview see such a success at once; ``acknowledge_recovered`` records it
within a minute, when the success is counted for the statistics, so that the transaction in which a run ends does not
have to.
"""

import functools
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import LOCKED_BY_KEY, SKIP, rows, utcnow
from jobfac.database.tables import note, run
from jobfac.database.types import BigId, sql_literals, truncate_utf16
from jobfac.errors import no_run
from jobfac.states import TO_ACKNOWLEDGE
from jobfac.store import audit
from jobfac.store.runs.event import Event
from jobfac.store.runs.events import record
from jobfac.store.runs.subscribers import shows_recovery
from jobfac.views.runs import NoteView
from jobfac.views.serialization import columns, from_row

LIMIT = 4000
"""The maximum length of a note, in characters."""

BATCH = 500
"""The maximum number of failures that one transaction acknowledges for successes."""

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
    """A successful run of a job. ``for_worker`` and ``visit_id``: those of the run, see ``shows_recovery``."""

    job: str
    run_id: int
    ended_at: datetime
    for_worker: str | None = None
    visit_id: int | None = None


def acknowledge_recovered(conn: sa.Connection, successes: Iterable[Success]) -> int:
    """Acknowledge up to ``BATCH`` failures that were followed by one of these successes. Returns how many."""
    if not (last := last_ones(successes)):
        return 0
    engine = conn.dialect.name
    names = {"run_id": "success", "ended_at": "ended"}
    given = rows.rows_parameter({names.get(name, name): value for name, value in one._asdict().items()} for one in last)
    found = {row.id: row for row in conn.execute(_recovered(engine), given)}
    if found:
        changes = [{"id": row.id, "who": f"run {row.success} succeeded"} for row in found.values()]
        conn.execute(_acknowledge_all(engine), rows.rows_parameter(changes))
        by = [Event(row.id, row.attempt, "acknowledged", f"run {row.success} succeeded") for row in found.values()]
        record(conn, by)
    return len(found)


def last_ones(successes: Iterable[Success]) -> list[Success]:
    """Return the successes to which no other success of their job is later both by its id and by its end.

    These follow every failure that any of the others follows. A pure function. This is so for each worker and step, as
    ``shows_recovery`` distinguishes them.
    """
    found: dict[tuple[str, str | None, int | None], list[Success]] = {}
    for one in sorted(successes, key=lambda one: -one.run_id):
        of_job = found.setdefault((one.job, one.for_worker, one.visit_id), [])
        if not of_job or one.ended_at > of_job[-1].ended_at:
            of_job.append(one)
    return [one for of_job in found.values() for one in of_job]


@functools.cache
def _recovered(engine: str) -> sa.Select[tuple[int, int, int]]:
    kinds = {"job": run.c.job.type, "success": BigId, "ended": run.c.ended_at.type}
    given = rows.rows_table(engine, **kinds, for_worker=run.c.for_worker.type, visit_id=BigId)
    is_later = (given.c.job == run.c.job) & (given.c.success > run.c.id) & (given.c.ended >= run.c.ended_at)
    is_later &= shows_recovery(given.c, run.c)
    return (
        sa.select(run.c.id, run.c.attempt, given.c.success)
        .join(given, is_later)
        .with_hint(run, SKIP, "mssql")
        .where(sa.text(UNACKNOWLEDGED))
        .order_by(run.c.id)
        .limit(BATCH)
    )


@functools.cache
def _acknowledge_all(engine: str) -> sa.Update:
    given = rows.rows_table(engine, id=BigId, who=run.c.acknowledged_by.type)
    change = run.update().where(run.c.id == given.c.id, run.c.acknowledged_at.is_(None))
    return rows.by_primary_key(change.values(acknowledged_at=utcnow(), acknowledged_by=given.c.who), run)
