"""Checks of jobs against each other."""

from collections.abc import Iterator, Mapping
from typing import Any

from jobfac.definitions.checks.ways import Children, closure
from jobfac.definitions.models import AnyJob, Sequence, canonical
from jobfac.definitions.problems import Finding, Path, finding


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
            for inside in sorted((closure(waits[around], waits) - {around}) & some):
                end = f"it would wait for ever, since the sequence has the only place of '{key}'; use another key"
                if around in jobs:
                    yield around, finding(path, f"is also that of the job '{inside}' inside: {end}")
                elif inside in jobs:
                    yield inside, finding(path, f"is also that of the sequence '{around}' around it: {end}")


def _given_to_sequences(
    jobs: Mapping[str, AnyJob], known: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, Finding]]:
    """Yield where arguments or a payload are for a sequence inside another one: none of its jobs would get them.

    A stored sequence around it is no reason to refuse what was a sequence before, as jobs of earlier versions.
    """
    sequences = {job for job, one in jobs.items() if isinstance(one, Sequence)}
    new = {job for job in sequences if "steps" not in known.get(job, {})}
    stored = {job: body for job, body in known.items() if job not in jobs and "steps" in body}
    what = "is for a sequence, which passes it to none of its jobs; use its parameters"
    for job in sequences:
        for path, given in _passed(jobs[job]):
            for inside in sorted(_named(given) & (sequences | stored.keys())):
                yield job, finding((*path, inside), what)
    for around, body in stored.items():
        given = (step.get(field) for step in body["steps"] for field in ("arguments", "payloads"))
        for inside in sorted(set().union(*map(_named, given)) & new):
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
