"""Which runs were retried."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import DIRTY, PASS, lists
from jobfac.database.tables import run, visit
from jobfac.database.types import sql_literals
from jobfac.states import ACTIVE, HELD, JobKind, RunState
from jobfac.store.history import places, recovery

_HELD = sa.text(f"state IN ({sql_literals(HELD)})")
_ACTIVE = sa.text(f"state IN ({sql_literals(ACTIVE)})")


class Retry(NamedTuple):
    """A run that retries another one. ``has_begun``: it was executed, if only once."""

    id: int
    state: RunState
    has_begun: bool

    @property
    def counts(self) -> bool:
        """Whether the retried run needs no other retry: false if this one was denied, or stopped before it began."""
        return self.has_begun or self.state not in (RunState.DENIED, RunState.STOPPED)


_RETRY = (run.c.id, run.c.state, run.c.started_at)


def _retry(row: Any) -> Retry:
    return Retry(row.id, RunState(row.state), has_begun=row.started_at is not None)


def of_runs(conn: sa.Connection, first: int) -> dict[int, Retry]:
    """Return the retry of each retried run with the id ``first`` or a later one, by the id of that run.

    Of several it is the latest one that counts; the latest one, if none does.
    """
    query = sa.select(run.c.retry_of, *_RETRY).where(run.c.id > first, run.c.retry_of >= first)
    found: dict[int, Retry] = {}
    for row in conn.execute(query.order_by(run.c.id)):
        one = _retry(row)
        if one.counts or row.retry_of not in found or not found[row.retry_of].counts:
            found[row.retry_of] = one
    return found


def since(conn: sa.Connection, job: str, run_id: int, newest: int, but: int = 0) -> Retry | None:
    """Return the retry of a run, as ``of_runs`` does, among the job's runs above ``newest``, except ``but``."""
    query = sa.select(*_RETRY).where(run.c.job == job, run.c.id > newest, run.c.retry_of == run_id)
    found = [_retry(row) for row in conn.execute(query.where(run.c.id != but).order_by(run.c.id.desc()))]
    return next((one for one in found if one.counts), found[0] if found else None)


def beside(conn: sa.Connection, job: str, same: Collection[int], but: int) -> Retry | None:
    """Return a retry, except ``but``, that has not ended and repeats what these runs of this job did.

    ``same``: what ``same`` returns.
    """
    query = sa.select(*_RETRY).where(_ACTIVE, run.c.job == job, run.c.id > min(same), run.c.id != but)
    its = recovery.repeats(conn.dialect.name, same)
    found = conn.execute(query.where(its).order_by(run.c.id.desc()).limit(1)).first()
    return None if found is None else _retry(found)


def active(conn: sa.Connection, job: str, run_id: int, but: int | None = None) -> Retry | None:
    """Return a run of this job that has not ended and repeats what this run did; None: there is none.

    It retries this run, a run that this one retries, or a retry of one of them: of a failure whose retry has failed,
    too, two people may see either. Or it retries what a retry of the sequence around it has repeated.

    Args:
        but: another retry, which this transaction starts. Then also what a worker changes at this moment is found.
    """
    rows = _repeating(conn, {job}, but)
    if not rows:
        return None
    firsts, mine = first_ones(conn, {row.retry_of for row in rows}), same(conn, run_id)
    return next((_retry(row) for row in rows if firsts[row.retry_of] in mine), None)


def succeeded(conn: sa.Connection, job: str, run_id: int, same: Collection[int], like: int | None = None) -> int | None:
    """Return the latest success that repeats a failed run of this job: a retry of it or of its retries, or what a
    retry of the sequence around it has started in its place.

    None: there is none, or only a sequence that skipped the step that had failed; or the run has succeeded itself.

    Args:
        same: what ``same`` returns for the run.
        like: a run with the values that it must have; None: it may have any.
    """
    engine, success, failure = conn.dialect.name, run.alias("success"), run.alias("failure")
    its = recovery.repeats(engine, same, "success") | lists.among_ids(success.c.id, "same", same)
    query = (
        sa.select(success.c.id)
        .select_from(success.join(failure, failure.c.job == success.c.job))
        .where(failure.c.id == run_id, failure.c.state != RunState.SUCCEEDED)
        .where(success.c.job == job, success.c.id > run_id, success.c.state == RunState.SUCCEEDED)
        .where(its, recovery.repeats_work(engine, "success", "failure"))
    )
    if like is not None:
        query = query.join(_again, _again.c.id == like).where(*places.same_values(engine, success, _again))
    return conn.execute(query.order_by(success.c.id.desc()).limit(1)).scalar()


