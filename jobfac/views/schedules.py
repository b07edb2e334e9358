"""What is shown of a schedule and of its due times."""

from datetime import datetime
from typing import Any, NamedTuple

from jobfac.views.serialization import WholeSecond


class ScheduleView(NamedTuple):
    """``next_due_at`` is what the calendar says, ``fire_at`` adds the schedule's jitter."""

    id: int
    job: str
    name: str
    paused: bool
    job_enabled: bool
    next_due_at: datetime | None
    fire_at: datetime | None
    last_due_at: datetime | None
    definition: dict[str, Any]


class CandidateView(NamedTuple):
    """A time of a schedule; ``reason``: why it does not fire, or not at the time that was written."""

    due_at: WholeSecond
    schedule: str
    local: WholeSecond
    fires: bool
    reason: str | None
