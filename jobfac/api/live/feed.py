"""One poller for everybody who waits for something: it looks at the database while there are listeners, however many,
and not at all while there are none.
"""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Literal, NamedTuple, TypeVar

import sqlalchemy as sa
from anyio import CapacityLimiter, to_thread

from jobfac.api.live import queries
from jobfac.api.live.positions import Positions, resume_points
from jobfac.api.problems import RETRY_AFTER, Problem
from jobfac.database.engine import Database
from jobfac.errors import Unreachable
from jobfac.telemetry.logs import logger
from jobfac.views.live import LiveProgress, LiveRunEvent
from jobfac.views.workers import WorkerView

T = TypeVar("T")

log = logger("jobfac.api.live")

INTERVAL = 0.2
"""Seconds between two looks."""

SLOW = 5
"""So many looks pass between two at the fleet and at progress."""

PAUSE = 1.0
"""Seconds until the next look after one that failed."""

OPEN = 500
"""Event streams and waiting requests open at once."""

SHARE = 5
"""One key may hold a fifth of them."""

QUEUE = 10_000
"""Messages that may wait for one slow listener; then its stream ends, and it may resume."""


class Message(NamedTuple):
    """One thing that listeners are told.

    Attributes:
        position: from where to resume after it; None: nothing to resume.
        category: that of the job, which decides who is told.
    """

    kind: Literal["run", "progress", "worker", "end"]
    view: LiveRunEvent | LiveProgress | WorkerView | None
    position: int | None = None
    category: str | None = None


END = Message("end", None)
"""The stream is over: the server stops, or its client is too slow."""


class Watch:
    """Waits for changes of one run."""

    def __init__(self, run_id: int, output: bool) -> None:
        self.run_id = run_id
        self.output = output
        self.changed = asyncio.Event()
        self.seen: Any = None

    async def wait(self, seconds: float) -> bool:
        """Until the run changed since the last call, or its output did if that was asked for. False: time is up."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.changed.wait(), max(0.0, seconds))
        changed = self.changed.is_set()
        self.changed.clear()
        return changed


class Listener:
    """Hears of everything. ``start``: events up to this id are not told."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.queue: asyncio.Queue[Message] = asyncio.Queue()

    async def next(self, seconds: float) -> Message | None:
        """The next message; None: time is up."""
        try:
            return await asyncio.wait_for(self.queue.get(), seconds)
        except TimeoutError:
            return None


