"""Says in the log which starts wait for a lock that an open transaction holds."""

import time
from collections.abc import Collection
from typing import Any, Generic, TypeVar

PATIENCE = 20.0
"""Seconds after which a wait is said: as long as a statement waits for a lock."""

AGAIN = 600.0
"""Seconds until the same wait is said again."""


T = TypeVar("T", str, int)


class Delays(Generic[T]):
    """The waits of one kind of duty. One thread uses it."""

    def __init__(self, log: Any, kind: str) -> None:
        """``kind``: what waits, as the log calls it."""
        self._log = log
        self._kind = kind
        self._said_next: dict[T, float] = {}  # by what waits, in monotonic seconds

    def note(self, locked: Collection[T]) -> None:
        """Note what waits now."""
        now = time.monotonic()
        self._said_next = {one: self._said_next.get(one, now + PATIENCE) for one in locked}
        for one, at in sorted(self._said_next.items()):
            if now >= at:
                self._said_next[one] = now + AGAIN
                self._log.warning(
                    "its start waits: an open transaction, such as one that called start_job or stop_run, holds the "
                    "lock of the job, of a job inside it, of a concurrency key, or a run that it replaces; see "
                    "sys.dm_tran_locks, resource_type APPLICATION and KEY",
                    action="start_waits", **{self._kind: one},
                )  # fmt: skip
