"""Retention of `timestamped` output files: the worker that creates them removes the old ones, as runs are purged."""

import threading
import time
from datetime import UTC, datetime
from typing import Any

from jobfac.database.dialects.lease_clock import ForwardSteps, boot_ms
from jobfac.definitions import Job, Retention
from jobfac.machine import threads
from jobfac.programs import remove_timestamped
from jobfac.settings import Settings
from jobfac.store.retention import DOUBTFUL

PAUSE = 600.0
"""Minimum seconds between two cleanups of the same files."""

STEP = 600_000
"""By more than how many milliseconds this machine's clock must have been set forward to be in doubt."""


class OldFiles:
    """Removes old output files after runs end, at most once per ``PAUSE`` for each pattern.

    In a thread of its own, because a folder may have very many files or be on a network drive that hangs. Only the
    worker's loop calls ``after``.
    """

    def __init__(self, settings: Settings, log: Any) -> None:
        self._default = Retention(age=settings.retention, count=settings.retention_count or None)
        self._log = log
        self._not_before: dict[tuple[str | None, str], float] = {}  # monotonic, by directory and pattern
        self._removes = threading.Lock()
        self._steps = ForwardSteps(STEP)

    def after(self, job: Job) -> None:
        """Call after a run of this job has ended here. Removes its output files that exceed the job's retention."""
        self._steps.note(datetime.now(UTC), boot_ms())
        if self._steps.is_set_forward(within=DOUBTFUL):
            return
        keep = job.retention or self._default
        for stream in (job.output.stdout, job.output.stderr):
            if stream.kind != "timestamped" or stream.path is None:
                continue
            now, key = time.monotonic(), (job.directory, stream.path)
            if now < self._not_before.get(key, now) or not self._removes.acquire(blocking=False):
                continue
            try:
                threads.begin(self._remove, stream.path, job.directory, keep)
                self._not_before[key] = now + PAUSE
            except RuntimeError:  # no more threads: the next run that ends tries again
                self._removes.release()

    def _remove(self, path: str, directory: str | None, keep: Retention) -> None:
        try:
            if removed := remove_timestamped(path, directory, time.time(), keep.age, keep.count):
                self._log.info("old files were removed", action="purged", path=path, files=removed)
        finally:
            self._removes.release()
