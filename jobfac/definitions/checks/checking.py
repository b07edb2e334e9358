"""Checks of a definition that need all definitions: names that must exist, circles, and steps that reach no end."""

from collections.abc import Collection, Iterator

from jobfac.control_characters import check_name
from jobfac.definitions.checks.ways import END, Children, closure, ways
from jobfac.definitions.models import AnyJob, Job
from jobfac.definitions.notify import unsent
from jobfac.definitions.parameters.uses import Commands, Declarations, check_parameters
from jobfac.definitions.problems import Finding, Path, field_path, finding
from jobfac.definitions.steps import Step
from jobfac.definitions.triggers.checks import Links, check_after, shortest_way
from jobfac.definitions.values import suggestion


def check(
    job: str,
    definition: AnyJob,
    tree: Children,
    on_each: Collection[str],
    declarations: Declarations,
    commands: Commands,
    following: Links,
    circles: Collection[str],
) -> Iterator[Finding]:
    """Return the problems of a definition.

    Args:
        tree: the children of all jobs, including this one.
        on_each: as ``fleets`` returns.
        circles: the jobs that are on circles of ``tree`` and ``following``.
    """
    yield from _names(definition)
    yield from unsent(definition.notify)
    yield from _schedules(job, definition, tree)
    yield from check_parameters(definition, declarations, commands)
    yield from check_after(job, definition, tree, following, circles)
    if isinstance(definition, Job):
        for position, entry in enumerate(definition.notify):
            if entry.of != "sequence":
                path = ("notify", position, "of")
                yield finding(path, "is only for a sequence")
        return
    for position, step in enumerate(definition.steps):
        for child in step.jobs:
            if child not in tree:
                path = ("steps", position, "jobs")
                yield finding(path, f"names the unknown job '{child}'{suggestion(child, tree)}")
    if job in circles and (circle := shortest_way(job, job, lambda one: sorted(tree.get(one, ())))):
        yield Finding(("steps",), f"steps run in a circle: {' -> '.join(circle)}; a sequence cannot contain itself")
    is_wrong = False
    for one in _step_names(definition.steps):  # each takes a search: the caller ends it after the first ones
        is_wrong = True
        yield one
    if not is_wrong:
        yield from _endless(definition.steps, tree, on_each)


def _names(definition: AnyJob) -> Iterator[Finding]:
    """Check names. Not in the models, so that a definition that an earlier version has stored can still be read."""
    limit = definition.concurrency
    named: dict[Path, str | None] = {("name",): definition.name, ("category",): definition.category}
    named["concurrency", "key"] = None if limit is None else limit.key
    for path, name in named.items():
        try:
            check_name(name or "")
        except ValueError as error:
            yield Finding(path, f"{field_path(path)} {error}")


def _schedules(job: str, definition: AnyJob, tree: Children) -> Iterator[Finding]:
    names: dict[str, int] = {}
    inside = closure(tree[job], tree) if definition.schedules else set()
    for position, (name, schedule) in enumerate(zip(definition.schedule_names(), definition.schedules, strict=True)):
        path = ("schedules", position)
        if name.lower() in names:
            yield finding(path, f"has the name '{name}' of schedules[{names[name.lower()]}]; rename it")
        names.setdefault(name.lower(), position)
        by_job = isinstance(schedule.arguments, dict), schedule.payloads is not None
        if isinstance(definition, Job):
            if by_job[0]:
                yield finding((*path, "arguments"), "must be a list for a program")
            if by_job[1]:
                yield finding((*path, "payloads"), "is only for a sequence; use payload")
            continue
        if schedule.arguments is not None and not by_job[0]:
            yield finding((*path, "arguments"), "must be lists by job id for a sequence")
        if schedule.payload is not None:
            yield finding((*path, "payload"), "is only for a program; use payloads by job id")
        for field, given in (("arguments", schedule.arguments), ("payloads", schedule.payloads)):
            for child in given if isinstance(given, dict) else ():
                if child not in inside:
                    message = f"{field_path(path)}.{field} names '{child}', which is not a job of the sequence"
                    yield Finding((*path, field, child), message + suggestion(child, inside))


def _step_names(steps: tuple[Step, ...]) -> Iterator[Finding]:
    names = {step.name for step in steps}
    seen: set[str] = set()
    for position, step in enumerate(steps):
        if step.name.lower() in seen:
            yield Finding(("steps", position, "name"), f"steps[{position}].name '{step.name}' is taken; rename it")
        seen.add(step.name.lower())
        for field, go in step.targets().items():
            if go.step is not None and go.step not in names:
                path: Path = ("steps", position, *field.split("."))
                yield finding(path, f"names the unknown step '{go.step}'{suggestion(go.step, names)}")


def _endless(steps: tuple[Step, ...], tree: Children, on_each: Collection[str]) -> Iterator[Finding]:
    onward = ways(steps, tree, on_each)
    reached = closure({steps[0].name}, onward)
    before: dict[str | None, list[str | None]] = {}
    for name, following in onward.items():
        for one in following:
            before.setdefault(one, []).append(name)
    ending = closure({END}, before)
    stuck = [step.name for step in steps if step.name in reached and step.name not in ending]
    if stuck:
        names = ", ".join(f"'{name}'" for name in stuck)
        yield Finding(("steps",), f"steps {names} lead to no end; let one of them go to end or end_failed")
