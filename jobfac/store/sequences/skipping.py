"""Approvals that a start from a later step of a sequence would skip."""

from collections.abc import Iterable, Iterator, Set

import sqlalchemy as sa

from jobfac.database.tables import visit
from jobfac.definitions import Sequence as Definition
from jobfac.definitions import Step
from jobfac.states import StepResult
from jobfac.store import jobs
from jobfac.store.sequences.graph import Edge, edges
from jobfac.store.sequences.history import lineage


def skipped_approvals(conn: sa.Connection, sequence: Definition, first: str, former: int | None) -> list[Step]:
    """Return the steps that wait for a person on a way to the step ``first``, also in the sequences inside of others.

    ``former``: the run that is continued. Its steps that succeeded are not skipped: somebody has approved them.
    """
    passed = set() if former is None else _passed(conn, former)
    return list(_approvals(conn, [step for step in steps_before(sequence, first) if step.name not in passed]))


def steps_before(sequence: Definition, first: str) -> list[Step]:
    """Return the steps that a run may visit before it visits the step ``first`` for the first time. A pure function."""
    numbers = {step.name: number for number, step in enumerate(sequence.steps)}
    goal, ways = numbers[first], edges(sequence)
    before = _reachable({0}, ways, goal) - {goal}

    def leads_there(number: int) -> bool:
        out = [way for way in ways if way.source == number]
        if sequence.steps[number].approve is not None:  # a rejection gives no permission
            out = [way for way in out if StepResult.SUCCESS in way.results]
        return goal in _reachable({way.target for way in out}, ways, goal)

    return [step for number, step in enumerate(sequence.steps) if number in before and leads_there(number)]


def _reachable(start: Set[int], ways: Iterable[Edge], goal: int) -> set[int]:
    """Return the nodes that can be reached without leaving ``goal`` again."""
    found: set[int] = set()
    fresh = set(start)
    while fresh:
        found |= fresh
        fresh = {way.target for way in ways if way.source in fresh and way.source != goal} - found
    return found


def _approvals(conn: sa.Connection, steps: Iterable[Step]) -> Iterator[Step]:
    known: set[str] = set()
    level = list(steps)
    while level:
        yield from (step for step in level if step.approve is not None)
        inside = {job for step in level for job in step.jobs} - known
        known |= inside
        found = [getattr(one, "definition", None) for one in jobs.load_many(conn, inside).values()] if inside else []
        level = [step for one in found if isinstance(one, Definition) for step in one.steps]


def _passed(conn: sa.Connection, former: int) -> set[str]:
    """Return the steps that succeeded in a run, or in the runs that it continues."""
    passed: set[str] = set()
    for one in lineage(conn, former):
        good = visit.c.result.in_([StepResult.SUCCESS, StepResult.SKIPPED])
        passed |= set(conn.execute(sa.select(visit.c.step).where(visit.c.run_id == one, good)).scalars())
    return passed
