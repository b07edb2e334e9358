"""Checks before starts: approvals that a start from a later step would skip, and whether a job fits its sequence."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import lists
from jobfac.database.tables import run, visit
from jobfac.database.types import sql_literals
from jobfac.definitions import Sequence as Definition
from jobfac.definitions import Step
from jobfac.definitions.parameters.uses import unmasked
from jobfac.states import StepResult
from jobfac.store import jobs
from jobfac.store.history.retries import around
from jobfac.store.sequences.history import lineage
from jobfac.store.sequences.plans.graph import Edge, edges


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
        found = (
            [getattr(one, "definition", None) for one in jobs.load_many(conn, inside, True).values()] if inside else []
        )
        level = [step for one in found if isinstance(one, Definition) for step in one.steps]


_GOOD = sa.text(f"result IN ({sql_literals((StepResult.SUCCESS, StepResult.SKIPPED))})")


def _passed(conn: sa.Connection, former: int) -> set[str]:
    """Return the steps that succeeded in a run, or in the runs that it continues."""
    passed: set[str] = set()
    for one in lineage(conn, former):
        passed |= set(conn.execute(sa.select(visit.c.step).where(visit.c.run_id == one, _GOOD)).scalars())
    return passed


class StepError(Exception):
    """A step that cannot start. The message says why."""


class Holder(NamedTuple):
    """A sequence run, the concurrency key that it occupies, and its parent sequence run."""

    run_id: int
    key: str | None
    around: int | None


def check_job(conn: sa.Connection, holder: Holder, sequence: Definition, step: Step, job: str) -> None:
    """Check that a step may start a job. Both may have changed since ``apply`` compared them.

    Raises:
        StepError: lists would show a sensitive value of the sequence, or the job would wait for ever.
    """
    gives_secrets = bool(step.parameters.get(job)) and any(one.sensitive for one in sequence.parameters.values())
    if not gives_secrets and holder.key is None and holder.around is None:
        return
    stored = jobs.load_many(conn, [job], True).get(job)
    if not isinstance(stored, jobs.Stored):
        return  # its start is refused
    if gives_secrets and (name := unmasked(step, job, sequence.parameters, stored.definition.parameters)):
        raise StepError(
            f"the parameter '{name}' of job '{job}' is not sensitive, so lists would show a sensitive value of the "
            "sequence; declare it sensitive"
        )
    wanted = stored.definition.concurrency
    if wanted is not None and _places(conn, holder, wanted.key) >= wanted.limit:
        raise StepError(
            f"job '{job}' would wait for ever for a place of '{wanted.key}' (limit {wanted.limit}), since its own "
            "sequence has it; use another key, and retry the sequence"
        )


def _places(conn: sa.Connection, holder: Holder, key: str) -> int:
    """Return how many places of a concurrency key a sequence run and those around it have until they end."""
    ids = {holder.run_id}
    if holder.around is not None:
        ids |= {holder.around, *around(conn, holder.around)}
    mine = sa.select(sa.func.count()).where(lists.by_id(run.c.id, ids), run.c.concurrency_key == key)
    return int(conn.execute(mine).scalar_one())


def refused_nulls(
    conn: sa.Connection, step: Step, items: Sequence[Mapping[str, Any]], places: Iterable[int]
) -> dict[int, str]:
    """Return, by place, why a run for null is not started: the parameter's default would stand for the value."""
    if not any(None in items[place // len(step.jobs)].values() for place in places):
        return {}
    stored = jobs.load_many(conn, step.jobs, True)
    found = {}
    for place in places:
        at, job = divmod(place, len(step.jobs))
        declared = getattr(getattr(stored.get(step.jobs[job]), "definition", None), "parameters", {})
        for name, value in items[at].items():
            if value is None and name in declared and declared[name].default is not None:
                found[place] = f"its value for '{name}' is null, and the default of the parameter would stand for it"
    return found
