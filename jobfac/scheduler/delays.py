"""Says in the log which starts wait for a lock that an open transaction holds."""

import time
from collections.abc import Collection
from typing import Any

PATIENCE = 20.0
"""Seconds after which a wait is said: as long as a statement waits for a lock."""

AGAIN = 600.0
"""Seconds until the same wait is said again."""


class Delays:
    """The waits of one kind of duty. One thread uses it."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._said_next: dict[str, float] = {}  # by job, in monotonic seconds

    def note(self, locked: Collection[str]) -> None:
        """Note which jobs wait now."""
        now = time.monotonic()
        self._said_next = {job: self._said_next.get(job, now + PATIENCE) for job in locked}
        for job, at in sorted(self._said_next.items()):
            if now >= at:
                self._said_next[job] = now + AGAIN
                self._log.warning(
                    "its start waits: an open transaction, such as one that called start_job or stop_run, holds the "
                    "lock of the job, of a job inside it, of a concurrency key, or a run that it replaces; see "
                    "sys.dm_tran_locks, resource_type APPLICATION and KEY",
                    action="start_waits",
                    job=job,
                )
