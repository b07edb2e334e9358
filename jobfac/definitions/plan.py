"""The plan of applying definitions: which jobs are added, changed and removed. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Difference:
    """A changed value. ``path``: such as "retry.attempts". ``before`` and ``after``: None means the default."""

    path: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Plan:
    """The ids of jobs to add, to change (with their differences), to remove, and those that stay the same.

    ``schedules``: what it removes or disables of schedules, as clauses.
    """

    add: tuple[str, ...]
    change: dict[str, tuple[Difference, ...]]
    remove: tuple[str, ...]
    same: tuple[str, ...]
    schedules: tuple[str, ...]


def plan(stored: Mapping[str, Mapping[str, Any]], wanted: Mapping[str, Mapping[str, Any]], prune: bool) -> Plan:
    """Return the changes from ``stored`` to ``wanted`` definitions, both canonical and by job id.

    ``prune``: remove stored jobs that are not wanted.
    """
    common = [job for job in wanted if job in stored]
    changed = {job: tuple(differences(stored[job], wanted[job])) for job in common if stored[job] != wanted[job]}
    return Plan(
        add=tuple(job for job in wanted if job not in stored),
        change=changed,
        remove=tuple(job for job in stored if job not in wanted) if prune else (),
        same=tuple(job for job in common if job not in changed),
        schedules=tuple(one for job in changed for one in _lost_schedules(job, stored[job], wanted[job])),
    )


def differences(before: Any, after: Any, path: str = "") -> Iterator[Difference]:
    """Return the innermost values that differ. Lists of equally many mappings are compared entry by entry."""
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in dict.fromkeys([*before, *after]):
            yield from differences(before.get(key), after.get(key), f"{path}.{key}" if path else key)
    elif _entries(before) and _entries(after) and len(before) == len(after):
        for position, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from differences(old, new, f"{path}[{position}]")
    else:
        yield Difference(path, before, after)


def losses(plan: Plan) -> list[str]:
    """Return what a plan removes or disables, jobs and schedules, each as a clause."""
    found = [f"removes '{job}'" for job in plan.remove]
    for job, changes in plan.change.items():
        for one in changes:
            if one.path == "enabled" and one.after is False:
                found.append(f"disables '{job}'")
    return [*found, *plan.schedules]


def _lost_schedules(job: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    old, new = _schedules(before), _schedules(after)
    if old.keys() - new.keys():
        yield f"removes schedules of '{job}'"
    if any(enabled and not new.get(name, True) for name, enabled in old.items()):
        yield f"disables schedules of '{job}'"


def _schedules(body: Mapping[str, Any]) -> dict[str, bool]:
    """Return by name whether each schedule of a job is enabled. One without a name has its position as its name."""
    found: Any = body.get("schedules")
    entries = enumerate(found, start=1) if _entries(found) else ()
    return {one.get("name") or str(position): one.get("enabled") is not False for position, one in entries}


def _entries(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, Mapping) for entry in value)
