"""One event in the history of a run."""

from typing import NamedTuple


class Event(NamedTuple):
    """One thing that happened to a run. ``event`` is a state's name, or a word such as ``discarded``; ``notify`` is the
    run's, for whom it is news."""

    run_id: int
    attempt: int
    event: str
    by: str
    detail: str | None = None
    notify: str | None = None
