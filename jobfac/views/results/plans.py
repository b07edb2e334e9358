"""The view of what applying definitions changes."""

from typing import Any, NamedTuple


class PlanView(NamedTuple):
    """Changes by job, or by category for its defaults. ``change``: the path, the value before and after of each."""

    add: list[str]
    change: dict[str, Any]
    remove: list[str]
    same: list[str]


class AppliedView(NamedTuple):
    """What applying definitions changed, or would change.

    Attributes:
        kept_disabled: jobs that stay disabled although the definitions do not ask for it.
        kept_paused: schedules that stay paused, each as its job and its name.
        losses: what is taken away, in words.
        warnings: sentences about what is probably unintended.
    """

    jobs: PlanView
    defaults: PlanView
    kept_disabled: list[str]
    kept_paused: list[list[str]]
    losses: list[str]
    warnings: list[str]
