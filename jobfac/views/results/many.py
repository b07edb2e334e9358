"""The view of what an operation on many runs does to one of them."""

from enum import StrEnum
from typing import NamedTuple

from jobfac.states import RunState


class Result(StrEnum):
    """What happened to a run, or, in a dry run, what would happen."""

    CHOSEN = "chosen"  # a dry run: it would be done
    DONE = "done"
    SKIPPED = "skipped"  # there is nothing to do, or it must not be done
    REFUSED = "refused"


class ManyView(NamedTuple):
    """One of many runs. ``state``: before the operation; ``new_run``: the run that a retry started; ``reason``: why it
    was skipped or refused."""

    id: int
    job: str
    state: RunState
    result: Result
    new_run: int | None
    reason: str | None
