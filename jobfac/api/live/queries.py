"""Queries of the live poller: the state and output of watched runs, new events, the fleet, and progress."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import PASS, lists
from jobfac.database.tables import job, run, run_event, run_output
from jobfac.database.types import sql_literals
from jobfac.states import HELD
from jobfac.store import workers
from jobfac.views.live import LiveProgress, LiveRunEvent
from jobfac.views.serialization import columns, from_row
from jobfac.views.workers import WorkerView

PAGE = 1000
"""The maximum number of events in one query."""

RECENT = 200
"""The number of latest events that a new poller checks for missing ids."""


def states(conn: sa.Connection, run_ids: Collection[int]) -> dict[int, tuple[Any, ...]]:
    """Return the state and the attempt of each run, by id."""
    if not run_ids:
        return {}
    query = sa.select(run.c.id, run.c.state, run.c.attempt).with_hint(run, PASS, "mssql")
    return {row[0]: tuple(row[1:]) for row in conn.execute(query.where(lists.by_id(run.c.id, run_ids)))}


def output_ends(conn: sa.Connection, run_ids: Collection[int]) -> dict[int, tuple[Any, ...]]:
    """Return where the last chunk of each stream begins, by run. It changes when more output is stored."""
    found: dict[int, tuple[Any, ...]] = {}
    if not run_ids:
        return found
    keys = (run_output.c.run_id, run_output.c.attempt, run_output.c.stream)
    query = (
        sa.select(*keys, sa.func.max(run_output.c.offset))
        .with_hint(run_output, PASS, "mssql")
        .where(lists.by_id(run_output.c.run_id, run_ids))
        .group_by(*keys)
        .order_by(*keys)
    )
    for row in conn.execute(query):
        found[row[0]] = (*found.get(row[0], ()), tuple(row[1:]))
    return found


def recent_ids(conn: sa.Connection) -> Sequence[int]:
    """Return the ids of the latest events, newest first."""
    return conn.execute(sa.select(run_event.c.id).order_by(run_event.c.id.desc()).limit(RECENT)).scalars().all()


def newest_id(conn: sa.Connection) -> int:
    """Return the id of the newest event; 0: there is none."""
    return conn.execute(sa.select(sa.func.max(run_event.c.id))).scalar() or 0


class EventRow(NamedTuple):
    """An event of a run, with the category of its job, which decides which callers may see it."""

    view: LiveRunEvent
    category: str | None


class ProgressRow(NamedTuple):
    """The progress of a run, with the category of its job."""

    view: LiveProgress
    category: str | None


_EVENT_COLUMNS = {**run_event.c, "job": run.c.job}
_EVENTS = (
    sa.select(*(_EVENT_COLUMNS[name] for name in columns(LiveRunEvent)), job.c.category)
    .select_from(run_event.outerjoin(run, run.c.id == run_event.c.run_id).outerjoin(job, job.c.id == run.c.job))
    .order_by(run_event.c.id)
    .limit(PAGE)
)


def events(conn: sa.Connection, after: int, missing: Sequence[int] = ()) -> list[EventRow]:
    """Return up to ``PAGE`` events after ``after``, and the events whose ids were ``missing``, in order of ids."""
    found: dict[int, EventRow] = {}
    if missing:
        found.update(_by_id(conn.execute(_EVENTS.where(lists.by_id(run_event.c.id, missing))).mappings()))
    found.update(_by_id(conn.execute(_EVENTS.where(run_event.c.id > after)).mappings()))
    return [found[key] for key in sorted(found)]


def _by_id(rows: Iterable[sa.RowMapping]) -> Iterator[tuple[int, EventRow]]:
    return ((row["id"], EventRow(from_row(LiveRunEvent, row), row["category"])) for row in rows)


def fleet(conn: sa.Connection, known: Mapping[int, WorkerView]) -> dict[int, WorkerView]:
    """Return the live workers by id, and the current rows of ``known`` workers that have left."""
    alive = {worker.id: worker for worker in workers.workers(conn, alive_only=True)}
    if known.keys() <= alive.keys():
        return alive
    return alive | {worker.id: worker for worker in workers.workers(conn) if worker.id in known}


_PROGRESS_COLUMNS = {**run.c, "run_id": run.c.id.label("run_id")}


def progress(conn: sa.Connection) -> dict[int, ProgressRow]:
    """Return the progress of the running programs that report it, by run."""
    query = (
        sa.select(*(_PROGRESS_COLUMNS[name] for name in columns(LiveProgress)), job.c.category)
        .select_from(run.outerjoin(job, job.c.id == run.c.job))
        .with_hint(run, PASS, "mssql")
        .where(
            sa.text(f"run.state IN ({sql_literals(HELD)})"), run.c.progress.is_not(None) | run.c.message.is_not(None)
        )
    )
    rows = conn.execute(query).mappings()
    return {row["run_id"]: ProgressRow(from_row(LiveProgress, row), row["category"]) for row in rows}
