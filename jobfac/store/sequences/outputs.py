"""What the jobs of a step reported, for the steps after it."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from jobfac.database.dialects import characters
from jobfac.database.tables import run, visit
from jobfac.states import StepResult
from jobfac.store.sequences.references import LONGEST, UnknownReference
from jobfac.views.serialization import read_json

NO_VALUES = "[]"
"""``for_each`` of a visit that starts no run."""


def outputs(conn: sa.Connection, run_ids: Iterable[int], step: str, job: str | None) -> Mapping[str, Any] | None:
    """Return the outputs of a job of a step, from the first of these sequence runs in which the job has ended.

    The latest visit counts, also one with ``for_each`` and no values. ``job`` None: what the approver of the step gave.
    None: there are none in these runs.
    """
    for run_id in run_ids:
        if job is None:
            given = sa.select(visit.c.parameters).where(
                visit.c.run_id == run_id, visit.c.step == step, visit.c.parameters.is_not(None)
            )
            text = conn.execute(given.order_by(visit.c.id.desc()).limit(1)).scalar()
            if text is not None:
                return dict(read_json(text))
            continue
        latest = _latest_fan(conn, run_id, step)
        if latest is not None and latest.size == len(NO_VALUES):
            return _EmptyLists()
        query = (
            sa.select(run.c.outputs, run.c.item, run.c.visit_id)
            .join(visit, visit.c.id == run.c.visit_id)
            .where(visit.c.run_id == run_id, visit.c.step == step, run.c.job == job, run.c.ended_at.is_not(None))
            .order_by(visit.c.id.desc())
            .limit(1)
        )
        row = conn.execute(query if latest is None else query.where(visit.c.id == latest.id)).first()
        if row is None and latest is not None:
            return None
        if row is not None and row.item is not None:
            return _collected(conn, row.visit_id, job)
        if row is not None:
            return json.loads(row.outputs) if row.outputs else {}
    return None


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


def _latest_fan(conn: sa.Connection, run_id: int, step: str) -> sa.Row[Any] | None:
    """Return the latest visit of a step if it had ``for_each``: what earlier ones reported does not stand for it."""
    query = sa.select(visit.c.id, characters(visit.c.for_each).label("size"))
    query = query.where(visit.c.run_id == run_id, visit.c.step == step)
    row = conn.execute(query.order_by(visit.c.id.desc()).limit(1)).first()
    return None if row is None or row.size is None else row


def _collected(conn: sa.Connection, visit_id: int, job: str) -> dict[str, list[Any]]:
    """Return the outputs of the runs of a step with ``for_each``: by key, a list in the order of its values.

    Raises:
        UnknownReference: together they are too long, or some of them were purged.
    """
    theirs = run.c.visit_id == visit_id, run.c.job == job
    # Asked before they are read: to stop in the middle would cancel the statement, and with XACT_ABORT that makes SQL
    # Server roll back what the transaction has written.
    length = conn.execute(sa.select(sa.func.sum(characters(run.c.outputs))).where(*theirs)).scalar_one() or 0
    if length > LONGEST:
        raise UnknownReference(f"the outputs of the runs of '{job}' have more than {LONGEST:,} characters")
    rows = conn.execute(sa.select(run.c.item, run.c.outputs).where(*theirs).order_by(run.c.item)).all()
    if gone := _purged(conn, visit_id, job, {row.item for row in rows}):
        raise UnknownReference(f"{gone} of the runs of '{job}' were purged, and their outputs with them")
    each = [json.loads(row.outputs) if row.outputs else {} for row in rows]
    keys = dict.fromkeys(key for found in each for key in found)
    return {key: [found.get(key) for found in each] for key in keys}


def _purged(conn: sa.Connection, visit_id: int, job: str, there: Collection[int]) -> int:
    """Return how many of a job's runs are missing in a visit of a step with ``for_each``.

    Args:
        there: the places of those that are there, at least one.
    """
    columns = (visit.c.for_each, visit.c.refused, visit.c.result)
    row = conn.execute(sa.select(*columns).where(visit.c.id == visit_id)).one()
    # Without a success, the last ones may never have been started.
    number = len(json.loads(row.for_each)) if row.result == StepResult.SUCCESS else max(there) + 1
    refused = json.loads(row.refused) if row.refused else {}
    return sum(place not in there and f"{job}[{place}]" not in refused for place in range(number))
