"""Which runs were retried."""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import PASS, lists
from jobfac.database.tables import run
from jobfac.database.types import sql_literals
from jobfac.states import ACTIVE, HELD, JobKind, RunState

_HELD = sa.text(f"state IN ({sql_literals(HELD)})")
_ACTIVE = sa.text(f"state IN ({sql_literals(ACTIVE)})")


class Retry(NamedTuple):
    """A run that retries another one."""

    id: int
    state: RunState


def of_runs(conn: sa.Connection, first: int) -> dict[int, Retry]:
    """Return the latest retry of each retried run with the id ``first`` or a later one, by the id of that run."""
    query = sa.select(run.c.retry_of, run.c.id, run.c.state).where(run.c.id > first, run.c.retry_of >= first)
    return {row.retry_of: Retry(row.id, RunState(row.state)) for row in conn.execute(query.order_by(run.c.id))}


def since(conn: sa.Connection, job: str, run_id: int, newest: int, but: int = 0) -> Retry | None:
    """Return the latest retry of a run among the job's runs above ``newest``, except ``but``; None: there is none."""
    query = sa.select(run.c.id, run.c.state).where(run.c.job == job, run.c.id > newest, run.c.retry_of == run_id)
    query = query.where(run.c.id != but)
    row = conn.execute(query.order_by(run.c.id.desc()).limit(1)).first()
    return None if row is None else Retry(row.id, RunState(row.state))


def active(conn: sa.Connection, job: str, run_id: int, but: int | None = None) -> Retry | None:
    """Return a run of this job that has not ended and repeats what this run did; None: there is none.

    It retries this run, a run that this one retries, or a retry of one of them: of a failure whose retry has failed,
    too, two people may see either.

    Args:
        but: another retry, which this transaction starts. Then also what a worker changes at this moment is found.
    """
    rows = _repeating(conn, {job}, but)
    if not rows:
        return None
    firsts = _firsts(conn, {run_id, *(row.retry_of for row in rows)})
    return next((Retry(row.id, row.state) for row in rows if firsts[row.retry_of] == firsts[run_id]), None)


def chains(
    conn: sa.Connection, run_ids: Collection[int], jobs: Collection[str]
) -> tuple[dict[int, int], dict[int, Retry]]:
    """Return what repeats the same as these runs of these jobs.

    Returns the first one of the retries that led to each of them, and, by such a first one, the retry that has not
    ended.
    """
    rows = _repeating(conn, jobs, None)
    firsts = _firsts(conn, {*run_ids, *(row.retry_of for row in rows)})
    return firsts, {firsts[row.retry_of]: Retry(row.id, row.state) for row in rows}


def of_sequence(conn: sa.Connection, run_id: int, but: int) -> Retry | None:
    """Return a run that has not ended and repeats a sequence around this run, or a job inside it; None: none does.

    A retry is in no sequence itself; the first run of its chain may be.
    """
    first = first_of(conn, run_id)
    while (around := conn.execute(sa.select(run.c.sequence_run_id).where(run.c.id == first)).scalar()) is not None:
        job = conn.execute(sa.select(run.c.job).where(run.c.id == around)).scalar()
        if job is not None and (found := active(conn, job, around, but)):
            return found
        first = first_of(conn, around)
    inside = _members(conn, run_id)
    while inside:
        child = lists.by_id(run.c.sequence_run_id, inside)
        rows = _repeating(conn, set(conn.execute(sa.select(run.c.job).where(child).distinct()).scalars()), but)
        firsts = _firsts(conn, {row.retry_of for row in rows}) if rows else {}
        mine = sa.select(run.c.id).where(lists.by_id(run.c.id, set(firsts.values())), child)
        repeated = set(conn.execute(mine).scalars()) if rows else set()
        if found := next((Retry(row.id, row.state) for row in rows if firsts[row.retry_of] in repeated), None):
            return found
        inside = list(conn.execute(sa.select(run.c.id).where(child, run.c.kind == JobKind.SEQUENCE)).scalars())
    return None


def _members(conn: sa.Connection, run_id: int) -> list[int]:
    """Return a run of a sequence and all that are of one chain of retries with it; nothing for another run."""
    row = conn.execute(sa.select(run.c.job, run.c.kind).where(run.c.id == run_id)).first()
    if row is None or row.kind != JobKind.SEQUENCE:
        return []
    first = first_of(conn, run_id)
    query = sa.select(run.c.id).with_hint(run, PASS, "mssql").where(run.c.job == row.job, run.c.id > first)
    found = _firsts(conn, conn.execute(query.where(run.c.retry_of.is_not(None))).scalars().all())
    return list({run_id, first, *(one for one, its in found.items() if its == first)})


def _repeating(conn: sa.Connection, jobs: Collection[str], but: int | None) -> Sequence[Any]:
    """Return the retries of these jobs that have not ended, except ``but``, the latest first."""
    if not jobs:
        return []
    query = sa.select(run.c.id, run.c.state, run.c.retry_of).where(_ACTIVE, lists.among(run.c.job, jobs))
    query = query.where(run.c.id != but) if but is not None else query.with_hint(run, PASS, "mssql")
    return conn.execute(query.where(run.c.retry_of.is_not(None)).order_by(run.c.id.desc())).all()


def first_of(conn: sa.Connection, run_id: int) -> int:
    """Return the first one of the retries that led to a run; itself, if it is none."""
    return _firsts(conn, {run_id})[run_id]


def _firsts(conn: sa.Connection, run_ids: Collection[int]) -> dict[int, int]:
    """Return for each of these runs the first one of the retries that led to it; itself, if it is none."""
    above: dict[int, int] = {}
    level = set(run_ids)
    while level:
        query = sa.select(run.c.id, run.c.retry_of).where(lists.by_id(run.c.id, level), run.c.retry_of.is_not(None))
        found = {row.id: row.retry_of for row in conn.execute(query)}
        level = set(found.values()) - above.keys()
        above |= found
    firsts = {}
    for run_id in run_ids:
        first = run_id
        while first in above:
            first = above[first]
        firsts[run_id] = first
    return firsts


def running(conn: sa.Connection, run_ids: Sequence[int]) -> dict[int, Retry]:
    """Return the retries of these runs that are executed now, by the id of the retried run."""
    query = sa.select(run.c.retry_of, run.c.id, run.c.state).with_hint(run, PASS, "mssql")
    found = conn.execute(query.where(_HELD, lists.by_id(run.c.retry_of, run_ids))) if run_ids else ()
    return {row.retry_of: Retry(row.id, RunState(row.state)) for row in found}


def newest(conn: sa.Connection) -> int:
    """Return the highest id of a run."""
    return conn.execute(sa.select(sa.func.max(run.c.id))).scalar() or 0
