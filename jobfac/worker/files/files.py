"""Decides when to scan for the files that a worker watches for, and stores what has arrived. One thread uses it."""

import math
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.errors import Unreachable
from jobfac.settings import Settings
from jobfac.store.schedules import ArrivedFile, note_gone
from jobfac.store.schedules.arriving import SEEN_AGAIN
from jobfac.telemetry.logs import logger
from jobfac.worker.files.arrivals import REFUSED, Arrivals
from jobfac.worker.files.departures import GONE, KEPT_LISTING, Departures, placed
from jobfac.worker.files.lanes import Result, Scanner
from jobfac.worker.files.targets import FILES, ScheduleTarget, Target, Wanted, read_targets

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

MOMENTS = 256
"""How many times of the database are kept, to know one before the beginning of a scan that takes long."""

SAID_FILES = 5
"""The maximum number of paths in one line of the log."""

LOOKED = "files"
"""A mark of a connection on which was read what to watch for."""


@dataclass(eq=False)
class Watch:
    """A target, and the files that were seen of it. ``said``: problems that were logged, and until when that counts."""

    target: Target
    arrivals: Arrivals
    departures: Departures = field(default_factory=Departures)
    said: dict[str, float] = field(default_factory=dict)


@dataclass
class Place:
    """A pattern for whose files one or several watches look.

    Attributes:
        scan_at: when it is scanned next (monotonic seconds).
        not_before: the earliest time of the next scan, even if something happens before.
        folders: where the last scan looked.
        is_scanned: a result is still to come.
        again: something has happened since that scan began.
    """

    watches: list[Watch] = field(default_factory=list)
    scan_at: float = 0.0
    not_before: float = 0.0
    folders: frozenset[str] = frozenset()
    is_scanned: bool = False
    again: bool = False


