"""The views of a schedule and its due times."""

from datetime import datetime
from typing import Any, NamedTuple

from jobfac.views.serialization import WholeSecond


class ScheduleView(NamedTuple):
    """A schedule. ``next_due_at`` is the next time of the calendar; ``fire_at`` adds the schedule's jitter."""

    # ``held`` is set only while a hold covers the job: the hold in a sentence.

    id: int
    job: str
    name: str
    paused: bool
    job_enabled: bool
    next_due_at: datetime | None
    fire_at: datetime | None
    last_due_at: datetime | None
    definition: dict[str, Any]
    held: str | None = None

    @property
    def state(self) -> str:
        """Whether it may start runs now, and if not, why: what would last longest."""
        if self.definition.get("enabled") is False:
            return "off"
        if not self.job_enabled:
            return "job disabled"
        if self.paused:
            return "paused"
        if self.held:
            return "held"
        if "after" in self.definition:
            return "waiting"
        if "file" in self.definition:
            return "watching"
        return "active" if self.next_due_at else "over"


class CandidateView(NamedTuple):
    """A time of a schedule. ``reason``: why it does not fire, or does not fire at the time in the definition.

    ``parameters``: the values that its run would have, sensitive ones masked.
    """

    due_at: WholeSecond
    schedule: str
    local: WholeSecond
    fires: bool
    reason: str | None
    parameters: dict[str, Any] | None = None
