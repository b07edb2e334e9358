"""Circles of starts: a job that would start itself again, by way of others."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from pydantic import ValidationError

from jobfac.definitions.models import AnyJob
from jobfac.definitions.problems import Finding, Path, finding
from jobfac.definitions.triggers.after import After
from jobfac.definitions.values import suggestion

Node = TypeVar("Node", bound=Hashable)
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
                yield finding(path, f"names the unknown job '{one.job}'{suggestion(one.job, tree)}")

    def starts(node: tuple[str, bool]) -> Iterator[tuple[str, bool]]:
        """What a job starts or contains, and whether a job that starts after another is on the way there."""
        yield from ((one, node[1]) for one in sorted(tree.get(node[0], ())))
        yield from ((one, True) for one in sorted(following.get(node[0], ())))

    if way := [one for one, _ in shortest_way((job, False), (job, True), starts)]:
        sentence = f"closes a circle of starts: {' -> '.join(way)}; a job must not start itself again"
        yield finding(path or ("steps",), sentence)


def shortest_way(start: Node, end: Node, links: Callable[[Node], Iterable[Node]]) -> list[Node]:
    """Return the nodes of a shortest way of at least one link, both ends included; empty: there is none."""
    ways = deque([[start]])
    seen: set[Node] = set()
    while ways:
        way = ways.popleft()
        for other in links(way[-1]):
            if other == end:
                return [*way, other]
            if other not in seen:
                seen.add(other)
                ways.append([*way, other])
    return []