class Live:
    """The poller. Everything but the polls themselves runs in the event loop."""

    def __init__(self, db: Database, most: int = OPEN) -> None:
        """``most``: event streams and waiting requests open at once, but never more than ``OPEN``."""
        self.closed = False
        self.open: Counter[str] = Counter()  # event streams and waiting requests, by the caller's name
        self.most = min(most, OPEN)
        self._db = db
        self._watches: defaultdict[int, set[Watch]] = defaultdict(set)
        self._listeners: set[Listener] = set()
        self._joining: list[asyncio.Future[Listener]] = []
        self._wanted = asyncio.Event()
        self._thread = CapacityLimiter(1)  # its own: it never waits until a request leaves it one
        self._looks = 0
        self._positions: Positions | None = None
        self._fleet: dict[int, WorkerView] | None = None
        self._progress: dict[int, queries.ReportedProgress] = {}

    @contextmanager
    def admitted(self, caller: str) -> Iterator[None]:
        """Count an open stream or a waiting request of this caller.

        Raises:
            Problem: 503 if too many are open, of all callers or of this one.
        """
        self._check(caller)
        self.open[caller] += 1
        try:
            yield
        finally:
            self.open[caller] -= 1
            if not self.open[caller]:
                del self.open[caller]

    def _check(self, caller: str) -> None:
        number, share = self.open.total(), max(1, self.most // SHARE)
        if self.closed or number >= self.most:
            detail = f"{number} event streams and waiting requests are open, and no more are served; try again."
        elif self.open[caller] >= share:
            detail = f"The key '{caller}' has {share} event streams and waiting requests open, its share; close some."
        else:
            return
        raise Problem(503, detail, {"Retry-After": str(RETRY_AFTER)})

    @contextmanager
    def watch(self, run_id: int, output: bool) -> Iterator[Watch]:
        """Watch a run; with ``output`` for what it writes, too."""
        watch = Watch(run_id, output)
        self._watches[run_id].add(watch)
        self._wanted.set()
        try:
            yield watch
        finally:
            self._watches[run_id].discard(watch)
            if not self._watches[run_id]:
                del self._watches[run_id]

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[Listener]:
        """Hear of everything from now on."""
        joined: asyncio.Future[Listener] = asyncio.get_running_loop().create_future()
        self._joining.append(joined)
        self._wanted.set()
        try:
            yield await joined
        finally:
            if joined.done() and not joined.cancelled():
                self._listeners.discard(joined.result())

    def close(self) -> None:
        """End every stream and waiting request."""
        self.closed = True
        for watches in self._watches.values():
            for watch in watches:
                watch.changed.set()
        self._join(0)
        for listener in self._listeners:
            listener.queue.put_nowait(END)

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            await self._wanted.wait()
            try:
                await self._look_once()
                await asyncio.sleep(INTERVAL)
            except Exception as error:  # whatever it is, it must not leave every stream silent for ever
                known = isinstance(error, Unreachable)
                log.warning("cannot look", action="look_failed", reason=str(error), exc_info=not known)
                await asyncio.sleep(PAUSE)
            if not (self._watches or self._listeners or self._joining):
                self._wanted.clear()
                self._positions = self._fleet = None

    async def _look_once(self) -> None:
        self._looks += 1
        if self._watches:
            outputs = [run_id for run_id, watches in self._watches.items() if any(watch.output for watch in watches)]
            states, ends = await self._look(_runs, list(self._watches), outputs)
            self._wake(states, ends)
        if self._listeners or self._joining:
            if self._positions is None:
                recent = await self._look(queries.recent_ids)
                self._positions = Positions(recent, time.monotonic())
            await self._tell_events(self._positions)
            if self._looks % SLOW == 0 or self._fleet is None:
                fleet, progress = await self._look(_fleet, self._fleet or {})
                self._tell_changes(fleet, progress)
            self._join(self._positions.contiguous)

    async def _look(self, read: Callable[..., T], *arguments: Any) -> T:
        def look() -> T:
            return self._db.query(read, *arguments, retry_for=0)

        return await to_thread.run_sync(look, limiter=self._thread)

    def _wake(self, states: Mapping[int, Any], ends: Mapping[int, Any]) -> None:
        for run_id, watches in self._watches.items():
            for watch in watches:
                seen = (states.get(run_id), ends.get(run_id) if watch.output else None)
                if seen != watch.seen:
                    watch.seen = seen
                    watch.changed.set()

    async def _tell_events(self, positions: Positions) -> None:
        while True:
            missing = sorted(positions.missing)
            found = await self._look(queries.events, positions.last, missing)
            ids = [event.view.id for event in found]
            positions.see(ids, time.monotonic())
            for event, position in zip(found, resume_points(ids, positions.contiguous), strict=True):
                self._tell(Message("run", event.view, position, event.category))
            if len(found) < queries.PAGE:
                return

    def _tell_changes(self, fleet: dict[int, WorkerView], progress: dict[int, queries.ReportedProgress]) -> None:
        before = self._fleet or {}
        for worker_id, worker in fleet.items():
            if self._fleet is not None and _steady(worker) != _steady(before.get(worker_id)):
                self._tell(Message("worker", worker))
        self._fleet = {key: worker for key, worker in fleet.items() if worker.ended_at is None}
        for run_id, said in progress.items():
            if said != self._progress.get(run_id):
                self._tell(Message("progress", said.view, category=said.category))
        self._progress = progress

    def _tell(self, message: Message) -> None:
        for listener in list(self._listeners):
            listener.queue.put_nowait(message)
            if listener.queue.qsize() > QUEUE:
                self._listeners.discard(listener)
                while not listener.queue.empty():
                    listener.queue.get_nowait()
                listener.queue.put_nowait(END)

    def _join(self, start: int) -> None:
        # After the events of this look were told, so that nobody hears of what was before he came.
        for joined in self._joining:
            if not joined.done():
                listener = Listener(start)
                self._listeners.add(listener)
                joined.set_result(listener)
        self._joining.clear()


def _steady(worker: WorkerView | None) -> WorkerView | None:
    """The worker without its heartbeats, which are not worth telling."""
    return None if worker is None else worker._replace(seen_at=worker.started_at, lease_until=worker.started_at)


def _runs(conn: sa.Connection, run_ids: list[int], outputs: list[int]) -> tuple[dict[int, Any], dict[int, Any]]:
    return queries.states(conn, run_ids), queries.output_ends(conn, outputs)


def _fleet(
    conn: sa.Connection, known: Mapping[int, WorkerView]
) -> tuple[dict[int, WorkerView], dict[int, queries.ReportedProgress]]:
    return queries.fleet(conn, known), queries.progress(conn)
