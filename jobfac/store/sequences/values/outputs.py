"""The outputs of the jobs of a sequence's steps, to which later steps refer."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from jobfac.database.dialects import characters, lists
from jobfac.database.tables import run, visit
from jobfac.states import StepResult
from jobfac.store.sequences.values.references import LONGEST, UnknownReference
from jobfac.store.sequences.visits import Unstarted, named, place_of
from jobfac.views.serialization import read_json

NO_VALUES = "[]"
"""``for_each`` of a visit that starts no run."""


def of_job(conn: sa.Connection, run_ids: Iterable[int], step: str, job: str | None) -> Mapping[str, Any] | None:
    """Return the outputs of a job of a step, from the first of these sequence runs that has visited the step.

    The last visit counts, also one that has not started the job, or in which it has not ended; of a job with
    ``each_worker`` its first run.
    ``job`` None: what the approver of the step gave. None: there are none in these runs.
    """
    for run_id in run_ids:
        last = _latest(conn, run_id, step)
        if last is not None:
            return _given(last) if job is None else _reported(conn, last, job)
    return None


def _given(last: sa.Row[Any]) -> dict[str, Any] | None:
    return None if last.parameters is None else dict(read_json(last.parameters))


def _reported(conn: sa.Connection, last: sa.Row[Any], job: str) -> Mapping[str, Any] | None:
    if last.size == len(NO_VALUES):
        return _EmptyLists()
    unstarted = Unstarted.read(last.refused)
    if last.size is not None:
        return _collected(conn, last.id, job, unstarted)
    its = (
        (run.c.id == unstarted.taken[job],) if job in unstarted.taken else (run.c.visit_id == last.id, run.c.job == job)
    )
    query = sa.select(run.c.outputs).where(*its, run.c.ended_at.is_not(None)).order_by(run.c.id).limit(1)
    row = conn.execute(query).first()
    if row is None or job in unstarted.refused:
        return None
    return json.loads(row.outputs) if row.outputs else {}


class _EmptyLists(Mapping[str, list[Any]]):
    """The outputs of a step with ``for_each`` that had no values: every output is an empty list."""

    def __getitem__(self, key: str) -> list[Any]:
        return []

    def __contains__(self, key: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _latest(conn: sa.Connection, run_id: int, step: str) -> sa.Row[Any] | None:
    """Return the last visit of a step: without its jobs, what earlier ones reported does not stand for it."""
    query = sa.select(visit.c.id, visit.c.refused, visit.c.parameters, characters(visit.c.for_each).label("size"))
    query = query.where(visit.c.run_id == run_id, visit.c.step == step)
    return conn.execute(query.order_by(visit.c.id.desc()).limit(1)).first()


def _collected(conn: sa.Connection, visit_id: int, job: str, unstarted: Unstarted) -> dict[str, list[Any]] | None:
    """Return the outputs of the runs of a step with ``for_each``: by key, a list in the order of its values.

    None: no run has ended.

    Raises:
        UnknownReference: together they are too long, or some of them were purged.
    """
    taken = {run_id: place for name, run_id in unstarted.taken.items() for of, place in [place_of(name)] if of == job}
    sources: list[list[sa.ColumnElement[bool]]] = [[run.c.visit_id == visit_id, run.c.job == job]]
    if taken:
        sources.append([lists.by_id(run.c.id, taken)])
    # Asked before they are read: to stop in the middle would cancel the statement, and with XACT_ABORT that makes SQL
    # Server roll back what the transaction has written.
    length = sa.select(sa.func.sum(characters(run.c.outputs)))
    if sum(conn.execute(length.where(*one)).scalar_one() or 0 for one in sources) > LONGEST:
        raise UnknownReference(f"the outputs of the runs of '{job}' have more than {LONGEST:,} characters")
    query = sa.select(run.c.id, run.c.item, run.c.ended_at, run.c.outputs)
    rows = [row for one in sources for row in conn.execute(query.where(*one))]
    if all(row.ended_at is None for row in rows):
        return None
    found = {taken.get(row.id, row.item): json.loads(row.outputs or "{}") for row in rows}
    number, gone = _counted(conn, visit_id, job, found, unstarted)
    if gone:
        raise UnknownReference(f"{gone} of the runs of '{job}' were purged, and their outputs with them")
    each = [found.get(place, {}) for place in range(number)]
    keys = dict.fromkeys(key for one in each for key in one)
    return {key: [one.get(key) for one in each] for key in keys}


def _counted(
    conn: sa.Connection, visit_id: int, job: str, there: Collection[int], unstarted: Unstarted
) -> tuple[int, int]:
    """Return how many values a step with ``for_each`` had in a visit, and how many of a job's runs are missing.

    Args:
        there: the places of those that are there, at least one.
    """
    row = conn.execute(sa.select(visit.c.for_each, visit.c.result).where(visit.c.id == visit_id)).one()
    number = len(json.loads(row.for_each))
    # Without a success, the last ones may never have been started.
    started = number if row.result == StepResult.SUCCESS else max(there) + 1
    missing = (place for place in range(started) if place not in there)
    return number, sum(named(job, place) not in unstarted.refused for place in missing)
