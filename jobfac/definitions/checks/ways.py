"""The ways through the steps of a sequence, and what can be reached on them."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from jobfac.definitions.steps import Step

Children = Mapping[str, frozenset[str]]
"""The ids of all jobs, each with the ids of the jobs in its steps (none for a program)."""

END = None
FAILED_END = "end_failed!"
"""No step has this name."""


def ways(
    steps: tuple[Step, ...], tree: Children, on_each: Collection[str], failed: str | None = END
) -> dict[str | None, set[str | None]]:
    """Return the steps, or ``END``, that may follow each step. ``failed``: stands for an end as failed."""
    ways: dict[str | None, set[str | None]] = {step.name: set() for step in steps}
    for step, field, target in targets(steps, failed):
        if field != "on_mixed" or may_be_mixed(step, tree, on_each):
            ways[step.name].add(target)
    return ways


def targets(steps: tuple[Step, ...], failed: str | None) -> Iterator[tuple[Step, str, str | None]]:
    """Yield each step with each of its fields that lead on, and where it leads: a step, ``END`` or ``failed``."""
    following = [step.name for step in steps[1:]] + [END]
    for step, next_step in zip(steps, following, strict=True):
        for field, go in step.targets().items():
            yield step, field, {"next": next_step, "step": go.step, "end_failed": failed}.get(go.kind, END)


def may_be_mixed(step: Step, tree: Children, on_each: Collection[str]) -> bool:
    """Whether the outcome can be mixed: the step waits for several runs or runs a sequence."""
    several = len(step.jobs) > 1 or bool(step.for_each) or any(job in on_each for job in step.jobs)
    return (step.proceed == "when_all" and several) or any(tree.get(job) for job in step.jobs)


def closure(start: Iterable[Any], ways: Mapping[Any, Iterable[Any]]) -> set[Any]:
    """Return everything that can be reached from ``start``, including ``start``."""
    reached: set[Any] = set()
    waiting = list(start)
    while waiting:
        place = waiting.pop()
        if place not in reached:
            reached.add(place)
            waiting.extend(ways.get(place, ()))
    return reached