def by_hand(conn: sa.Connection, job: str, run_ids: Collection[int]) -> dict[int, int]:
    """Return, by failed run of this job that is no retry itself, the latest success with the same values among its
    retries, if it has one.

    A sequence that skipped the step that had failed is none.
    """
    engine, success, failure = conn.dialect.name, run.alias("success"), run.alias("failure")
    query = (
        sa.select(failure.c.id, sa.func.max(success.c.id).label("success"))
        .select_from(success.join(failure, failure.c.id == recovery.repeated(engine, "success")))
        .where(success.c.job == job, success.c.id > min(run_ids), success.c.state == RunState.SUCCEEDED)
        .where(recovery.repeats(engine, run_ids, "success"), recovery.repeats_work(engine, "success", "failure"))
        .where(*places.same_values(engine, success, failure))
        .group_by(failure.c.id)
    )
    return {row.id: row.success for row in conn.execute(query)}


def passed(conn: sa.Connection, job: str, run_id: int, new: int, step: str) -> int | None:
    """Return the last run that repeats a run of this sequence, and has done work of this step with success.

    ``new``: another one, which begins with the step. Those with other values than its own do not count.
    """
    others = places.with_retries(conn, job, same(conn, run_id)) - {new}
    return places.passed(conn, others, run_id, new, step)


def same(conn: sa.Connection, run_id: int) -> set[int]:
    """Return the first ones of the chains of retries that do what this run did."""
    return places.same(conn, lineage(conn, run_id))[0]


def chains(
    conn: sa.Connection, run_ids: Collection[int], jobs: Collection[str]
) -> tuple[dict[int, int], dict[int, Retry]]:
    """Return what repeats the same as these runs of these jobs.

    Returns the first one of the retries that led to each of them, and, by such a first one, the retry that has not
    ended.
    """
    rows = _repeating(conn, jobs, None)
    firsts = first_ones(conn, {*run_ids, *(row.retry_of for row in rows)})
    return firsts, {firsts[row.retry_of]: _retry(row) for row in rows}


def of_sequence(conn: sa.Connection, job: str, run_id: int, but: int, is_sequence: bool) -> Retry | None:
    """Return a run that has not ended and repeats a sequence around this run of a job, or a job inside it.

    None: none does. What a retry repeats is what the first run of its chain did, so that counts: a retry by hand is in
    no sequence. It repeats as well what another retry of the sequences around has done at the same place. A sequence
    that is a retry itself and started that first run has not repeated it.
    """
    mine = lineage(conn, run_id)
    if len(mine) == 1 and not is_sequence:
        return None
    jobs = set(conn.execute(sa.select(run.c.job).where(lists.by_id(run.c.id, mine[1:]))).scalars())
    levels = places.same(conn, mine) if is_sequence else []
    inside: Collection[int] = places.with_retries(conn, job, levels[0]) if is_sequence else ()
    while inside:
        child = lists.by_id(run.c.sequence_run_id, inside)
        jobs |= set(conn.execute(sa.select(run.c.job).where(child).distinct()).scalars())
        inside = list(conn.execute(sa.select(run.c.id).where(child, run.c.kind == JobKind.SEQUENCE)).scalars())
    rows = _repeating(conn, jobs, but)
    if not rows:
        return None
    levels = levels or places.same(conn, mine)
    theirs, outer = _lineages(conn, {row.retry_of for row in rows}), around(conn, mine[0])
    for row in (one for one in rows if one.id not in outer):
        first, *beyond = theirs[row.retry_of]
        if any(first in level for level in levels[1:]) or not levels[0].isdisjoint(beyond):
            return _retry(row)
    return None


def around(conn: sa.Connection, run_id: int) -> set[int]:
    """Return the runs of the sequences in which this run was started."""
    found: set[int] = set()
    while (outer := conn.execute(sa.select(run.c.sequence_run_id).where(run.c.id == run_id)).scalar()) is not None:
        found.add(run_id := outer)
    return found


def _repeating(conn: sa.Connection, jobs: Collection[str], but: int | None) -> Sequence[Any]:
    """Return the retries of these jobs that have not ended, except ``but``, the latest first."""
    if not jobs:
        return []
    query = sa.select(*_RETRY, run.c.retry_of).where(_ACTIVE, lists.among(run.c.job, jobs))
    query = query.where(run.c.id != but) if but is not None else query.with_hint(run, PASS, "mssql")
    return conn.execute(query.where(run.c.retry_of.is_not(None)).order_by(run.c.id.desc())).all()


def lineage(conn: sa.Connection, run_id: int) -> list[int]:
    """Return the first one of the retries that led to a run, and those of the sequences around that, innermost first.

    Of two retries one repeats what the other does if the first run of one of them is in the lineage of the other.
    """
    return _lineages(conn, {run_id})[run_id]


