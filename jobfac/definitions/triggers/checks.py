"""Circles of starts: a job that would start itself again, by way of others."""

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from jobfac.definitions.models import AnyJob
from jobfac.definitions.problems import Finding, Path, field_path
from jobfac.definitions.triggers.after import After
from jobfac.definitions.values import suggestion

Links = Mapping[str, frozenset[str]]
"""By job id, other jobs."""


def followers(jobs: Mapping[str, AnyJob], known: Mapping[str, Mapping[str, Any]]) -> Links:
    """Return by job the jobs that start after it, among ``jobs`` and the canonical definitions ``known``."""
    found: dict[str, set[str]] = {}
    for job, body in known.items():
        if job not in jobs:
            for rule in body.get("schedules", ()):
                with suppress(ValidationError):  # a newer jobfac has stored it
                    for one in After.model_validate(rule["after"]).upstream if "after" in rule else ():
                        found.setdefault(one.job, set()).add(job)
    for job, definition in jobs.items():
        for schedule in definition.schedules:
            for one in schedule.after.upstream if schedule.after else ():
                found.setdefault(one.job, set()).add(job)
    return {job: frozenset(others) for job, others in found.items()}


def check_after(job: str, definition: AnyJob, tree: Links, following: Links) -> Iterator[Finding]:
    """Yield unknown jobs in ``after``, and a circle that the definition would close.

    Args:
        tree: by sequence the jobs in its steps.
        following: as ``followers`` returns.
    """
    path: Path = ()
    for position, schedule in enumerate(definition.schedules):
        if schedule.after is None:
            continue
        path = ("schedules", position, "after")
        for one in schedule.after.upstream:
            if one.job not in tree:
                yield Finding(path, f"{field_path(path)} names the unknown job '{one.job}'{suggestion(one.job, tree)}")
    if way := _circle(job, tree, following):
        place = path or ("steps",)
        message = (
            f"{field_path(place)} closes a circle of starts: {' -> '.join(way)}; a job must not start itself again"
        )
        yield Finding(place, message)


def _circle(job: str, tree: Links, following: Links) -> list[str]:
    """Return the shortest way by which the end of a job would start it again, or nothing."""
    ways = deque([([job], False)])
    seen: set[tuple[str, bool]] = set()
    while ways:
        way, followed = ways.popleft()
        steps = [(one, followed) for one in sorted(tree.get(way[-1], ()))]
        for other, has_followed in [*steps, *((one, True) for one in sorted(following.get(way[-1], ())))]:
            if other == job and has_followed:
                return [*way, other]
            if (other, has_followed) not in seen:
                seen.add((other, has_followed))
                ways.append(([*way, other], has_followed))
    return []
