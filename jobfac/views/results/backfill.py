"""The view of a due time of a backfill."""

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from jobfac.views.serialization import WholeSecond


class BackfillResult(StrEnum):
    """What became of a due time, or, in a dry run, what would."""

    CHOSEN = "chosen"  # a dry run: a run would be started
    STARTED = "started"
    EXISTS = "exists"  # this time has a run already


class BackfillView(NamedTuple):
    """A due time. ``run``: the run for it, null if a dry run would start one; ``local``: in the schedule's zone."""

    due_at: WholeSecond
    schedule: str
    local: WholeSecond
    result: BackfillResult
    run: int | None


class Backfill(NamedTuple):
    """Due times in order. ``next_from``: continue from this time; null: these were all. ``defined_at``: when the first
    version of the job was stored; no schedule of it was due before."""

    items: list[BackfillView]
    next_from: datetime | None
    defined_at: datetime | None = None
