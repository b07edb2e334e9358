"""Removes old runs in rounds of small steps."""

import time
from collections.abc import Iterator
from typing import Any

from jobfac.database.engine import Database
from jobfac.settings import Settings
from jobfac.store import retention

INTERVAL = 600.0
"""Seconds between two rounds."""

STEP_PAUSE = 0.1
"""Seconds between two steps of a round."""


class Purging:
    """The rounds of one scheduler. One thread uses it."""

    def __init__(self, db: Database, settings: Settings, log: Any) -> None:
        """``log``: the scheduler's logger."""
        self._db, self._settings, self._log = db, settings, log
        self._steps: Iterator[int] | None = None  # of the round that is under way
        self._removed = 0
        self._not_before = 0.0  # monotonic seconds

    def doubt(self, why: str) -> None:
        """End the round and begin none for ``retention.DOUBTFUL``, because the database's clock may be wrong."""
        seconds = retention.DOUBTFUL.total_seconds()
        self._steps, self._not_before = None, time.monotonic() + seconds
        text = "the clock may be wrong, so no old runs are removed for hours; `jobfac purge` removes them now"
        self._log.warning(text, action="purge_put_off", reason=why, seconds=seconds)

    def step(self) -> float:
        """Do one step; returns the seconds until the next one."""
        if (left := self._not_before - time.monotonic()) > 0:
            return left
        if self._steps is None:
            keep = retention.Keep.of(self._settings)
            self._steps, self._removed = retention.steps(self._db, keep, retry_for=2.0), 0
        steps, self._steps = self._steps, None  # a failure ends this round
        if (removed := next(steps, None)) is None:
            if self._removed:
                self._log.info("old runs purged", action="purged", runs=self._removed)
            return INTERVAL
        self._steps = steps
        self._removed += removed
        return STEP_PAUSE
