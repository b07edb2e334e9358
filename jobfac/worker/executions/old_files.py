"""Retention of `timestamped` output files: the worker that creates them removes the old ones, as runs are purged."""

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from jobfac.database.dialects.lease_clock import ForwardSteps, boot_ms
from jobfac.definitions import Retention
from jobfac.machine import threads
from jobfac.programs import Series, remove_timestamped
from jobfac.settings import Settings
from jobfac.store.retention import DOUBTFUL

AT_ONCE = 8
"""Cleanups at most that run at the same time. Each may hang on a folder of its own."""

PAUSE = 600.0
"""Minimum seconds between two cleanups of the same files."""

STEP = 600_000
"""By more than how many milliseconds this machine's clock must have been set forward to be in doubt."""


class OldFiles:
    """Removes old output files after runs end, at most once per ``PAUSE`` for each series.

    In a thread of its own, because a folder may have very many files or be on a network drive that hangs. Only the
    worker's loop calls ``after``.
    """

    def __init__(self, settings: Settings, log: Any) -> None:
        self._default = Retention(age=settings.retention, count=settings.retention_count or None)
        self._log = log
        self._not_before: dict[tuple[str, str | None, str, str], float] = {}  # monotonic, by place, the earliest first
        self._cleaned: set[tuple[str, str]] = set()  # jobs and paths for which a thread has not ended
        self._steps = ForwardSteps(STEP)

    def after(self, retention: Retention | None, written: Iterable[Series]) -> None:
        """Call after a run has ended here. Removes the files of these series that exceed the job's retention."""
        self._steps.note(datetime.now(UTC), boot_ms())
        if self._steps.is_set_forward(within=DOUBTFUL):
            return
        for series in written:
            now = time.monotonic()
            while self._not_before and now >= next(iter(self._not_before.values())):
                del self._not_before[next(iter(self._not_before))]
            job = series.job, series.template
            if job in self._cleaned or series.place in self._not_before or len(self._cleaned) >= AT_ONCE:
                continue
            self._cleaned.add(job)
            try:
                threads.begin(self._remove, series, retention or self._default)
                self._not_before[series.place] = now + PAUSE
            except RuntimeError:  # no more threads: the next run that ends tries again
                self._cleaned.discard(job)

    @property
    def is_at_work(self) -> bool:
        """Whether files are being removed."""
        return bool(self._cleaned)

    def _remove(self, series: Series, keep: Retention) -> None:
        try:
            if removed := remove_timestamped(series, time.time(), keep.age, keep.count):
                self._log.info("old files were removed", action="purged", path=series.template, files=removed)
        finally:
            self._cleaned.discard((series.job, series.template))
