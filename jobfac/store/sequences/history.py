"""The step history of a sequence run, which step is the reason why it did not succeed, and what counts of the runs that
it continues: the steps that it does not repeat, as they ended there, and the outputs of their jobs.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import lists
from jobfac.database.tables import job, run
from jobfac.database.types import sql_literals
from jobfac.states import FAILURES, FINAL, Decision, JobKind, RunState, StepResult, StepStart, Waiting
from jobfac.store import api_keys
from jobfac.store.runs.reading import LIMIT, listed
from jobfac.store.runs.request import FIRST
from jobfac.store.sequences.decide import Visit, cause, how_elsewhere, step_results
from jobfac.store.sequences.visits import ANCESTORS, VisitRow, place_of, read, rows_of
from jobfac.views.sequences import StepRunView, StepVisitView
from jobfac.views.serialization import columns, from_row, read_json

SHOWN = 100
"""How many runs of a step with ``for_each`` its history has."""

BATCH = 500
"""The maximum number of runs in one statement."""

_BAD = (StepResult.FAILURE, StepResult.MIXED)

_RUN_COLUMNS = [listed(name) for name in columns(StepRunView) if name != "id"]


class _Child(NamedTuple):
    """A run of a job of a step, as far as it decides which runs are read."""

    id: int
    visit_id: int
    state: str


def step_history(conn: sa.Connection, run_id: int, categories: Sequence[str] | None = None) -> list[StepVisitView]:
    """Return all visits of a sequence run, oldest first, with the runs of their jobs and nested sequences.

    Large outputs are None, and ``truncated`` names them. Of a step with ``for_each`` only the runs that it shows are
    read.

    Args:
        categories: include only runs and refused starts of jobs of these categories; None: all.
    """
    seen = None if categories is None else _seen(conn, categories)
    query = sa.select(run.c.id, run.c.visit_id, run.c.state).where(run.c.sequence_run_id == run_id).order_by(run.c.id)
    children: dict[int, list[_Child]] = {}
    for child in conn.execute(query.where(*lists.of_categories(run.c.job, categories))):
        children.setdefault(child.visit_id, []).append(_Child(*child))
    visits = rows_of(conn, run_id)
    taken = {row.id: list(_taken(row, seen)) for row in visits}
    for row in visits:
        children.setdefault(row.id, []).extend(taken[row.id])
    refused = {row.id: list(_refused(row, seen)) for row in visits}
    chosen = {row.id: _chosen(row, len(refused[row.id]), children[row.id]) for row in visits}
    runs = _read(conn, [one for ids in chosen.values() for one in ids], categories)
    found = []
    for row in visits:
        shown = [runs[one] for one in chosen[row.id] if one in runs]  # one may be purged meanwhile
        states = [one.state for one in refused[row.id]] + [one.state for one in children[row.id]]
        visit = _visit(row, [*refused[row.id], *_placed(row, shown)], states)
        found.append(visit._replace(taken=len(taken[row.id]) or None))
    return found


def _chosen(row: VisitRow, refused: int, children: Sequence[_Child]) -> Sequence[int]:
    """Return the ids of the runs of a visit that are shown: with ``for_each`` the first ones, failures first."""
    if row.children is None:
        return sorted(one.id for one in children)
    failures_first = sorted(children, key=lambda one: one.state not in FAILURES)
    return sorted(one.id for one in failures_first[: max(0, SHOWN - refused)])


def _read(conn: sa.Connection, ids: Sequence[int], categories: Sequence[str] | None) -> dict[int, StepRunView]:
    """Return runs by id."""
    found = {}
    for start in range(0, len(ids), BATCH):
        query = sa.select(run.c.id, run.c.sequence_run_id, *_RUN_COLUMNS).where(
            lists.by_id(run.c.id, ids[start : start + BATCH])
        )
        for row in conn.execute(query).mappings().all():
            is_long = row["outputs"] is not None and len(row["outputs"]) > LIMIT
            child = from_row(StepRunView, {**row, "outputs": None} if is_long else row)
            child = child._replace(taken_from=row["sequence_run_id"] or row["id"])
            if is_long:
                child = child._replace(truncated=["outputs"])
            if child.kind is JobKind.SEQUENCE:
                child = child._replace(path=step_history(conn, row["id"], categories))
            found[row["id"]] = child
    return found


def _seen(conn: sa.Connection, categories: Sequence[str]) -> frozenset[str]:
    """Return the ids of the jobs of these categories."""
    return frozenset(conn.execute(sa.select(job.c.id).where(lists.among(job.c.category, categories))).scalars())


def _visit(row: VisitRow, runs: list[StepRunView], states: Sequence[str]) -> StepVisitView:
    """Return the view of a visit. ``states``: of all of its runs and refused starts, also those that are not shown."""
    shown = from_row(StepVisitView, {**row._asdict(), "next": row.next_step or row.goes_to, "runs": runs})
    if shown.children is None:
        return shown
    counts = Counter(map(str, states))
    if (unstarted := shown.children - len(states)) > 0 and shown.result is None:
        counts["unstarted"] = unstarted
    failures_first = sorted(runs, key=lambda run: run.state not in FAILURES)
    return shown._replace(runs=failures_first[:SHOWN], counts=dict(sorted(counts.items())))


def _refused(row: VisitRow, seen: Collection[str] | None) -> Iterator[StepRunView]:
    empty = dict.fromkeys(columns(StepRunView))
    for name, why in row.refusals.items():
        if seen is None or name.partition("[")[0] in seen:
            yield from_row(StepRunView, {**empty, "job": name, "state": RunState.DENIED, "reason": why})


def _taken(row: VisitRow, seen: Collection[str] | None) -> Iterator[_Child]:
    """Yield the runs that a visit has taken over."""
    for name, run_id in row.unstarted.taken.items():
        if seen is None or (name if row.children is None else place_of(name)[0]) in seen:
            yield _Child(run_id, row.id, RunState.SUCCEEDED)


def _placed(row: VisitRow, runs: Sequence[StepRunView]) -> Iterator[StepRunView]:
    """Yield these runs, those that the visit has taken over with their places there."""
    names = {run_id: name for name, run_id in row.unstarted.taken.items()}
    for one in runs:
        if one.id not in names:
            yield one._replace(taken_from=None)
        else:
            yield one._replace(item=None if row.children is None else place_of(names[one.id])[1])


def first_cause(conn: sa.Connection, rows: Sequence[VisitRow], visits: Sequence[Visit]) -> str | None:
    """Return the first step and job of a sequence run that did not succeed, in words; None: all succeeded.

    ``visits``: those of ``rows``, oldest first. The first ones may be those of runs that this one continues.
    """
    place = blamed(visits)
    words = None if place is None else _words(conn, rows[place])
    if place is None or words is None or rows[place].run_id == rows[-1].run_id:
        return words
    return f"{words} (in run {rows[place].run_id}, which this one continues)"


def blamed(visits: Sequence[Visit]) -> int | None:
    """Return the place of the visit that is the reason why a sequence run did not succeed; None: there is none.

    This is the first step whose last visit did not succeed. A step that succeeded when it was repeated is blamed only
    without such a step: then the step that handled its failure has ended the sequence as failed. A pure function.
    """
    last = {visit.step: place for place, visit in enumerate(visits) if visit.result != StepResult.SKIPPED}
    bad = {step for step, result in step_results(visits).items() if result in _BAD}
    counts = [last[step] for step in bad]
    others = [place for place, visit in enumerate(visits) if _has_failed(visit)]
    return min(counts or others, default=None)


def _has_failed(visit: Visit) -> bool:
    return visit.result in _BAD or any(state != RunState.SUCCEEDED for state in visit.ended)


def _words(conn: sa.Connection, row: VisitRow) -> str | None:
    """Return what went wrong in a visit, in words; None: nothing did."""
    if row.decision is not None:
        return cause(row.step, None, None, _decided(row))
    if row.refusals or row.start == StepStart.FAILED:
        name, why = next(iter(row.refusals.items()), (None, row.reason))
        if name is not None and is_elsewhere(conn, row.run_id, name.partition("[")[0]):
            why = "a job of another category"
        return cause(row.step, name, RunState.DENIED if name else None, why)
    bad = sa.text(f"state IN ({sql_literals(FINAL - {RunState.SUCCEEDED})})")
    shown = sa.select(run.c.id, run.c.job, run.c.state, run.c.exit_code, run.c.reason, run.c.exit_message)
    found = conn.execute(shown.where(run.c.visit_id == row.id, bad).order_by(run.c.ended_at, run.c.id).limit(1)).first()
    if found is None:
        return None
    state, why = RunState(found.state), found.reason or found.exit_message
    if is_elsewhere(conn, row.run_id, found.job):
        why = how_elsewhere(found.id, state, found.exit_code)
    return cause(row.step, found.job, state, why)


def _decided(row: VisitRow) -> str:
    """Return how the waiting of a step ended that did not succeed."""
    if row.decision == Decision.REJECTED:
        how = f"rejected by {row.decided_by}"
    elif row.waits_for == Waiting.APPROVAL:
        how = "nobody decided in time"
    else:
        how = "what it waited for was not found in time"
    return f"{how}: {row.reason}" if row.reason else how


def is_elsewhere(conn: sa.Connection, run_id: int, job_id: str) -> bool:
    """Whether a job in a sequence run is of another category, and keys are limited to categories: these see the run of
    the sequence, but not what the job says about itself."""
    around = sa.select(job.c.category).join(run, run.c.job == job.c.id).where(run.c.id == run_id)
    category = conn.execute(around).scalar()
    inside = sa.select(job.c.category).where(job.c.id == job_id)
    return category is not None and conn.execute(inside).scalar() != category and api_keys.are_limited(conn)


class Visited(NamedTuple):
    """Visits of steps, oldest first, and their rows, in the same order."""

    rows: list[VisitRow]
    visits: list[Visit]


def all_that_count(conn: sa.Connection, run_id: int) -> Visited:
    """Return the visits of a sequence run, after those that count of the runs that it continues from a later step.

    A run that begins with a step continues the run that it retries as that stood before this step, or after it if the
    step was only skipped since. If that began with the same step, it repeats all of it.
    """
    found = visited(conn, run_id)
    earlier, first = _begin(conn, run_id)
    for _ in range(ANCESTORS):
        if earlier is None or first is None:
            break
        before, its_first = _begin(conn, earlier)
        is_skipped = {visit.result for visit in found.visits if visit.step == first} == {StepResult.SKIPPED}
        if its_first != first or is_skipped:
            kept = _before(visited(conn, earlier), first, is_skipped)
            found = Visited([*kept.rows, *found.rows], [*kept.visits, *found.visits])
        earlier, first = before, its_first
    return found


def lineage(conn: sa.Connection, run_id: int) -> Iterator[int]:
    """Yield a sequence run and the runs that it continues, the latest first. A repetition of a whole run continues
    none."""
    for _ in range(ANCESTORS + 1):
        yield run_id
        earlier, first = _begin(conn, run_id)
        if earlier is None or first is None:
            return
        run_id = earlier


def visited(conn: sa.Connection, run_id: int) -> Visited:
    """Return the visits of a sequence run alone."""
    rows = rows_of(conn, run_id)
    return Visited(rows, read(conn, rows))


def _begin(conn: sa.Connection, run_id: int) -> tuple[int | None, str | None]:
    """Return the run that a run retries, and the step with which it began; None: there is none, the first one."""
    row = conn.execute(sa.select(run.c.retry_of, run.c.overrides).where(run.c.id == run_id)).first()
    if row is None:
        return None, None
    return row.retry_of, read_json(row.overrides).get(FIRST) if row.overrides else None


def _before(former: Visited, first: str, including: bool) -> Visited:
    """Return the visits before the last one of the step ``first``: what came after it belongs to what is repeated.

    ``including``: that one, too.
    """
    places = [place for place, visit in enumerate(former.visits) if visit.step == first]
    end = places[-1] + including if places else len(former.visits)
    kept = [place for place in range(end) if _is_known(former.visits[place])]
    return Visited([former.rows[place] for place in kept], [former.visits[place] for place in kept])


def _is_known(visit: Visit) -> bool:
    """Whether it is known how a visit ended. A step with ``at_once`` is judged by its runs, which may be purged."""
    return visit.result != StepResult.AT_ONCE or bool(visit.ended)
