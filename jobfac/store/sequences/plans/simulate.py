"""Simulate a sequence without running anything: the same decisions, with given outcomes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from math import prod
from typing import Any, NamedTuple

from jobfac.database.engine import SEQUENCE_LIMIT
from jobfac.definitions import Sequence as Definition
from jobfac.definitions import Step
from jobfac.definitions.parameters import whole
from jobfac.states import Decision, RunState, StepResult
from jobfac.store.sequences.decide import (
    Enter,
    Leave,
    Visit,
    decide,
    is_open,
    leave,
    outcome,
    step_of,
    too_many_runs,
    too_many_visits,
)

Outcomes = Mapping[tuple[str, str], Sequence[RunState]]
"""Final states by step and job: one for each visit of the step. The last one applies to all later visits.

With ``for_each`` the job of one value is ``JOB[PLACE]``, with places from 0; without a place it is all of them."""

Decisions = Mapping[str, Sequence[Decision]]
"""How the steps that wait for a person, a file or an address go on: one for each visit. Without one a person approves,
and the file or the answer is there."""

FEW = 1000
"""The simulated number of runs of a step with ``for_each`` at most."""


class Stop(NamedTuple):
    """One simulated visit: the ``number``-th of its step, and the final states of its jobs (empty if skipped).

    ``reason``: why it could not start; None: it could.
    """

    number: int
    visit: Visit
    jobs: Mapping[str, RunState]
    reason: str | None = None


class Walk(NamedTuple):
    """All visits of the simulation, the final state of the sequence, and the reason if it did not succeed."""

    stops: list[Stop]
    state: RunState
    reason: str | None


def simulate(
    sequence: Definition,
    outcomes: Outcomes,
    instant: datetime,
    decisions: Decisions | None = None,
    values: Mapping[str, Any] | None = None,
    limit: int = SEQUENCE_LIMIT,
) -> Walk:
    """Simulate the sequence from the first step to the end, all at one ``instant`` (aware).

    A step that waits for a time is over at once. A step with ``for_each`` has a run for each value; a list that only an
    earlier step reports counts as one value.

    Args:
        values: the parameters of the sequence.
        limit: the maximum number of visits, and of runs of jobs.

    Jobs without an outcome succeed. The jobs of a step end in the order in which ``outcomes`` names them; jobs that it
    does not name end after them. So for a step with ``when_any`` the first named job decides.
    """
    stops: list[Stop] = []
    entered: Counter[str] = Counter()
    runs = 0
    while True:
        last = stops[-1].visit if stops else None
        goal = last.to.step if last is not None and last.to is not None else None
        move = decide(sequence, last, entered[goal] if goal else 0)
        if isinstance(move, Enter) and len(stops) >= limit:
            return Walk(stops, RunState.FAILED, too_many_visits(limit))
        if isinstance(move, Enter):
            entered[move.step] += 1
            step, number = step_of(sequence, move.step), entered[move.step]
            places = _places(step, values or {})
            more = (1 if places is None else places) * len(step.jobs)
            if not is_open(step, instant):
                stops.append(Stop(number, Visit(step.name, [], 0, *leave(sequence, step, StepResult.SKIPPED)), {}))
            elif step.waits:
                stops.append(_waited(step, number, decisions or {}))
            elif runs + more > limit:
                failed = Visit(step.name, [], 0, *leave(sequence, step, StepResult.FAILURE))
                stops.append(Stop(number, failed, {}, too_many_runs(runs + more, limit)))
            else:
                stops.append(_visit(step, number, outcomes, None if places is None else min(FEW, places)))
                runs += len(stops[-1].jobs) if places is None or places <= FEW else more
        elif isinstance(move, Leave):
            stops[-1] = stops[-1]._replace(visit=stops[-1].visit._replace(result=move.result, to=move.to))
        else:
            assert move is not None, "every job has ended, so there is nothing to wait for"
            return Walk(stops, *outcome(move, [stop.visit for stop in stops]))


def _waited(step: Step, number: int, decisions: Decisions) -> Stop:
    """A visit of a step that waits for a person, a time, a file or an address, which is over."""
    usual = Decision.APPROVED if step.approve is not None else Decision.FOUND if step.otherwise else Decision.ELAPSED
    given = decisions.get(step.name, [usual])
    return Stop(number, Visit(step.name, [], 0, decision=given[min(number, len(given)) - 1]), {})


def _places(step: Step, values: Mapping[str, Any]) -> int | None:
    """How many times the step starts each of its jobs; None: without ``for_each``."""
    if not step.for_each:
        return None
    return prod(_length(given, values) for given in step.for_each.values())


def _length(given: Any, values: Mapping[str, Any]) -> int:
    if not isinstance(given, str):
        return len(given)
    placeholder = whole(given)
    known = values.get(placeholder.parameter) if placeholder and placeholder.parameter else None
    return len(known) if isinstance(known, list) else 1


def _visit(step: Step, number: int, outcomes: Outcomes, places: int | None) -> Stop:
    named = [job for place, job in outcomes if place == step.name]
    if places is not None:
        jobs = dict.fromkeys((f"{job}[{at}]" for at in range(places) for job in step.jobs), RunState.SUCCEEDED)
        for job in sorted(named, key=lambda name: "[" in name):  # those of one value have precedence
            states = outcomes[step.name, job]
            for one in [job] if "[" in job else [f"{job}[{at}]" for at in range(places)]:
                jobs[one] = states[min(number, len(states)) - 1]
        return Stop(number, Visit(step.name, _until_given_up(step, jobs), 0), jobs)
    jobs = dict.fromkeys([*named, *step.jobs], RunState.SUCCEEDED)
    for job in named:
        states = outcomes[step.name, job]
        jobs[job] = states[min(number, len(states)) - 1]
    return Stop(number, Visit(step.name, list(jobs.values()), 0), jobs)


def _until_given_up(step: Step, jobs: dict[str, RunState]) -> list[RunState]:
    """The final states in order; with ``stop_on_failure`` what comes after the first failure is never started."""
    names = list(jobs)
    for place, name in enumerate(names):
        if step.stop_on_failure and jobs[name] != RunState.SUCCEEDED:
            for later in names[place + 1 :]:
                del jobs[later]
            break
    return list(jobs.values())
