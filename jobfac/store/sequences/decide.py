"""Decide the next move of a sequence from its history. Pure functions.

**How a visit of a step ends.** A job run that succeeded counts as a success. A nested sequence that ended ``mixed``
counts as mixed. Everything else (failed, timed_out, lost, start_failed, denied, stopped, or a refused start) counts as
a failure. The final state of the run counts, not the state of an attempt.

- ``when_all`` decides when all jobs have ended: success if all succeeded, failure if all failed, else mixed.
- ``when_any`` decides when the first job ends, by its result alone. The other jobs continue and change nothing.
- ``at_once`` does not wait for jobs and continues as ``on_success`` says.

A step with ``for_each`` decides when all of its runs have ended, as ``when_all``; without any value it is a success. A
step with ``approve`` or ``wait`` starts nothing and decides when a person decides, its time has come, or what it waits
for is there.

A step whose ``start_if`` does not hold is skipped and continues as ``otherwise`` says. A step with an unknown reference
in its arguments or payloads cannot start and ends in failure.

**How the sequence ends.** At ``end`` or ``end_failed`` the sequence waits until none of its jobs is running.

- ``stopped``: a stop was requested, at any point of the sequence.
- ``failed``: the sequence reached ``end_failed``, or would have entered a step more than ``maximum_visits`` times.
- Otherwise the last visit of every visited step counts that was not skipped. So a step that failed first and then
  succeeded is a success, and one that failed first and was then skipped is a failure. An ``at_once`` step is judged by
  its jobs, as with ``when_all``. Steps that were only skipped do not count. If all steps that count are successes, or
  if no step counts, the sequence ends ``succeeded``. If all are failures, it ends ``failed``. Otherwise it ends
  ``mixed``.

So a branch that handles a failure does not hide it: the sequence is ``mixed``, unless the step ran again and succeeded.
To make the sequence fail, a step continues with ``end_failed``.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from jobfac import recurrence
from jobfac.definitions import Go, Step
from jobfac.definitions import Sequence as Definition
from jobfac.states import FAILURES, Decision, RunState, StepResult

END = Go(kind="end")


class Visit(NamedTuple):
    """A visit of a step.

    ``ended``: the final states of its jobs, in the order of their ends. ``running``: how many jobs have not ended.
    ``result`` and ``to`` (never "next") are None until the visit is decided. ``unstarted``: with ``for_each``, how many
    of its runs have not been started yet. ``decision``: how a step that waits for a person or a time went on.
    """

    step: str
    ended: Sequence[RunState]
    running: int
    result: StepResult | None = None
    to: Go | None = None
    unstarted: int = 0
    decision: Decision | None = None


class Enter(NamedTuple):
    """Enter this step."""

    step: str


class Leave(NamedTuple):
    """End the current visit with this result, and continue with ``to``."""

    result: StepResult
    to: Go


class Finish(NamedTuple):
    """End the sequence when no job is running. ``failed``: end as failed for this ``reason``, despite other results."""

    failed: bool
    reason: str | None


Move = Enter | Leave | Finish


def decide(sequence: Definition, last: Visit | None, entered: int = 0, first: str | None = None) -> Move | None:
    """Return the next move, or None to wait until a job ends.

    Args:
        last: the latest visit; None before the first visit.
        entered: how often the step to which ``last`` leads has been visited.
        first: the step to begin with; None: the first step.
    """
    if last is None:
        return Enter(first or sequence.steps[0].name)
    if last.to is None:
        step = step_of(sequence, last.step)
        result = result_of(step, last.ended, last.running, last.unstarted, last.decision)
        return None if result is None else leave(sequence, step, result)
    if last.to.step is not None:
        if entered < sequence.maximum_visits:
            return Enter(last.to.step)
        return Finish(True, f"step '{last.to.step}' would be visited more than {sequence.maximum_visits} times")
    if last.to.kind == "end_failed":
        return Finish(True, f"step '{last.step}' ({last.result}) leads to end_failed")
    return Finish(False, None)


def result_of(
    step: Step, ended: Sequence[RunState], running: int, unstarted: int = 0, decision: Decision | None = None
) -> StepResult | None:
    """Return the result of a started visit, or None if it is not decided yet."""
    if step.waits:
        return None if decision is None else _of_decision(step, decision)
    if step.for_each:
        is_open = unstarted > 0 and not is_given_up(step, ended)
        return None if running or is_open else judge(ended) if ended else StepResult.SUCCESS
    if step.proceed == "at_once":
        return StepResult.AT_ONCE
    if step.proceed == "when_any":
        return judge(ended[:1]) if ended else None
    return None if running else judge(ended)


def _of_decision(step: Step, decision: Decision) -> StepResult:
    if decision == Decision.EXPIRED:
        is_good = step.otherwise == "succeed"
    else:
        is_good = decision in (Decision.APPROVED, Decision.ELAPSED, Decision.FOUND)
    return StepResult.SUCCESS if is_good else StepResult.FAILURE


def is_given_up(step: Step, ended: Sequence[RunState]) -> bool:
    """Whether a step with ``for_each`` and ``stop_on_failure`` has had a failure: then it starts no more runs."""
    return step.stop_on_failure and any(state != RunState.SUCCEEDED for state in ended)


FAN_OUT = 500
"""The maximum number of runs of one step that one transaction starts, and that wait or run at a time by default."""


def to_start(step: Step, visit: Visit) -> int:
    """Return how many more runs of a step with ``for_each`` to start now."""
    if visit.to is not None or is_given_up(step, visit.ended):
        return 0
    room = (FAN_OUT if step.at_most is None else step.at_most) - visit.running
    return max(0, min(visit.unstarted, room, FAN_OUT))


def has_room(step: Step, visit: Visit) -> bool:
    """Whether a step with ``for_each`` is to start more runs and has none whose end would do so: they were refused."""
    return not visit.running and to_start(step, visit) > 0


def judge(ended: Iterable[RunState]) -> StepResult:
    """Return the combined result of these final states."""
    kinds = {_KINDS.get(state, StepResult.FAILURE) for state in ended}
    return kinds.pop() if len(kinds) == 1 else StepResult.MIXED


_KINDS = {RunState.SUCCEEDED: StepResult.SUCCESS, RunState.MIXED: StepResult.MIXED}


def leave(sequence: Definition, step: Step, result: StepResult) -> Leave:
    """Return where the sequence continues after a step with this result: a step by its name, or an end."""
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
    place = sequence.places[step.name] + 1
    return Leave(result, Go(kind="step", step=sequence.steps[place].name) if place < len(sequence.steps) else END)


def is_open(step: Step, instant: datetime) -> bool:
    """Whether ``start_if`` lets a step start at this instant (aware)."""
    when = step.start_if
    return when is None or recurrence.in_window(when.dates, when.times, ZoneInfo(when.timezone), instant)


def outcome(finish: Finish, visits: Iterable[Visit], cause: str | None = None) -> tuple[RunState, str | None]:
    """Return the final state of the sequence, and the reason if it did not succeed.

    Args:
        visits: oldest first, with at least the last visit of each step.
        cause: the first step and job that did not succeed, in words (``cause``); None: there is none.
    """
    visits = list(visits)
    if finish.failed:
        last = visits[-1].to if visits else None
        by_end = last is not None and last.kind == "end_failed"
        return RunState.FAILED, "; ".join(filter(None, ["" if by_end and cause else finish.reason, cause]))
    results = {step: result for step, result in step_results(visits).items() if result != StepResult.SKIPPED}
    bad = ", ".join(f"'{step}' ({result})" for step, result in results.items() if result != StepResult.SUCCESS)
    if not bad:
        return RunState.SUCCEEDED, None
    all_failed = set(results.values()) == {StepResult.FAILURE}
    return RunState.FAILED if all_failed else RunState.MIXED, cause or f"did not succeed: {bad}"


def cause(step: str, job: str | None, state: RunState | None, what: str | None) -> str:
    """Return why a sequence did not succeed: "step 'extract' failed: etl-orders, exit code 2".

    Args:
        job: the step's job that did not succeed; None: the step itself could not start.
        what: the reason of the job's run or of the step.
    """
    word = "failed" if state is None or state in FAILURES else str(state)
    word = "was denied" if state == RunState.DENIED else f"was {word}" if word in ("mixed", "stopped") else word
    said = what or (str(state).replace("_", " ") if state is not None else None)
    return f"step '{step}' {word}: {', '.join(part for part in (job, said) if part)}"


def how_elsewhere(run_id: int, state: RunState, exit_code: int | None) -> str:
    """Return how a job of another category ended: "exit code 2, run 17 of another category". Its run says why."""
    how = (
        f"exit code {exit_code}, " if exit_code else "" if state == RunState.FAILED else f"{state}, ".replace("_", " ")
    )
    return f"{how}run {run_id} of another category"


def too_many_visits(limit: int) -> str:
    """Return why a sequence run ends that has visited as many steps as the setting ``sequence_limit`` allows."""
    return f"it has visited {limit:,} steps, which the setting sequence_limit allows; check it for loops"


def too_many_runs(number: int, limit: int) -> str:
    """Return why a step fails with which a sequence run would have more runs than ``sequence_limit`` allows."""
    return f"the run would have {number:,} runs of jobs; the setting sequence_limit is {limit:,}"


def step_results(visits: Iterable[Visit]) -> dict[str, StepResult]:
    """Return every visited step with the result of its last visit, if possible of one that was not skipped.

    Undecided visits count as failures.
    """
    found: dict[str, StepResult] = {}
    for visit in visits:
        result = visit.result or StepResult.FAILURE
        if result == StepResult.SKIPPED and visit.step in found:
            continue
        found.pop(visit.step, None)  # order the steps by their last visits
        found[visit.step] = judge(visit.ended) if result == StepResult.AT_ONCE else result
    return found


def failed_step(sequence: Definition, visits: Sequence[Visit]) -> str | None:
    """Return the step from which to continue a run that did not succeed; None: nothing failed.

    This is the step that failed or was mixed most recently. Without such a step it is the step that could not be
    visited again.
    """
    results = step_results(visits)
    bad = [step for step, result in results.items() if result in (StepResult.FAILURE, StepResult.MIXED)]
    if bad:
        return bad[-1]
    last = visits[-1].to if visits else None
    return last.step if last is not None else sequence.steps[0].name


def step_of(sequence: Definition, name: str) -> Step:
    """Return the step with this name."""
    return sequence.steps[sequence.places[name]]


def one_more_look(over: str) -> str:
    """Return what is said of a step for which perhaps nobody looked when its time was over. ``over``: that time."""
    return f"its time was over at {over}, when perhaps nobody looked, so it got one more look"
