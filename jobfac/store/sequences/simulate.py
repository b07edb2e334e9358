"""Simulate a sequence without running anything: the same decisions, with given outcomes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from jobfac.definitions import Sequence as Definition
from jobfac.definitions import Step
from jobfac.states import RunState, StepResult
from jobfac.store.sequences.decide import Enter, Leave, Visit, decide, is_open, leave, outcome, step_of

Outcomes = Mapping[tuple[str, str], Sequence[RunState]]
"""Final states by step and job: one for each visit of the step. The last one applies to all later visits."""


class Stop(NamedTuple):
    """One simulated visit: the ``number``-th of its step, and the final states of its jobs (empty if skipped)."""

    number: int
    visit: Visit
    jobs: Mapping[str, RunState]


class Walk(NamedTuple):
    """All visits of the simulation, the final state of the sequence, and the reason if it did not succeed."""

    stops: list[Stop]
    state: RunState
    reason: str | None


def simulate(sequence: Definition, outcomes: Outcomes, instant: datetime) -> Walk:
    """Simulate the sequence from the first step to the end, all at one ``instant`` (aware).

    Jobs without an outcome succeed. The jobs of a step end in the order in which ``outcomes`` names them; jobs that it
    does not name end after them. So for a step with ``when_any`` the first named job decides.
    """
    stops: list[Stop] = []
    entered: Counter[str] = Counter()
    while True:
        last = stops[-1].visit if stops else None
        goal = last.to.step if last is not None and last.to is not None else None
        move = decide(sequence, last, entered[goal] if goal else 0)
        if isinstance(move, Enter):
            entered[move.step] += 1
            stops.append(_visit(sequence, step_of(sequence, move.step), entered[move.step], outcomes, instant))
        elif isinstance(move, Leave):
            stops[-1] = stops[-1]._replace(visit=stops[-1].visit._replace(result=move.result, to=move.to))
        else:
            assert move is not None, "every job has ended, so there is nothing to wait for"
            return Walk(stops, *outcome(move, [stop.visit for stop in stops]))


def _visit(sequence: Definition, step: Step, number: int, outcomes: Outcomes, instant: datetime) -> Stop:
    if not is_open(step, instant):
        return Stop(number, Visit(step.name, [], 0, *leave(sequence, step, StepResult.SKIPPED)), {})
    named = [job for place, job in outcomes if place == step.name]
    jobs = dict.fromkeys([*named, *step.jobs], RunState.SUCCEEDED)
    for job in named:
        states = outcomes[step.name, job]
        jobs[job] = states[min(number, len(states)) - 1]
    return Stop(number, Visit(step.name, list(jobs.values()), 0), jobs)
