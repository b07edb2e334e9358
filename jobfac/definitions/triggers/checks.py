"""Circles of starts: a job that would start itself again, by way of others."""

from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
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


def check_after(
    job: str, definition: AnyJob, tree: Links, following: Links, circles: Collection[str]
) -> Iterator[Finding]:
    """Yield unknown jobs in ``after``, and a circle that the definition would close.

    Args:
        tree: by sequence the jobs in its steps.
        following: as ``followers`` returns.
        circles: the jobs that are on circles of both.
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

    if job in circles and (way := [one for one, _ in shortest_way((job, False), (job, True), starts)]):
        sentence = f"closes a circle of starts: {' -> '.join(way)}; a job must not start itself again"
        yield finding(path or ("steps",), sentence)


def shortest_way(start: Node, end: Node, links: Callable[[Node], Iterable[Node]]) -> list[Node]:
    """Return the nodes of a shortest way of at least one link, both ends included; empty: there is none."""
    before: dict[Node, Node] = {}
    waiting = deque([start])
    while waiting:
        node = waiting.popleft()
        for other in links(node):
            if other == end:
                way = [other, node]
                while way[-1] != start:
                    way.append(before[way[-1]])
                return way[::-1]
            if other not in before and other != start:
                before[other] = node
                waiting.append(other)
    return []


def on_circles(*graphs: Links) -> set[str]:
    """Return the nodes from which the links of these graphs together lead back to them.

    In linear time, by Kosaraju's algorithm: a search from each of thousands of jobs would take minutes.
    """
    links: dict[str, set[str]] = {}
    back: dict[str, set[str]] = {}
    for graph in graphs:
        for node, others in graph.items():
            links.setdefault(node, set()).update(others)
            for other in others:
                back.setdefault(other, set()).add(node)
    seen: set[str] = set()
    order = [node for start in links for node in _finished(start, links, seen)]
    seen = set()
    circles: set[str] = set()
    for start in reversed(order):
        together = list(_finished(start, back, seen))
        if len(together) > 1 or start in links.get(start, ()):
            circles.update(together)
    return circles


def _finished(start: str, links: Mapping[str, Iterable[str]], seen: set[str]) -> Iterator[str]:
    """Yield the nodes that can be reached from ``start`` and are not in ``seen``, each after all that follow it."""
    stack = [] if start in seen else [(start, iter(links.get(start, ())))]
    seen.add(start)
    while stack:
        node, others = stack[-1]
        other = next((one for one in others if one not in seen), None)
        if other is None:
            yield node
            stack.pop()
        else:
            seen.add(other)
            stack.append((other, iter(links.get(other, ()))))
