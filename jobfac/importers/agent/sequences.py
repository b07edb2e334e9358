"""From the steps of an Agent job with their actions to the steps of a sequence."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jobfac.importers.agent.model import Job, Step

SUCCEED, FAIL, NEXT, GO = 1, 2, 3, 4
"""What a step does after it succeeded or failed: quit with success, quit with failure, go to the next, go to one."""

MOST_VISITS = 10_000
"""How often a step can be repeated here at most. Agent knows no limit."""

Target = str | dict[str, str]
Warn = Callable[[str], None]


def is_single(job: Job) -> bool:
    """Whether the job has one step and ends as the step does. It then becomes a single job."""
    return len(job.steps) == 1 and job.steps[0].on_success_action in (SUCCEED, NEXT)


def convert(job: Job, names: Mapping[int, str], jobs: Mapping[int, str], warn: Warn) -> list[dict[str, Any]]:
    """Return the steps, the start step first.

    Args:
        names: by step id, the name of the step here.
        jobs: by step id, the job that the step starts.
    """
    order = _order(job, warn)
    going_on = [step.shown for step in job.steps if step.on_fail_action in (SUCCEED, NEXT, GO)]
    if going_on:
        warn(
            f"it goes on after a failure of {', '.join(going_on)}: Agent then reports what the last step reports, and "
            "here the run ends as mixed or failed; check who is notified"
        )
    pairs = zip(job.steps, [*job.steps[1:], None], strict=True)
    ways = {step.step_id: _ways(step, following, names, warn) for step, following in pairs}
    _break_circles(order, ways, names, warn)
    written = []
    for step, following in zip(order, [*order[1:], None], strict=True):
        success, failure = ways[step.step_id]
        body: dict[str, Any] = {"name": names[step.step_id], "jobs": [jobs[step.step_id]]}
        if (target := _short(success, following, names)) != "next":
            body["on_success"] = target
        if (target := _short(failure, following, names)) != "end_failed":
            body["on_failure"] = target
        written.append(body)
    return written


def _order(job: Job, warn: Warn) -> list[Step]:
    """Return the steps with the start step first. The others keep their order."""
    start = next((place for place, step in enumerate(job.steps) if step.step_id == job.start_step_id), None)
    if start is None:
        warn(f"its start step {job.start_step_id} does not exist; it starts with the first one")
    start = start or 0
    return job.steps[start:] + job.steps[:start]


def _ways(step: Step, following: Step | None, names: Mapping[int, str], warn: Warn) -> tuple[Target, Target]:
    def target(action: int, to: int, what: str, fallback: Target) -> Target:
        match action:
            case 1:
                return "end"
            case 2:
                return "end_failed"
            case 3:
                return "end" if following is None else {"step": names[following.step_id]}
            case 4 if to in names:
                return {"step": names[to]}
        shown = f"goes to step {to}, which does not exist" if action == GO else f"has the unknown action {action}"
        warn(f"after {what} {step.shown} {shown}; here it goes to {fallback}")
        return fallback

    return (
        target(step.on_success_action, step.on_success_step_id, "a success", "end_failed"),
        target(step.on_fail_action, step.on_fail_step_id, "a failure", "end_failed"),
    )


def _break_circles(
    order: Sequence[Step], ways: dict[int, tuple[Target, Target]], names: Mapping[int, str], warn: Warn
) -> None:
    """End the sequence after steps that lead to no end, because every step needs a way to an end."""
    ids = {name: step_id for step_id, name in names.items()}
    before: dict[int, list[int]] = {}  # by step, those that lead to it
    for step_id, both in ways.items():
        for target in both:
            if isinstance(target, dict):
                before.setdefault(ids[target["step"]], []).append(step_id)
    ending: set[int] = set()
    waiting = [step_id for step_id, both in ways.items() if any(isinstance(target, str) for target in both)]
    for step in order:
        while waiting:
            if (step_id := waiting.pop()) not in ending:
                ending.add(step_id)
                waiting += before.get(step_id, ())
        if step.step_id not in ending:
            ways[step.step_id] = (ways[step.step_id][0], "end_failed")
            waiting.append(step.step_id)
            warn(f"{step.shown} leads to no end of the job; after a failure it ends as failed here")


def _short(target: Target, following: Step | None, names: Mapping[int, str]) -> Target:
    """Return the target as a definition has it: "next" for the following step, or for the end after the last one."""
    if following is None:
        return "next" if target == "end" else target
    return "next" if target == {"step": names[following.step_id]} else target


def repeated(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the steps that a run may enter again, in order, and of those between such steps."""
    names = [step["name"] for step in steps]
    pairs: list[tuple[str, str]] = []
    for name, following, step in zip(names, [*names[1:], None], steps, strict=True):
        for target in (step.get("on_success", "next"), step.get("on_failure", "end_failed")):
            if isinstance(target, dict):
                pairs.append((name, target["step"]))
            elif target == "next" and following is not None:
                pairs.append((name, following))
    left = _entered(names, pairs)
    left &= _entered([name for name in names if name in left], [(to, name) for name, to in pairs if {name, to} <= left])
    return [name for name in names if name in left]


def _entered(names: Iterable[str], pairs: Iterable[tuple[str, str]]) -> set[str]:
    """Return the steps that remain if those that no step leads to are taken away, again and again."""
    leads: dict[str, list[str]] = {name: [] for name in names}
    before = dict.fromkeys(leads, 0)
    for name, to in pairs:
        leads[name].append(to)
        before[to] += 1
    waiting = [name for name, number in before.items() if number == 0]
    while waiting:
        name = waiting.pop()
        del before[name]
        for to in leads[name]:
            before[to] -= 1
            if before[to] == 0:
                waiting.append(to)
    return set(before)
