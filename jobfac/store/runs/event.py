"""One event in the history of a run."""

from typing import NamedTuple


class Event(NamedTuple):
    """An event of a run.

    ``event`` is the name of a state, or a word such as ``discarded``. ``notify`` contains the run's subscribed events.
    """

    run_id: int
    attempt: int
    event: str
    by: str
    detail: str | None = None
    notify: str | None = None
