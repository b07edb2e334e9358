"""The view of a job that is overdue."""

from datetime import datetime
from typing import NamedTuple


class OverdueView(NamedTuple):
    """A job that has not succeeded in time. ``due_at``: when it should have; ``since``: its success had to be later."""

    job: str
    due_at: datetime
    overdue_at: datetime
    since: datetime
