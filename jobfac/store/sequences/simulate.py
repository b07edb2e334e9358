"""Walking through a sequence without running anything: the same decisions, with outcomes that somebody thought up."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from jobfac.definitions import Sequence as Definition
from jobfac.definitions import Step
from jobfac.states import RunState, StepResult
from jobfac.store.sequences.decide import Enter, Leave, Visit, decide, is_open, leave, outcome, step_of

Outcomes = Mapping[tuple[str, str], Sequence[RunState]]
"""By step and job: its final states, one for each visit of the step; the last one holds for all visits that follow."""


class Stop(NamedTuple):
    """One visit on the way: the ``number``-th of its step, and how its jobs ended, none if it was skipped."""

    number: int
    visit: Visit
    jobs: Mapping[str, RunState]


class Walk(NamedTuple):
    """The whole way, how the sequence ended, and why it did not succeed."""

    stops: list[Stop]
    state: RunState
    reason: str | None


def simulate(sequence: Definition, outcomes: Outcomes, instant: datetime) -> Walk:
    """Walk from the first step to the end, all at one ``instant`` (aware).

    Jobs without an outcome succeed. The jobs of a step end in the order in which ``outcomes`` names them, and those
    that it does not name after them: of a step that goes on ``when_any`` of them ended, the first one decides.
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
