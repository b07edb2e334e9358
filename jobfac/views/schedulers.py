"""The view of a scheduler."""

from datetime import datetime
from typing import NamedTuple


class SchedulerView(NamedTuple):
    """A scheduler process. ``name``: its machine and process; ``seen_at``: when it last said that it is alive."""

    name: str
    version: str
    started_at: datetime
    seen_at: datetime
