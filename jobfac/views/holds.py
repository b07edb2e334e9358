"""The view of a hold."""

from datetime import datetime
from typing import NamedTuple


class HoldView(NamedTuple):
    """A hold: nothing new starts in its ``pool``, in its ``category`` or of its ``job``; all null: nothing at all.

    ``until``: when it ends automatically; null: only when it is released. ``released_at``: when it ended.
    """

    id: int
    pool: str | None
    category: str | None
    job: str | None
    reason: str
    until: datetime | None
    created_at: datetime
    created_by: str
    released_at: datetime | None
    released_by: str | None

    @property
    def scope(self) -> str:
        """What is held, in words: ``pool etl``, ``everything``."""
        for name in ("pool", "category", "job"):
            if (value := getattr(self, name)) is not None:
                return f"{name} {value}"
        return "everything"

    @property
    def sentence(self) -> str:
        """What a run that waits for this hold is waiting for."""
        return f"hold {self.id} of {self.scope}: {self.reason}"

    def covers(self, job: str, category: str | None, pool: str | None) -> bool:
        """Whether it holds the runs of a job in this category and pool. SQL Server compares names without case
        and without the blanks at their ends."""
        pairs = ((self.job, job), (self.category, category), (self.pool, pool))
        return all(mine is None or (other is not None and _folded(mine) == _folded(other)) for mine, other in pairs)


def _folded(name: str) -> str:
    return name.rstrip(" ").lower()


def first_over(
    holds: list[HoldView], job: str, category: str | None = None, pool: str | None = None
) -> HoldView | None:
    """Return the first of these holds that covers a job, or None."""
    return next((one for one in holds if one.covers(job, category, pool)), None)
