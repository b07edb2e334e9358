"""Which way a sequence goes: pure decisions, from what has happened to the one next move.

**How a visit of a step ends.** A job run that succeeded counts as a success, a nested sequence that ended ``mixed`` as
mixed, and everything else (failed, timed_out, lost, start_failed, denied, stopped by somebody, or a start that was
refused) as a failure. It is the run's final state that counts, not an attempt's.

- ``when_all`` decides when all jobs ended: success if all succeeded, failure if all failed, else mixed.
- ``when_any`` decides at the first end, by it alone; the other jobs run on and change nothing any more.
- ``at_once`` does not wait for any end and goes where ``on_success`` says.

A step whose ``start_if`` does not hold is skipped and goes where ``otherwise`` says. A step that could not be started
because a reference in its arguments or payloads is unknown ends in failure.

**How the sequence ends.** At ``end`` or ``end_failed`` it waits until none of its jobs runs any more.

- ``stopped``: a stop was asked for, wherever it was by then.
- ``failed``: the path led to ``end_failed``, or would have entered a step more than ``maximum_visits`` times.
- Otherwise every step that was visited is judged by its last visit, so that a step which failed, was repaired and
  then succeeded is a success. An ``at_once`` step is judged by its jobs as ``when_all`` would; skipped steps do not
  count. All successes, or nothing that counts: ``succeeded``; all failures: ``failed``; else ``mixed``.

So a failure that a branch took care of is not hidden: the sequence is ``mixed``, unless the step was run again with
success. What somebody wants to be a failure goes to ``end_failed``.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from jobfac import recurrence
from jobfac.definitions import Go, Step
from jobfac.definitions import Sequence as Definition
from jobfac.states import RunState, StepResult

END = Go(kind="end")


class Visit(NamedTuple):
    """A visit of a step. ``ended``: the final states of its jobs in the order of their ends; ``running``: how many have
    not ended. ``result`` and ``to`` (never "next") are None until it is decided."""

    step: str
    ended: Sequence[RunState]
    running: int
    result: StepResult | None = None
    to: Go | None = None


class Enter(NamedTuple):
    """Come to this step."""

    step: str


class Leave(NamedTuple):
    """The visit under way has this result, and the sequence goes there."""

    result: StepResult
    to: Go


class Finish(NamedTuple):
    """End as soon as nothing runs any more; ``failed``: as failed whatever the steps' results, for this ``reason``."""

    failed: bool
    reason: str | None


Move = Enter | Leave | Finish


def decide(sequence: Definition, last: Visit | None, entered: int = 0, first: str | None = None) -> Move | None:
    """The next move, None: wait for a job's end.

    Args:
        last: the latest visit; None before the first.
        entered: how often the step to which ``last`` goes has been visited.
        first: the step to begin with, if not with the first one.
    """
    if last is None:
        return Enter(first or sequence.steps[0].name)
    if last.to is None:
        step = step_of(sequence, last.step)
        result = result_of(step, last.ended, last.running)
        return None if result is None else leave(sequence, step, result)
    if last.to.step is not None:
        if entered < sequence.maximum_visits:
            return Enter(last.to.step)
        return Finish(True, f"step '{last.to.step}' would be visited more than {sequence.maximum_visits} times")
    if last.to.kind == "end_failed":
        return Finish(True, f"step '{last.step}' ({last.result}) leads to end_failed")
    return Finish(False, None)


def result_of(step: Step, ended: Sequence[RunState], running: int) -> StepResult | None:
    """How a visit that was started ends, None: not decided yet."""
    if step.proceed == "at_once":
        return StepResult.AT_ONCE
    if step.proceed == "when_any":
        return judge(ended[:1]) if ended else None
    return None if running else judge(ended)


def judge(ended: Iterable[RunState]) -> StepResult:
    """What these final states are together."""
    kinds = {_KINDS.get(state, StepResult.FAILURE) for state in ended}
    return kinds.pop() if len(kinds) == 1 else StepResult.MIXED


_KINDS = {RunState.SUCCEEDED: StepResult.SUCCESS, RunState.MIXED: StepResult.MIXED}


def leave(sequence: Definition, step: Step, result: StepResult) -> Leave:
    """Where the sequence goes from a step with this result: a step by its name, or an end."""
    ways = {
        StepResult.SUCCESS: step.on_success,
        StepResult.AT_ONCE: step.on_success,
        StepResult.FAILURE: step.on_failure,
        StepResult.MIXED: step.on_mixed,
    }
    if step.start_if is not None:
        ways[StepResult.SKIPPED] = step.start_if.otherwise
    go = ways[result]
    if go.kind != "next":
        return Leave(result, go)
    following = sequence.steps[sequence.steps.index(step) + 1 :]
    return Leave(result, Go(kind="step", step=following[0].name) if following else END)


def is_open(step: Step, instant: datetime) -> bool:
    """Whether a step may start at this instant."""
    when = step.start_if
    return when is None or recurrence.in_window(when.dates, when.times, ZoneInfo(when.timezone), instant)


def outcome(finish: Finish, visits: Iterable[Visit]) -> tuple[RunState, str | None]:
    """How the sequence ends, and why it did not succeed; ``visits`` oldest first, of each step at least the last."""
    if finish.failed:
        return RunState.FAILED, finish.reason
    results = {step: result for step, result in verdicts(visits).items() if result != StepResult.SKIPPED}
    bad = ", ".join(f"'{step}' ({result})" for step, result in results.items() if result != StepResult.SUCCESS)
    if not bad:
        return RunState.SUCCEEDED, None
    all_failed = set(results.values()) == {StepResult.FAILURE}
    return RunState.FAILED if all_failed else RunState.MIXED, f"did not succeed: {bad}"


def verdicts(visits: Iterable[Visit]) -> dict[str, StepResult]:
    """Every step that was visited with the result that counts: its last visit's. Undecided visits count as failures."""
    found: dict[str, StepResult] = {}
    for visit in visits:
        result = visit.result or StepResult.FAILURE
        found.pop(visit.step, None)  # so that the order is that of the last visits
        found[visit.step] = judge(visit.ended) if result == StepResult.AT_ONCE else result
    return found


def failed_step(sequence: Definition, visits: Sequence[Visit]) -> str | None:
    """Where to go on after a run that did not succeed: the step that did not succeed most recently; without one, the
    step that might not be visited any more; None: nothing failed."""
    results = verdicts(visits)
    bad = [step for step, result in results.items() if result in (StepResult.FAILURE, StepResult.MIXED)]
    if bad:
        return bad[-1]
    last = visits[-1].to if visits else None
    return last.step if last is not None else sequence.steps[0].name


def step_of(sequence: Definition, name: str) -> Step:
    """The step of this name."""
    return next(step for step in sequence.steps if step.name == name)
