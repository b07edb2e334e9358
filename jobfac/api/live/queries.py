"""What the live poller reads: the state of watched runs, new events, the fleet, and how far programs are."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from jobfac.database.dialects import PASS
from jobfac.database.tables import job, run, run_event, run_output
from jobfac.database.types import sql_literals
from jobfac.states import HELD
from jobfac.store import workers
from jobfac.store.runs.reading import shown_value

PAGE = 1000
"""Events read at once."""

RECENT = 200
"""Of the latest events so many are looked at for ids that are missing among them."""

BATCH = 512
"""Ids in one statement at most."""


def states(conn: sa.Connection, run_ids: Iterable[int]) -> dict[int, tuple[Any, ...]]:
    """Of each run its state and attempt."""
    found: dict[int, tuple[Any, ...]] = {}
    for ids in batches(run_ids):
        query = sa.select(run.c.id, run.c.state, run.c.attempt).with_hint(run, PASS, "mssql").where(run.c.id.in_(ids))
        found.update({row[0]: tuple(row[1:]) for row in conn.execute(query)})
    return found


def output_ends(conn: sa.Connection, run_ids: Iterable[int]) -> dict[int, tuple[Any, ...]]:
    """Of each run that wrote something, where the last chunk of each stream begins: it changes when more is stored."""
    found: dict[int, tuple[Any, ...]] = {}
    for ids in batches(run_ids):
        keys = (run_output.c.run_id, run_output.c.attempt, run_output.c.stream)
        query = (
            sa.select(*keys, sa.func.max(run_output.c.offset))
            .with_hint(run_output, PASS, "mssql")
            .where(run_output.c.run_id.in_(ids))
            .group_by(*keys)
            .order_by(*keys)
        )
        for row in conn.execute(query):
            found[row[0]] = (*found.get(row[0], ()), tuple(row[1:]))
    return found


def recent_ids(conn: sa.Connection) -> Sequence[int]:
    """The ids of the latest events."""
    return conn.execute(sa.select(run_event.c.id).order_by(run_event.c.id.desc()).limit(RECENT)).scalars().all()


_EVENTS = (
    sa.select(
        run_event.c.id,
        run_event.c.run_id,
        run.c.job,
        run_event.c.attempt,
        run_event.c.at,
        run_event.c.event,
        run_event.c.by,
        run_event.c.detail,
        job.c.category,
    )
    .select_from(run_event.outerjoin(run, run.c.id == run_event.c.run_id).outerjoin(job, job.c.id == run.c.job))
    .order_by(run_event.c.id)
    .limit(PAGE)
)


def events(conn: sa.Connection, after: int, missing: Sequence[int] = ()) -> list[dict[str, Any]]:
    """The next events beyond ``after``, and those of the ``missing`` ids that have come; with the job's category."""
    found: dict[int, dict[str, Any]] = {}
    for ids in batches(missing):
        found.update(_by_id(conn.execute(_EVENTS.where(run_event.c.id.in_(ids))).mappings()))
    found.update(_by_id(conn.execute(_EVENTS.where(run_event.c.id > after)).mappings()))
    return [found[key] for key in sorted(found)]


def _by_id(rows: Iterable[Mapping[Any, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    return ((row["id"], {name: shown_value(value) for name, value in row.items()}) for row in rows)


def fleet(conn: sa.Connection, known: Mapping[int, Any]) -> dict[int, dict[str, Any]]:
    """The live workers by id, and those of the ``known`` ones that have left, as they are now."""
    alive = {row["id"]: workers.present(row) for row in workers.workers(conn, alive_only=True)}
    if known.keys() <= alive.keys():
        return alive
    return alive | {row["id"]: workers.present(row) for row in workers.workers(conn) if row["id"] in known}


def progress(conn: sa.Connection) -> dict[int, dict[str, Any]]:
    """How far the running programs are that report it, by run; with the job's category."""
    query = (
        sa.select(run.c.id.label("run_id"), run.c.job, run.c.attempt, run.c.progress, run.c.message, job.c.category)
        .select_from(run.outerjoin(job, job.c.id == run.c.job))
        .with_hint(run, PASS, "mssql")
        .where(
            sa.text(f"run.state IN ({sql_literals(HELD)})"), run.c.progress.is_not(None) | run.c.message.is_not(None)
        )
    )
    return {row["run_id"]: dict(row) for row in conn.execute(query).mappings()}


def batches(ids: Iterable[int]) -> Iterator[list[int]]:
    """The ids for lists in statements. Each is filled up with its last id to a power of two: every length makes another
    text, which each connection would keep prepared and SQL Server would keep a plan for.
    """
    ids = list(ids)
    for start in range(0, len(ids), BATCH):
        batch = ids[start : start + BATCH]
        yield batch + batch[-1:] * ((1 << (len(batch) - 1).bit_length()) - len(batch))
