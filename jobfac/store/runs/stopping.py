"""Stop runs. A waiting run ends at once. For a running one a stop is requested, and its worker or an expiry ends it."""

import functools
from collections.abc import Collection
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import CLAIMING, LOCKED_BY_KEY, lists, rows, utcnow
from jobfac.database.tables import run
from jobfac.database.types import BigId, sql_literals, truncate_utf16
from jobfac.errors import no_run
from jobfac.states import ACTIVE, WAITING, RunState, Stop
from jobfac.store.runs import admission
from jobfac.store.runs.event import Event
from jobfac.store.runs.events import record


class Stopped(NamedTuple):
    """The states of a run before and after a stop request. Equal states mean that there was nothing to do."""

    before: RunState
    after: RunState


def request_stop(conn: sa.Connection, run_id: int, *, now: bool, by: str, locked: bool = False) -> Stopped:
    """Stop a run: end a waiting run at once, or request the stop of a running one.

    Args:
        now: stop the program without its grace period.
        by: the name that the reason and the event show.
        locked: the caller has already taken the named locks of the run's rule.

    Raises:
        NotFound: there is no such run.
    """
    if not locked:
        admission.lock(conn, rules_to_stop(conn, run.c.id == run_id))
    stopped = request_stops(conn, [run_id], now=now, by=by)
    if run_id not in stopped:
        raise no_run(run_id)
    return stopped[run_id]


def request_stops(conn: sa.Connection, run_ids: Collection[int], *, now: bool, by: str) -> dict[int, Stopped]:
    """Stop many runs, as ``request_stop`` does, in a few statements for each ``admission.BATCH`` of them.

    Returns the states of the runs that exist, by id.

    One by one, 2,000 stops would hold SQLite's lock for many seconds. The caller has taken the named locks.
    """
    ids = sorted(run_ids)
    how = Stop.NOW if now else Stop.POLITE
    freed = set()
    states: dict[int, Stopped] = {}
    for at in range(0, len(ids), admission.BATCH):
        given = lists.as_list(ids[at : at + admission.BATCH])
        found = conn.execute(_TO_STOP, {"ids": given}).all()
        states |= {row.id: Stopped(RunState(row.state), RunState(row.state)) for row in found}
        waiting = [row for row in found if row.state in WAITING]
        held = [row for row in found if row.state == RunState.RUNNING or _is_slower(row.state, row.stop, how)]
        values = {"p_how": how, "p_by": truncate_utf16(by, 128)}
        for rows_, state in ((waiting, RunState.STOPPED), (held, RunState.STOPPING)):
            if rows_:
                whys = [{"id": row.id, "why": before_it_began(f"stopped by {by}", row.attempt)} for row in rows_]
                those = rows.rows_parameter(whys)
                conn.execute(_stop(conn.dialect.name, state), {**values, **those})
                states |= {row.id: Stopped(states[row.id].before, state) for row in rows_}
        detail = "at once" if now else None
        stopped = [Event(row.id, row.attempt, RunState.STOPPED, by, detail, row.notify) for row in waiting]
        record(
            conn, [*stopped, *(Event(row.id, row.attempt, RunState.STOPPING, by, detail, row.notify) for row in held)]
        )
        kept = (row for row in waiting if row.state == RunState.QUEUED or row.attempt > 0)  # others may wait for it
        freed |= {admission.Rule(*row[-4:-1]) for row in kept}
    admission.lock_late(conn, freed)
    admission.release_blocked(conn, freed, by)
    return states


_TO_STOP = (
    sa.select(run.c.id, run.c.state, run.c.attempt, run.c.stop, *admission.RULE, run.c.notify)
    .with_hint(run, LOCKED_BY_KEY, "mssql")
    .where(run.c.id == lists.ids().c.value)
    .order_by(run.c.id)
)


def _is_slower(state: str, stop: str | None, how: Stop) -> bool:
    """Whether a run in this state is being stopped, but not as fast as it is to be now."""
    return state == RunState.STOPPING and stop not in (how, Stop.NOW)


def before_it_began(what: str, attempts: int = 0) -> str:
    """Return why a waiting run has ended. ``attempts``: how many it had before; what they did is not undone."""
    return truncate_utf16(f"{what} before its next attempt" if attempts else f"{what} before it began", 1000)


@functools.cache
def _stop(engine: str, state: RunState) -> sa.Update:
    given = rows.rows_table(engine, id=BigId, why=run.c.reason.type)
    named = {"stop": "p_how", "stop_by": "p_by"}
    values: dict[str, Any] = {name: sa.bindparam(key, type_=run.c[name].type) for name, key in named.items()}
    values |= {"state": state} | ({"ended_at": utcnow(), "reason": given.c.why} if state == RunState.STOPPED else {})
    return rows.by_primary_key(run.update().where(run.c.id == given.c.id).values(values), run)


def why_stopped(by: str, outcome: RunState, reason: str | None, pid: int | None, attempt: int) -> str:
    """Return why a run that had to stop has ended: ``outcome``, ``reason`` and ``pid`` are those of its execution."""
    if outcome == RunState.QUEUED:  # its worker gave it back before it knew of the stop
        return f"stopped by {by}" if pid else before_it_began(f"stopped by {by}", attempt - 1)
    how, sign, remarks = (reason or "stopped").partition("; ")
    return f"{how} by {by}{sign}{remarks}"


def rules_to_stop(conn: sa.Connection, condition: sa.ColumnElement[bool]) -> list[admission.Rule]:
    """Return the rules of the waiting runs that match ``condition``, read without locks. A stop frees these rules."""
    waiting = sa.text(f"state IN ({sql_literals(WAITING)})")
    return admission.rules_of(conn, sa.and_(waiting, condition))


def _is_replaced(jobs: Collection[str]) -> sa.ColumnElement[bool]:
    """Condition on a run: a start of its job, one of these with ``already_running: replace``, stops it."""
    states = sa.text(f"state IN ({sql_literals(ACTIVE)})")
    return sa.and_(states, lists.among(run.c.job, jobs), admission.UNDER_WAY, admission.GIVES_WAY)


def lock_room(conn: sa.Connection, jobs: Collection[str]) -> set[str]:
    """Lock the runs that ``make_room`` will stop, without waiting. Returns the jobs with one that is locked already."""
    if not jobs:
        return set()
    found = {row.id: row.job for row in conn.execute(sa.select(run.c.id, run.c.job).where(_is_replaced(jobs)))}
    mine = sa.select(run.c.id).with_hint(run, CLAIMING, "mssql").where(lists.by_id(run.c.id, found))
    free = set(conn.execute(mine.order_by(run.c.id)).scalars()) if found else set()
    return {job for run_id, job in found.items() if run_id not in free}


def make_room(conn: sa.Connection, job: str, by: str) -> None:
    """Stop what a start with ``already_running: replace`` stops of its job. The caller must hold the named locks."""
    # Do not skip locked rows: a run that is just being claimed must stop too.
    others = sa.select(run.c.id).where(_is_replaced([job]))
    request_stops(conn, conn.execute(others).scalars().all(), now=False, by=f"{by} (replaced)")
