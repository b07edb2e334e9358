"""Read why runs wait: their rules, the fleet, and the runs that hold a limit. ``views.waiting`` makes the sentence."""

import functools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from jobfac.database.dialects import PASS, current_time, lists, rows
from jobfac.database.tables import job, run, visit
from jobfac.database.types import BigId, sql_literals
from jobfac.states import ACTIVE, HELD, OCCUPYING, WAITING, JobKind, RunState, Waiting
from jobfac.store import jobs, workers
from jobfac.store.holds import reading as holds
from jobfac.views.overview import RunLine
from jobfac.views.runs import RunRow, RunView
from jobfac.views.serialization import columns, from_row
from jobfac.views.waiting import Holder, Needed, Serving, WaitingRun, at_step, waits_for

HOLDERS = 200
"""The maximum number of runs that are read as holders of limits."""

BATCH = 500
"""The maximum number of runs in one statement."""


def reasons(conn: sa.Connection, run_ids: Sequence[int], categories: Sequence[str] | None = None) -> dict[int, str]:
    """Return why each of these runs waits, by id. Runs that do not wait are left out.

    ``categories``: those whose jobs the reader may see; runs of others, which share a concurrency key, are not named.
    None: all.
    """
    waiting = [one for start in range(0, len(run_ids), BATCH) for one in _waiting(conn, run_ids[start : start + BATCH])]
    if not waiting:
        return {}
    queues = {one.name: Needed(one.name, one.pool, one.labels, one.slots) for one in jobs.known_queues(conn)}
    fleet = _fleet(conn) if any(one.state == RunState.QUEUED for one in waiting) else []
    blocked = [one for one in waiting if one.state == RunState.BLOCKED]
    of_key, of_job = _of_keys(conn, blocked), _of_jobs(conn, blocked)
    held = holds.over_runs(conn, waiting)
    found = {one_id: hold.sentence for one_id, hold in held.items()}
    for one in waiting:
        if one.id in found:
            continue
        same = [holder for holder in of_job[one.job] if one.is_kept_by(holder)]
        holders = [*same, *of_key[(one.concurrency_key or "").lower()]]
        others = [holder for holder in holders if holder.id != one.id]
        if categories is not None:
            others = [holder for holder in others if holder.category in categories]
        found[one.id] = waits_for(one, queues.get(one.queue) or Needed(one.queue, one.queue, {}), fleet, others)
    return found


_AT_STEPS = (
    sa.select(visit.c.run_id, visit.c.step, visit.c.waits_for)
    .with_hint(visit, PASS, "mssql")
    .where(visit.c.waits_for.is_not(None), visit.c.result.is_(None), visit.c.decision.is_(None))
)


def at_steps(conn: sa.Connection, runs: Iterable[RunView | RunRow | RunLine]) -> dict[int, str]:
    """Return for what the sequences among these runs wait, by id: those that are at a step that runs nothing."""
    ids = [one.id for one in runs if one.kind == JobKind.SEQUENCE and one.state in HELD]
    found = conn.execute(_AT_STEPS.where(lists.by_id(visit.c.run_id, ids))) if ids else ()
    return {row.run_id: at_step(row.step, Waiting(row.waits_for)) for row in found}


def explained(conn: sa.Connection, runs: Sequence[RunView], categories: Sequence[str] | None = None) -> list[RunView]:
    """Return the runs, each waiting one with ``waits_for``, and each sequence that waits at a step.

    ``categories``: as for ``reasons``.
    """
    found = reasons(conn, [one.id for one in runs if one.state in WAITING], categories)
    found |= at_steps(conn, runs)
    return [one._replace(waits_for=found[one.id]) if one.id in found else one for one in runs]


def _waiting(conn: sa.Connection, run_ids: Sequence[int]) -> list[WaitingRun]:
    if not run_ids:
        return []
    found = conn.execute(_waiting_runs(conn.dialect.name), rows.rows_parameter({"run_id": one} for one in run_ids))
    return [from_row(WaitingRun, row) for row in found.mappings()]


