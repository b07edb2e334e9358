"""The view of what applying definitions changes."""

from typing import Any, NamedTuple


class PlanView(NamedTuple):
    """Changes by job, or by category for its defaults. ``change``: the path, the value before and after of each."""

    add: list[str]
    change: dict[str, Any]
    remove: list[str]
    same: list[str]


class AppliedView(NamedTuple):
    """What applying definitions changed, or would change. ``warnings``: sentences about what is probably unintended."""

    jobs: PlanView
    defaults: PlanView
    warnings: list[str]