def _lineages(conn: sa.Connection, run_ids: Collection[int]) -> dict[int, list[int]]:
    """Return the lineage of each of these runs."""
    firsts = first_ones(conn, run_ids)
    around: dict[int, int] = {}
    level = set(firsts.values())
    while level:
        query = sa.select(run.c.id, run.c.sequence_run_id).where(lists.by_id(run.c.id, level))
        found = {row.id: row.sequence_run_id for row in conn.execute(query.where(run.c.sequence_run_id.is_not(None)))}
        of_sequences = first_ones(conn, set(found.values()))
        around |= {first: of_sequences[outer] for first, outer in found.items()}
        level = {around[first] for first in found} - around.keys()
    lines = {run_id: [first] for run_id, first in firsts.items()}
    for line in lines.values():
        while line[-1] in around:
            line.append(around[line[-1]])
    return lines


def first_ones(conn: sa.Connection, run_ids: Collection[int]) -> dict[int, int]:
    """Return for each of these runs the first one of the retries that led to it; itself, if it is none."""
    above: dict[int, int] = {}
    level = set(run_ids)
    # A file that comes back again and again makes a chain of thousands of runs, so each leads to the first at once.
    first_one = recovery.first_one(conn.dialect.name).label("first")
    while level:
        query = sa.select(run.c.id, run.c.retry_of, first_one).where(run.c.retry_of.is_not(None))
        rows = conn.execute(query.where(lists.by_id(run.c.id, level)))
        found = {row.id: row.retry_of if row.first is None else int(row.first) for row in rows}
        level = set(found.values()) - above.keys()
        above |= found
    firsts = {}
    for run_id in run_ids:
        first = run_id
        while first in above:
            first = above[first]
        firsts[run_id] = first
    return firsts


_again, _before, _after = run.alias("again"), visit.alias("before"), visit.alias("after")

_NOTHING = (RunState.STOPPED, RunState.DENIED)
"""States of runs that have perhaps done nothing."""

_IN_LOOPS = (
    sa.select(run.c.id, sa.func.max(_again.c.id).label("again"))
    .join(_before, _before.c.id == run.c.visit_id)
    .join(_after, (_after.c.run_id == _before.c.run_id) & (_after.c.step == _before.c.step))
    .join(_again, (_again.c.visit_id == _after.c.id) & (_again.c.job == run.c.job))
    .where(_after.c.id > _before.c.id, sa.text(f"again.state NOT IN ({sql_literals(_NOTHING)})"))
    .group_by(run.c.id)
)


def in_loops(conn: sa.Connection, run_ids: Collection[int]) -> dict[int, int]:
    """Return, by run, the last one that repeats it in a later visit of its step: the same job with the same values."""
    its = places.same_values(conn.dialect.name, run, _again)
    return {row.id: row.again for row in conn.execute(_IN_LOOPS.where(lists.by_id(run.c.id, run_ids), *its))}


def running(conn: sa.Connection, run_ids: Sequence[int]) -> dict[int, Retry]:
    """Return the retries of these runs that are executed now, by the id of the retried run."""
    query = sa.select(run.c.retry_of, *_RETRY).with_hint(run, PASS, "mssql")
    found = conn.execute(query.where(_HELD, lists.by_id(run.c.retry_of, run_ids))) if run_ids else ()
    return {row.retry_of: _retry(row) for row in found}


class Last(NamedTuple):
    """The last run that did something. ``ended_at`` None: it has not ended."""

    id: int
    ended_at: datetime | None
    state: RunState


def last_ones(conn: sa.Connection, job: str, run_ids: Collection[int]) -> dict[int, Last]:
    """Return for each of these runs of a job the latest one of it and of those that repeat the same (see ``active``).

    Retries that have done nothing do not count. There is none where the latest one was purged.
    """
    if not run_ids:
        return {}
    engine, firsts = conn.dialect.name, first_ones(conn, run_ids)
    query = (
        sa.select(run.c.retry_of, *_RETRY, recovery.first_one(engine).label("first"))
        .with_hint(run, DIRTY, "mssql")  # a retry that another transaction is just storing counts, too
        .where(run.c.job == job, run.c.id > min(run_ids))
        .where(recovery.repeats(engine, {*firsts, *firsts.values()}))
        .order_by(run.c.id)
    )
    last: dict[int, int] = {}
    for row in conn.execute(query):
        if _retry(row).counts:
            last[firsts.get(row.retry_of, row.retry_of) if row.first is None else int(row.first)] = row.id
    newest = {run_id: max(run_id, last.get(first, 0)) for run_id, first in firsts.items()}
    ended = sa.select(run.c.id, run.c.ended_at, run.c.state).where(lists.by_id(run.c.id, set(newest.values())))
    known = {row.id: Last(row.id, row.ended_at, RunState(row.state)) for row in conn.execute(ended)}
    return {run_id: known[last_id] for run_id, last_id in newest.items() if last_id in known}


def newest(conn: sa.Connection) -> int:
    """Return the highest id of a run."""
    return conn.execute(sa.select(sa.func.max(run.c.id))).scalar() or 0
