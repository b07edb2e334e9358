"""Checks that need all definitions: names that must exist, cycles of sequences, and steps that reach no end."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from jobfac.control_characters import check_name
from jobfac.definitions.models import AnyJob, Job, Sequence, canonical
from jobfac.definitions.notify import ABOUT_JOBS, unsent
from jobfac.definitions.parameters.uses import Commands, Declarations, check_parameters
from jobfac.definitions.problems import Finding, Path, field_path, finding
from jobfac.definitions.steps import Step
from jobfac.definitions.triggers.checks import Links, check_after, shortest_way
from jobfac.definitions.values import suggestion

Children = Mapping[str, frozenset[str]]
"""The ids of all jobs, each with the ids of the jobs in its steps (none for a program)."""

END = None


def children(jobs: Mapping[str, AnyJob], known: Mapping[str, Mapping[str, Any]]) -> Children:
    """Return the children of ``jobs`` and of the canonical definitions ``known``. ``jobs`` replace known ones."""
    result = {
        job: frozenset(child for step in body.get("steps", ()) for child in step.get("jobs", ()))
        for job, body in known.items()
    }
    for job, definition in jobs.items():
        steps = definition.steps if isinstance(definition, Sequence) else ()
        result[job] = frozenset(child for step in steps for child in step.jobs)
    return result


def fleets(jobs: Mapping[str, AnyJob], known: Mapping[str, Mapping[str, Any]]) -> frozenset[str]:
    """Return the jobs with ``each_worker``: a step that starts one of them has several runs."""
    stored = {job for job, body in known.items() if job not in jobs and body.get("each_worker")}
    return frozenset(stored | {job for job, one in jobs.items() if getattr(one, "each_worker", False)})


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


def across(jobs: Mapping[str, AnyJob], known: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Finding]]:
    """Return the problems of a job with another one, each with the job that has changed."""
    yield from _endless_waits(jobs, known)
    yield from _given_to_sequences(jobs, known)


def _endless_waits(jobs: Mapping[str, AnyJob], known: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Finding]]:
    """Yield those of ``jobs`` that have the only place of a concurrency key while they wait for a job with that key."""
    waits: dict[str, set[str]] = {}
    holders: dict[str, set[str]] = {}
    bodies = {**known, **{job: canonical(definition) for job, definition in jobs.items()}}
    for job, body in bodies.items():
        # Also what it goes on without: it ends when all of its jobs have ended.
        waits[job] = {child for step in body.get("steps", ()) for child in step.get("jobs", ())}
        rule = body.get("concurrency") or {}
        if "key" in rule and rule.get("limit", 1) == 1:
            holders.setdefault(rule["key"], set()).add(job)
    path = ("concurrency", "key")
    for key, some in holders.items():
        for around in sorted(some) if len(some) > 1 else ():
            for inside in sorted((_closure(waits[around], waits) - {around}) & some):
                end = f"it would wait for ever, since the sequence has the only place of '{key}'; use another key"
                if around in jobs:
                    yield around, finding(path, f"is also that of the job '{inside}' inside: {end}")
                elif inside in jobs:
                    yield inside, finding(path, f"is also that of the sequence '{around}' around it: {end}")


def _given_to_sequences(
    jobs: Mapping[str, AnyJob], known: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, Finding]]:
    """Yield where arguments or a payload are for a sequence inside another one: none of its jobs would get them."""
    sequences = {job for job, one in jobs.items() if isinstance(one, Sequence)}
    stored = {job: body for job, body in known.items() if job not in jobs and "steps" in body}
    what = "is for a sequence, which passes it to none of its jobs; use its parameters"
    for job in sequences:
        for path, given in _passed(jobs[job]):
            for inside in sorted(_named(given) & (sequences | stored.keys())):
                yield job, finding((*path, inside), what)
    for around, body in stored.items():
        given = (step.get(field) for step in body["steps"] for field in ("arguments", "payloads"))
        for inside in set().union(*map(_named, given)) & sequences:
            yield inside, finding(("steps",), f"would not get what a step of '{around}' gives it; change that, too")


def _passed(definition: AnyJob) -> Iterator[tuple[Path, Any]]:
    """Yield what steps and schedules of a sequence pass to the jobs inside."""
    for places in ("steps", "schedules"):
        for position, part in enumerate(getattr(definition, places)):
            for field in ("arguments", "payloads"):
                yield (places, position, field), getattr(part, field)


def _named(given: Any) -> set[str]:
    """Return the jobs that get arguments or payloads."""
    return set(given) if isinstance(given, Mapping) else set()


def doubtful(definition: Sequence, tree: Children, on_each: Collection[str]) -> Iterator[Finding]:
    """Return what is allowed in a sequence but probably not intended."""
    yield from _unreachable(definition, tree, on_each)
    yield from _momentary(definition)
    yield from _untold(definition, tree, on_each)


def _unreachable(definition: Sequence, tree: Children, on_each: Collection[str]) -> Iterator[Finding]:
    """Return the steps that cannot be reached."""
    ways = _ways(definition.steps, tree, on_each)
    reached = _closure({definition.steps[0].name}, ways)
    for position, step in enumerate(definition.steps):
        if step.name not in reached:
            path = ("steps", position)
            yield finding(path, f"'{step.name}' cannot be reached from the first step")


def _momentary(definition: Sequence) -> Iterator[Finding]:
    """Return the conditions that hold for one minute only. Who writes them may expect that the step waits."""
    for position, step in enumerate(definition.steps):
        times = None if step.start_if is None else step.start_if.times
        if times is not None and (times.at or times.minutes):
            what = "holds for one minute at each of these times and does not wait for them"
            yield finding(("steps", position, "start_if"), f"{what}; use between or hours, or a step with wait")


def _untold(definition: Sequence, tree: Children, on_each: Collection[str]) -> Iterator[Finding]:
    """Return that nobody is told of a failure that another step handles: such a run ends mixed, and not failed."""
    told = {event for entry in definition.notify if entry.of != "jobs" for event in entry.on}
    if "failed" not in told or told & {"mixed", "finished"}:
        return
    ways = _ways(definition.steps, tree, on_each, _FAILED)
    for step, field, target in _targets(definition.steps, _FAILED):
        if field == "on_failure" and (target is END and step is definition.steps[0]):
            continue  # nothing has succeeded then
        if field == "on_failure" or (field == "on_mixed" and _may_be_mixed(step, tree, on_each)):
            others = {name: following - {step.name} for name, following in ways.items()}
            if END in _closure({target} - {step.name}, others):
                what = f"has failed alone, but {field} of '{step.name}' leads on, and such a run ends mixed"
                yield finding(("notify",), f"{what}; add mixed, or let the steps behind it go to end_failed")
                return


OF_PROGRAMS = ("running_long", "retry")
"""Events of runs of programs: a run of a sequence has none of them."""


def unheard(definition: AnyJob) -> Iterator[Finding]:
    """Return the events in ``notify`` that never happen. A definition may name them, so they are only warnings."""
    needs = _needs(definition)
    for position, entry in enumerate(definition.notify):
        for event in entry.on:
            path = ("notify", position, "on")
            if entry.of != "sequence":
                if event in ABOUT_JOBS and (entry.of == "jobs" or event in needs):
                    yield finding(
                        path, f"has {event}, which is not sent for the jobs inside; add it to their own notify"
                    )
            elif isinstance(definition, Sequence) and event in OF_PROGRAMS:
                yield finding(path, f"has {event}, which only the jobs of a sequence have; add `of: jobs`")
            elif event in needs:
                yield finding(path, f"has {event}, which never happens without {needs[event]}")


def _needs(definition: AnyJob) -> dict[str, str]:
    """Return by event what the definition lacks for it to happen."""
    steps = definition.steps if isinstance(definition, Sequence) else ()
    is_tried_again = isinstance(definition, Job) and definition.retry.attempts > 1
    there = {
        ("running_long", "warn_after"): isinstance(definition, Job) and definition.warn_after is not None,
        ("retry", "attempts of retry"): is_tried_again,
        ("overdue", "expect"): definition.expect is not None,
        ("on_time_again", "expect"): definition.expect is not None,
        ("paused", "pause_after"): definition.pause_after is not None,
        ("missed", "schedules"): bool(definition.schedules),
        ("approval_wanted", "a step with approve"): any(step.approve for step in steps),
    }
    return {event: need for (event, need), is_there in there.items() if not is_there}


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
    inside = _closure(tree[job], tree) if definition.schedules else set()
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
    ways = _ways(steps, tree, on_each)
    reached = _closure({steps[0].name}, ways)
    before: dict[str | None, list[str | None]] = {}
    for name, following in ways.items():
        for one in following:
            before.setdefault(one, []).append(name)
    ending = _closure({END}, before)
    stuck = [step.name for step in steps if step.name in reached and step.name not in ending]
    if stuck:
        names = ", ".join(f"'{name}'" for name in stuck)
        yield Finding(("steps",), f"steps {names} lead to no end; let one of them go to end or end_failed")


_FAILED = "end_failed!"
"""No step has this name."""


def _ways(
    steps: tuple[Step, ...], tree: Children, on_each: Collection[str], failed: str | None = END
) -> dict[str | None, set[str | None]]:
    """Return the steps, or ``END``, that may follow each step. ``failed``: stands for an end as failed."""
    ways: dict[str | None, set[str | None]] = {step.name: set() for step in steps}
    for step, field, target in _targets(steps, failed):
        if field != "on_mixed" or _may_be_mixed(step, tree, on_each):
            ways[step.name].add(target)
    return ways


def _targets(steps: tuple[Step, ...], failed: str | None) -> Iterator[tuple[Step, str, str | None]]:
    """Yield each step with each of its fields that lead on, and where it leads: a step, ``END`` or ``failed``."""
    following = [step.name for step in steps[1:]] + [END]
    for step, next_step in zip(steps, following, strict=True):
        for field, go in step.targets().items():
            yield step, field, {"next": next_step, "step": go.step, "end_failed": failed}.get(go.kind, END)


def _may_be_mixed(step: Step, tree: Children, on_each: Collection[str]) -> bool:
    """Whether the outcome can be mixed: the step waits for several runs or runs a sequence."""
    several = len(step.jobs) > 1 or bool(step.for_each) or any(job in on_each for job in step.jobs)
    return (step.proceed == "when_all" and several) or any(tree.get(job) for job in step.jobs)


def _closure(start: Iterable[Any], ways: Mapping[Any, Iterable[Any]]) -> set[Any]:
    """Return everything that can be reached from ``start``, including ``start``."""
    reached: set[Any] = set()
    waiting = list(start)
    while waiting:
        place = waiting.pop()
        if place not in reached:
            reached.add(place)
            waiting.extend(ways.get(place, ()))
    return reached
