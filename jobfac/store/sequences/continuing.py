"""What a retry from the failed step takes over of this step: its jobs that succeeded, and values of ``for_each``."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from jobfac.database.tables import run, visit
from jobfac.definitions import DefinitionError, Step
from jobfac.definitions import Sequence as Definition
from jobfac.states import RunState, StepResult, StepStart
from jobfac.store import jobs
from jobfac.store.history import retries
from jobfac.store.runs.request import CONTINUED, FIRST
from jobfac.store.sequences.checking import StepError
from jobfac.store.sequences.decide import step_of, step_results
from jobfac.store.sequences.history import Visited
from jobfac.store.sequences.visits import Unstarted, named, place_of
from jobfac.views.serialization import read_json

Place = tuple[str, str | None]
"""A job and, with ``for_each``, its values as JSON."""

Succeeded = Mapping[Place, Sequence[int]]
"""The runs that succeeded, by place. A list of values may have one of them twice."""


def succeeded(conn: sa.Connection, visit_id: int) -> Succeeded:
    """Return what succeeded in a visit that did not succeed as a whole, and what that had taken over.

    A run that failed, and was retried by hand with success and the same values, succeeded: the retry stands for it. A
    job with ``each_worker`` succeeded if it did on each of its workers. Its first run stands for it.

    Raises:
        StepError: runs of the visit were purged, so it is not known which ones succeeded.
    """
    row = _visited(conn, visit_id)
    if row is None:
        raise StepError("the run that this one continues was purged; start the sequence with this step")
    items = _items(row)
    unstarted = Unstarted.read(row.refused)
    ended = _ended(conn, visit_id)
    failures = sum(one.state != RunState.SUCCEEDED for its in ended.values() for one in its)
    if _missing(conn, row, items, unstarted, ended) or _has_no_failure(row, unstarted, failures):
        raise StepError(
            f"runs of the step '{row.step}' of run {row.run_id} were purged, so it is not known which jobs succeeded; "
            "start the sequence with this step"
        )
    found: dict[Place, list[int]] = defaultdict(list)
    good = {name: its[0].id for name, its in ended.items() if all(one.state == RunState.SUCCEEDED for one in its)}
    for name, run_id in [*unstarted.taken.items(), *good.items(), *_by_hand(conn, ended).items()]:
        found[_place(name, items)].append(run_id)
    return found


def _visited(conn: sa.Connection, visit_id: int) -> Any:
    columns = (visit.c.run_id, visit.c.step, visit.c.start, visit.c.result, visit.c.for_each, visit.c.refused)
    query = sa.select(*columns, run.c.job, run.c.job_version).join(run, run.c.id == visit.c.run_id)
    return conn.execute(query.where(visit.c.id == visit_id)).first()


def _items(row: Any) -> Sequence[Any] | None:
    return None if row.for_each is None else json.loads(row.for_each)


def _ended(conn: sa.Connection, visit_id: int) -> Mapping[str, Sequence[Any]]:
    """Return the runs of a visit, by name: with ``each_worker`` several ones have the same."""
    ended: dict[str, list[Any]] = defaultdict(list)
    theirs = sa.select(run.c.id, run.c.job, run.c.item, run.c.state).where(run.c.visit_id == visit_id)
    for one in conn.execute(theirs.order_by(run.c.id)):
        ended[one.job if one.item is None else named(one.job, one.item)].append(one)
    return ended


def _by_hand(conn: sa.Connection, ended: Mapping[str, Sequence[Any]]) -> Mapping[str, int]:
    """Return the runs that stand for what did not succeed at first, but was retried by hand with success, by name."""
    of_jobs: dict[str, list[int]] = defaultdict(list)
    for one in (one for its in ended.values() for one in its if one.state != RunState.SUCCEEDED):
        of_jobs[one.job].append(one.id)
    by_hand: dict[int, int] = {}
    for job, run_ids in of_jobs.items():
        by_hand |= retries.by_hand(conn, job, run_ids)
    return {
        name: by_hand.get(its[0].id, its[0].id)
        for name, its in ended.items()
        if any(one.id in by_hand for one in its)
        and all(one.state == RunState.SUCCEEDED or one.id in by_hand for one in its)
    }


def _has_no_failure(row: Any, unstarted: Unstarted, failures: int) -> bool:
    """Whether a step failed, and nothing that is there did: what failed was purged."""
    is_bad = row.start == StepStart.STARTED and row.result in (StepResult.FAILURE, StepResult.MIXED)
    return is_bad and not failures and not unstarted.refused


def _missing(
    conn: sa.Connection, row: Any, items: Sequence[Any] | None, unstarted: Unstarted, ended: Iterable[str]
) -> bool:
    """Whether a run is gone that the visit had started. The last ones of ``for_each`` may never have been started."""
    if row.start != StepStart.STARTED:
        return False
    try:
        former = jobs.load_version(conn, row.job, row.job_version)
    except DefinitionError:  # of another version of jobfac
        return False
    assert isinstance(former, Definition)
    step = step_of(former, row.step)
    names = list(_names(step, items))
    known = {*ended, *unstarted.refused, *unstarted.taken}
    if items is not None and (row.result is None or step.stop_on_failure):
        own = known - unstarted.taken.keys()
        names = names[: max((place for place, name in enumerate(names) if name in own), default=-1) + 1]
    return not known.issuperset(names)


def _names(step: Step, items: Sequence[Any] | None) -> Iterator[str]:
    """Yield the names of what a step starts, in order."""
    if items is None:
        yield from step.jobs
    else:
        yield from (named(job, at) for at in range(len(items)) for job in step.jobs)


def _place(name: str, items: Sequence[Any] | None) -> Place:
    if items is None:
        return name, None
    job, at = place_of(name)
    return job, json.dumps(items[at], sort_keys=True)


def taken(step: Step, items: Sequence[Any] | None, found: Succeeded) -> dict[str, int]:
    """Return what a new visit of a step takes over, as ``Unstarted.taken``. A pure function.

    A value counts by what it is, not by its place: the list may have changed.
    """
    left = {place: list(run_ids) for place, run_ids in found.items()}
    names = ((name, left.get(_place(name, items))) for name in _names(step, items))
    return {name: run_ids.pop(0) for name, run_ids in names if run_ids}


def visit_to_continue(conn: sa.Connection, run_id: int, step: str, that: Visited) -> int | None:
    """Return the visit that a retry of a run from a step takes over; None: the step starts as a whole.

    Args:
        that: the visits that count of the run and of those that it continues (``all_that_count``).
    """
    places = [place for place, row in enumerate(that.rows) if row.step == step and row.result != StepResult.SKIPPED]
    if not any(row.run_id == run_id for row in that.rows):
        return _continued(conn, run_id, step)
    if not places:
        return None
    row, last = that.rows[places[-1]], that.visits[places[-1]]
    if row.decision is not None:
        return None  # it waited for a person, a time, a file or an address, which had no success
    if row.start == StepStart.FAILED and row.number == 1:
        return _continued(conn, row.run_id, step)
    if step_results([last])[step] == StepResult.SUCCESS:
        return None  # this step is to be visited once more, as in a loop
    return row.id


def _continued(conn: sa.Connection, run_id: int, step: str) -> int | None:
    """Return the visit that a run takes over that has started nothing; None: it begins with another step or anew."""
    text = conn.execute(sa.select(run.c.overrides).where(run.c.id == run_id)).scalar()
    given = read_json(text) if text else {}
    return given.get(CONTINUED) if given.get(FIRST) == step else None