@functools.cache
def _waiting_runs(engine: str) -> sa.Select[Any]:
    given = rows.rows_table(engine, run_id=BigId)
    query = sa.select(*(run.c[name] for name in columns(WaitingRun))).with_hint(run, PASS, "mssql")
    return query.join(given, given.c.run_id == run.c.id).where(sa.text(f"state IN ({sql_literals(WAITING)})"))


def _fleet(conn: sa.Connection) -> list[Serving]:
    now = current_time(conn)
    return [
        Serving(one.name, one.pools, one.labels, one.slots, one.busy, one.message)
        for one in workers.workers(conn, alive_only=True)
        if one.takes_runs(now)
    ]


def _of_keys(conn: sa.Connection, blocked: Sequence[WaitingRun]) -> defaultdict[str, list[Holder]]:
    """Return the runs that count against the concurrency limits of these runs, by key in lower case."""
    found: defaultdict[str, list[Holder]] = defaultdict(list)
    keys = {one.concurrency_key.lower() for one in blocked if one.concurrency_key is not None}
    if keys:
        held = conn.execute(_holders(conn.dialect.name, "concurrency_key"), _names(keys))
        for row in held:
            found[row.name].append(Holder(row.id, row.job, row.category))
    return found


def _of_jobs(conn: sa.Connection, blocked: Sequence[WaitingRun]) -> defaultdict[str, list[Holder]]:
    """Return the runs of the same jobs that are queued, held or between two attempts, by job."""
    found: defaultdict[str, list[Holder]] = defaultdict(list)
    names = {one.job for one in blocked if one.already_running != "start"}
    if names:
        for row in conn.execute(_holders(conn.dialect.name, "job"), _names(names)):
            found[row.job].append(Holder(row.id, row.job, row.category, row.state == RunState.SCHEDULED))
    return found


def _names(names: Iterable[str]) -> dict[str, str]:
    return rows.rows_parameter({"name": name} for name in sorted(names))


@functools.cache
def _holders(engine: str, by: str) -> sa.Select[Any]:
    """The runs that are queued or held and have one of the given values of this column, as ``name``.

    By job also those between two attempts.
    """
    given = rows.rows_table(engine, name=run.c[by].type)
    column = run.c.job if by == "job" else sa.func.lower(run.c.concurrency_key)
    # The first condition is that of a filtered index, word for word.
    keeps = f"run.state IN ({sql_literals(OCCUPYING)})"
    keeps = f"({keeps} OR run.state = '{RunState.SCHEDULED}' AND run.attempt > 0)" if by == "job" else keeps
    states = sa.text(f"run.state IN ({sql_literals(ACTIVE)}) AND {keeps}")
    query = sa.select(run.c.id, run.c.job, run.c.state, job.c.category, given.c.name).with_hint(run, PASS, "mssql")
    held = run.join(given, given.c.name == column).outerjoin(job, job.c.id == run.c.job)
    return query.select_from(held).where(states).order_by(run.c.id).limit(HOLDERS)


_ROW = [run.c[name] for name in columns(RunRow)]


def queue(conn: sa.Connection, limit: int, categories: Sequence[str] | None = None) -> list[RunRow]:
    """Return the first ``limit`` runs of each kind that wait: queued in the order of the claim, then blocked, then
    scheduled by their time."""
    orders = {
        RunState.QUEUED: (run.c.queue, run.c.priority.desc(), run.c.id),
        RunState.BLOCKED: (run.c.job, run.c.priority.desc(), run.c.id),
        RunState.SCHEDULED: (run.c.ready_at,),
    }
    seen = lists.of_categories(run.c.job, categories)
    found = []
    for state, order in orders.items():
        query = sa.select(*_ROW).with_hint(run, PASS, "mssql").where(sa.text(f"state = '{state}'"), *seen)
        found += [from_row(RunRow, row) for row in conn.execute(query.order_by(*order).limit(limit)).mappings()]
    return found
