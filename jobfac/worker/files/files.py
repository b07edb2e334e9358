"""Scans for the files that a worker watches for, and stores what has arrived. One thread uses it."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from jobfac.database.engine import Database
from jobfac.errors import Unreachable
from jobfac.settings import Settings
from jobfac.store.schedules import ArrivedFile
from jobfac.telemetry.logs import logger
from jobfac.worker.files.arrivals import REFUSED, Arrivals
from jobfac.worker.files.scanning import scan
from jobfac.worker.files.targets import FILES, Target, read_targets

log = logger("jobfac.files")

READ_INTERVAL = 15.0
"""Seconds between two reads of what this worker watches for."""

READ_RARELY = 60.0
"""The same of a worker that watches for nothing, while other workers do."""

RETRY = 2.0
"""Seconds until something that failed is tried again."""

SHARE = 5
"""Times the duration of a scan: the pause after it at least, so that a large folder does not keep a processor busy."""

AT_ONCE = 0.05
"""Seconds after an event until the folder is scanned, because events come in crowds."""

SAID_AGAIN = 3600.0
"""Seconds for which the log does not repeat a problem."""


@dataclass
class Watch:
    """A target, the files that were seen of it, where it looks, and when it is scanned next (monotonic seconds)."""

    target: Target
    arrivals: Arrivals
    scan_at: float = 0.0
    not_before: float = 0.0
    folders: frozenset[str] = frozenset()
    said: dict[str, float] = field(default_factory=dict)


class Files:
    """What one worker watches for.

    Attributes:
        read_at: when to read again what to watch for (monotonic seconds).
    """

    def __init__(self, db: Database, settings: Settings, worker: str, pools: Sequence[str]) -> None:
        self.read_at = 0.0
        self._db = db
        self._worker = worker
        self._pools = pools
        self._interval = settings.file_scan_interval
        self._log = log.bind(worker=worker)
        self._watches: dict[Target, Watch] = {}

    @property
    def folders(self) -> Collection[str]:
        """The folders in which files are looked for."""
        return frozenset().union(*(watch.folders for watch in self._watches.values()))

    def happened(self, folders: Collection[str], now: float) -> None:
        """Scan soon where something has happened."""
        for watch in self._watches.values():
            if not watch.folders.isdisjoint(folders):
                watch.scan_at = min(watch.scan_at, max(watch.not_before, now + AT_ONCE))

    def turn(self, now: float, is_over: Callable[[], bool] = lambda: False) -> float:
        """Read what to watch for and scan, each if it is due at ``now``. Returns the seconds to the next turn."""
        if now >= self.read_at:
            self._read(now)
        for watch in list(self._watches.values()):
            if now >= watch.scan_at and not is_over():
                self._scan(watch, now, is_over)
        return max(0.0, min([self.read_at, *(watch.scan_at for watch in self._watches.values())]) - now)

    def _read(self, now: float) -> None:
        try:
            targets = self._db.query(read_targets, self._pools, retry_for=1.0)
        except Unreachable as error:
            self._log.warning("files to watch for not read", action="watch_failed", reason=str(error))
            self.read_at = now + RETRY
            return
        self._watches = {one: self._watches.get(one) or Watch(one, Arrivals(one.stable)) for one in targets}
        self.read_at = now + (READ_INTERVAL if targets else READ_RARELY)

    def _scan(self, watch: Watch, now: float, is_over: Callable[[], bool]) -> None:
        began = time.monotonic()
        try:
            found = scan(watch.target.pattern)
            watch.not_before = now + SHARE * (time.monotonic() - began)
            watch.folders = found.folders
            self._say(watch, found.problems, now)
            self._take(watch, watch.arrivals.observe(found.files, now), now, is_over)
        except Unreachable as error:
            self._log.warning("files not started, retrying", action="watch_failed", reason=str(error))
        except Exception:  # what is wrong with one target must not stop the others
            self._log.exception("files not started, retrying", action="watch_failed", target=watch.target.name)
        next_at = watch.arrivals.next_at()
        due = now + self._interval if next_at is None else min(now + self._interval, max(next_at, now + RETRY / 10))
        watch.scan_at = max(due, watch.not_before)

    def _take(self, watch: Watch, files: Sequence[ArrivedFile], now: float, is_over: Callable[[], bool]) -> None:
        """Store in batches what has arrived."""
        target = watch.target
        for at in range(0, len(files), FILES):
            if is_over():
                return
            some = files[at : at + FILES]
            taken = self._db.transact(target.take, some, self._worker, retry_for=2.0)
            watch.arrivals.handle(some, taken.handled, now)
            left = [file for file in some if file.key not in taken.handled]
            watch.arrivals.postpone(left, now + (REFUSED if taken.refusals else RETRY))
            self._say(watch, [f"{target.name}: {refusal}" for refusal in taken.refusals], now)
            if taken.number:
                self._log.info("files arrived", action="files_arrived", target=target.name, files=taken.number)
            if left and not taken.refusals:  # the target was changed, or another worker handles it
                self.read_at = now
            if at + FILES < len(files):
                time.sleep(self._db.dialect.pause_between_writes)

    def _say(self, watch: Watch, problems: Collection[str], now: float) -> None:
        """Log problems, each at most once per ``SAID_AGAIN``, and no more than a few of a scan."""
        watch.said = {text: until for text, until in watch.said.items() if until > now}
        for text in [one for one in problems if one not in watch.said][:10]:
            watch.said[text] = now + SAID_AGAIN
            self._log.warning("file not started", action="file_refused", reason=text)
