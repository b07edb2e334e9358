"""A run as its worker claims it."""

from datetime import datetime
from typing import Any, NamedTuple

from jobfac.store.runs.admission import Rule


class Claimed(NamedTuple):
    """A run that this worker claimed.

    ``attempt`` fences every later write about the run. ``lost``: how many attempts were lost with their worker.
    """

    id: int
    job: str
    job_version: int
    kind: str
    attempt: int
    failures: int
    priority: int
    arguments: str | None
    payload: str | None
    sequence_run_id: int | None
    queue: str
    created_at: Any
    started_at: Any
    notify: str | None
    already_running: str = "start"
    concurrency_key: str | None = None
    lost: int | None = None
    parameters: str | None = None
    sensitive: str | None = None
    origin: str | None = None
    due_at: datetime | None = None

    @property
    def rule(self) -> Rule:
        """The run's admission rule. It also determines which blocked runs its end admits."""
        return Rule(self.job, self.already_running, self.concurrency_key)

    @property
    def key(self) -> tuple[int, int]:
        """Run and attempt: the fence."""
        return self.id, self.attempt
