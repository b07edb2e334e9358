"""What a stream of events tells: what happened to a run, and how far its program is. ``category`` is the job's, which
decides who is told."""

from datetime import datetime
from typing import NamedTuple


class LiveRunEvent(NamedTuple):
    """One thing that happened to a run: a state's name, or a word such as ``discarded``."""

    id: int
    run_id: int
    job: str | None
    attempt: int
    at: datetime
    event: str
    by: str
    detail: str | None


class LiveProgress(NamedTuple):
    """How far a running program says it is."""

    run_id: int
    job: str
    attempt: int
    progress: float | None
    message: str | None