class Files:
    """What one worker watches for.

    Attributes:
        read_at: when to read again what to watch for (monotonic seconds).
    """

    def __init__(self, db: Database, settings: Settings, worker: str, pools: Sequence[str], scanner: Scanner) -> None:
        self.read_at = 0.0
        self._db = db
        self._worker = worker
        self._pools = pools
        self._interval = settings.file_scan_interval
        self._log = log.bind(worker=worker)
        self._scanner = scanner
        self._watches: dict[Target, Watch] = {}
        self._places: dict[str, Place] = {}
        self._left: set[str] = set()
        self._said_stuck: set[str] = set()
        self._database_now: datetime | None = None
        self._begun: tuple[datetime, float] | None = None  # the same moment by the database and in monotonic seconds
        self._looks: deque[tuple[float, datetime]] = deque(maxlen=MOMENTS)
        self._is_doubtful = False  # the database may have forgotten files that were handled

    def take_left(self) -> Collection[str]:
        """Return the folders in which no file is looked for any more, since the last call."""
        left, self._left = self._left, set()
        return left.difference(*(place.folders for place in self._places.values())) if left else left

    def happened(self, folders: Collection[str], now: float) -> None:
        """Scan soon where something has happened."""
        for place in self._places.values() if folders else ():
            if not place.folders.isdisjoint(folders):
                place.again = place.is_scanned
                place.scan_at = min(place.scan_at, max(place.not_before, now + AT_ONCE))

    def turn(self, now: float, is_over: Callable[[], bool] = lambda: False) -> float:
        """Read what to watch for, begin scans, and store their results, each if it is due at ``now``.

        Returns the seconds to the next turn, unless a scan ends before.
        """
        if self._database_now is not None:  # read in an earlier turn, so no scan that began since did so before
            self._looks.append((now, self._database_now))
            self._database_now = None
        if now >= self.read_at:
            self._read(now)
        due = {pattern: one for pattern, one in self._places.items() if now >= one.scan_at and not one.is_scanned}
        for place in due.values():
            place.is_scanned, place.again = True, False
        begin_at = self._scanner.begin(due, now)
        for result in self._scanner.results():
            if not is_over():
                self._use(result, now, is_over)
        self._say_stuck(now)
        times = [place.scan_at for place in self._places.values() if not place.is_scanned]
        if begin_at is not None:
            times.append(begin_at)
        return max(0.0, min(self.read_at, *times, math.inf) - now)

    def _read(self, now: float) -> None:
        try:
            targets, database_now = self._db.query(self._look, retry_for=1.0)
        except Unreachable as error:
            self._log.outage("cannot read which files to watch for, retrying", action="watch_failed", reason=str(error))
            self.read_at = now + RETRY
            return
        self._watches = {one: self._watches.get(one) or Watch(one, Arrivals(one.stable)) for one in targets}
        self._follow_clock(database_now, now)
        self._database_now = database_now
        if self._is_doubtful:
            self._is_doubtful = False
            for watch in self._watches.values():
                watch.arrivals.report_again()
        watches: dict[str, list[Watch]] = {}
        for watch in self._watches.values():
            watches.setdefault(watch.target.pattern, []).append(watch)
        before, self._places = self._places, {}
        for pattern, some in watches.items():
            place = self._places[pattern] = before.pop(pattern) if pattern in before else Place()
            if any(one not in place.watches for one in some):
                place.scan_at, place.again = place.not_before, place.is_scanned
            place.watches = some
        self._left.update(*(place.folders for place in before.values()))
        self.read_at = now + (READ_INTERVAL if targets else READ_RARELY)

    def _look(self, conn: sa.Connection) -> Wanted:
        # A failover ends all connections, and may have lost what was stored of the last files.
        if not conn.info.get(LOOKED):
            conn.info[LOOKED] = self._is_doubtful = True
        return read_targets(conn, self._pools)

    def _follow_clock(self, database_now: datetime, now: float) -> None:
        """Doubt what the database knows if its clock has gone much further than that of this thread.

        It was set, or the machine was asleep. For the database these files were not seen for long, so it would forget
        them, and they would start again.
        """
        began, begun = self._begun or (database_now, now)
        jump = (database_now - began).total_seconds() - (now - begun)
        if self._begun is None or abs(jump) >= SEEN_AGAIN:
            self._begun, self._is_doubtful = (database_now, now), True

    def _use(self, result: Result, now: float, is_over: Callable[[], bool]) -> None:
        """Store what a scan has found, and decide when to scan again."""
        found, place = result.found, self._places.get(result.pattern)
        if place is None:  # it is not watched for any more
            self._left |= found.folders
            return
        self._left |= place.folders
        place.folders, place.is_scanned = found.folders, False
        place.not_before = result.began + SHARE * result.seconds
        looked_at = self._moment(result.began)
        for watch in place.watches:
            try:
                self._say(watch, found.problems, now)
                arrived = [placed(one, found) for one in watch.arrivals.observe(found.files, result.began)]
                self._take(watch, arrived, looked_at, now, is_over)
                self._lose(watch, result, is_over)
            except Unreachable as error:
                self._log.outage("files not started, retrying", action="watch_failed", reason=str(error))
                break
            except Exception:  # what is wrong with one target must not stop the others
                self._log.exception("files not started, retrying", action="watch_failed", target=watch.target.name)
        times = [at for watch in place.watches if (at := watch.arrivals.next_at()) is not None]
        due = min([now + self._interval, *(max(at, now + RETRY / 10) for at in times)])
        if place.again or result.is_new:
            due = min(due, now + AT_ONCE)
        place.scan_at, place.again = max(due, place.not_before), False

    def _moment(self, before: float) -> datetime | None:
        """Return the latest known time of the database before this time; None: none is known."""
        return next((moment for at, moment in reversed(self._looks) if at <= before), None)

    def _lose(self, watch: Watch, result: Result, is_over: Callable[[], bool]) -> None:
        """Store in batches what has gone."""
        looked_at = self._moment(result.began - KEPT_LISTING)
        gone = watch.departures.observe(result.found, result.began)
        if back := watch.departures.take_too_soon():
            text = "files came back too soon, or before their runs ended, and start nothing; touch them to start others"
            names, more = ", ".join(back[:SAID_FILES]), len(back) - SAID_FILES
            self._log.info(text, action="files_came_back", paths=f"{names} and {more} more" if more > 0 else names)
        if looked_at is None or not isinstance(watch.target, ScheduleTarget):
            return
        for at in range(0, len(gone), FILES):
            if is_over():
                return
            some = gone[at : at + FILES]
            done = self._db.transact(note_gone, watch.target.schedule.job, some, looked_at, retry_for=2.0)
            watch.departures.drop(done)
            watch.departures.postpone({one.key for one in some}.difference(done), result.began + GONE)
            if at + FILES < len(gone):
                time.sleep(self._db.dialect.pause_between_writes)

    def _take(
        self,
        watch: Watch,
        files: Sequence[ArrivedFile],
        looked_at: datetime | None,
        now: float,
        is_over: Callable[[], bool],
    ) -> None:
        """Store in batches what has arrived."""
        target = watch.target
        for at in range(0, len(files), FILES):
            if is_over():
                return
            some = files[at : at + FILES]
            taken = self._db.transact(target.take, some, self._worker, looked_at, retry_for=2.0)
            watch.arrivals.handle(some, taken.handled, now)
            if isinstance(target, ScheduleTarget):
                watch.departures.handle(some, taken.handled)
            left = [file for file in some if file.key not in taken.handled]
            watch.arrivals.postpone(left, now + (REFUSED if taken.refusals else RETRY))
            self._say(watch, [f"{target.name}: {refusal}" for refusal in taken.refusals], now)
            if taken.number:
                self._log.info("files arrived", action="files_arrived", target=target.name, files=taken.number)
            if left and not taken.refusals:  # the target was changed, or another worker handles it
                self.read_at = now
            if at + FILES < len(files):
                time.sleep(self._db.dialect.pause_between_writes)

    def _say_stuck(self, now: float) -> None:
        stuck = set(self._scanner.stuck(now))
        for folder in sorted(stuck - self._said_stuck):
            text = "a folder does not answer; its files are not noticed, those of other folders are"
            self._log.warning(text, action="folder_stuck", folder=folder)
        self._said_stuck = stuck

    def _say(self, watch: Watch, problems: Collection[str], now: float) -> None:
        """Log problems, each at most once per ``SAID_AGAIN``, and no more than a few of a scan."""
        watch.said = {text: until for text, until in watch.said.items() if until > now}
        for text in [one for one in problems if one not in watch.said][:10]:
            watch.said[text] = now + SAID_AGAIN
            self._log.warning("file not started", action="file_refused", reason=text)
