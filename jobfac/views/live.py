"""The views in a stream of live events: events of runs and the progress of their programs."""

from datetime import datetime
from typing import NamedTuple


class LiveRunEvent(NamedTuple):
    """An event of a run. ``event``: the name of a state, or a word such as ``discarded``."""

    id: int
    run_id: int
    job: str | None
    attempt: int
    at: datetime
    event: str
    by: str
    detail: str | None


class LiveReset(NamedTuple):
    """A stream goes on from the present, because it stood beyond the newest event. ``newest``: the id of that one."""

    newest: int
    reason: str = "the stream stood beyond the newest event, as after a restore from a backup; it goes on from now"


class LiveProgress(NamedTuple):
    """The progress that a running program reports."""

    run_id: int
    job: str
    attempt: int
    progress: float | None
    message: str | None
