"""The mark of an execution: a number in a limit that its processes inherit, and that every user may read."""

import contextlib
import resource
import sys

MARK = 10
"""RLIMIT_LOCKS, a limit that no kernel since 2.4 enforces."""


def unmark() -> None:
    """Let this process, and all that it starts, have no mark of an execution that started it.

    A job may start roles that outlive it, as `service` does, with another environment. They are no programs of its run.
    """
    if sys.platform == "linux":
        hard = resource.getrlimit(MARK)[1]
        with contextlib.suppress(OSError, ValueError):  # a sandbox may refuse it
            resource.setrlimit(MARK, (hard, hard))
