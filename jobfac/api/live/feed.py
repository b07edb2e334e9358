"""One poller for all streams and waiting requests. It polls the database while there is at least one of them."""

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
from jobfac.views.live import LiveProgress, LiveReset, LiveRunEvent
from jobfac.views.workers import WorkerView

T = TypeVar("T")

log = logger("jobfac.api.live")

INTERVAL = 0.2
"""Seconds between two polls."""

FLEET_EVERY = 5
"""The fleet and progress are read in every fifth poll."""

RETRY_DELAY = 1.0
"""Seconds until the next poll after a failed one."""

MAX_STREAMS = 500
"""The maximum number of open event streams and waiting requests."""

SHARE = 5
"""One key may use a fifth of them."""

MAX_QUEUE = 10_000
"""The maximum number of messages that wait for a slow listener. Then its stream ends, and the client may resume."""


class Message(NamedTuple):
    """A message to listeners.

    Attributes:
        position: where a client resumes after it; None: the client cannot resume here.
        category: that of the job, which decides which callers may see it.
    """

    kind: Literal["run", "progress", "worker", "reset", "end"]
    view: LiveRunEvent | LiveProgress | LiveReset | WorkerView | None
    position: int | None = None
    category: str | None = None


END = Message("end", None)
"""The end of a stream, because the server stops or the client is too slow."""


class Watch:
    """Waits for changes of one run. ``seen``: the state and output at the last poll."""

    def __init__(self, run_id: int, output: bool) -> None:
        self.run_id = run_id
        self.output = output
        self.changed = asyncio.Event()
        self.seen: Any = None

    async def wait(self, seconds: float) -> bool:
        """Wait until the run, or its output if it is watched, has changed since the last call. False: a timeout."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.changed.wait(), max(0.0, seconds))
        changed = self.changed.is_set()
        self.changed.clear()
        return changed


class Listener:
    """Receives all messages about events with an id above ``start``."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.queue: asyncio.Queue[Message] = asyncio.Queue()

    async def next(self, seconds: float) -> Message | None:
        """Wait for the next message; None: a timeout."""
        try:
            return await asyncio.wait_for(self.queue.get(), seconds)
        except TimeoutError:
            return None


class LiveFeed:
    """The poller. Its queries run in a thread, everything else in the event loop."""

    def __init__(self, db: Database, limit: int = MAX_STREAMS) -> None:
        """``limit``: the maximum number of open event streams and waiting requests, at most ``MAX_STREAMS``."""
        self.closed = False
        self.open: Counter[str] = Counter()  # event streams and waiting requests, by the caller's name
        self.limit = min(limit, MAX_STREAMS)
        self._db = db
        self._watches: defaultdict[int, set[Watch]] = defaultdict(set)
        self._listeners: set[Listener] = set()
        self._joining: list[asyncio.Future[Listener]] = []
        self._wanted = asyncio.Event()
        self._thread = CapacityLimiter(1)  # a thread of its own, so that busy requests never delay it
        self.checks = CapacityLimiter(1)  # the same for the keys of open streams
        self._polls = 0
        self._positions: Positions | None = None
        self._fleet: dict[int, WorkerView] | None = None
        self._progress: dict[int, queries.ProgressRow] = {}

    @contextmanager
    def admitted(self, caller: str) -> Iterator[None]:
        """Count a stream or a waiting request of this caller as open.

        Raises:
            Problem: 503 if too many are open, in total or for this caller.
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
        number, share = self.open.total(), max(1, self.limit // SHARE)
        if self.closed or number >= self.limit:
            detail = f"{number} event streams and waiting requests are open, and no more are accepted; try again."
        elif self.open[caller] >= share:
            detail = f"The key {caller} has {share} event streams and waiting requests open, its share; close some."
        else:
            return
        raise Problem(503, detail, {"Retry-After": str(RETRY_AFTER)})

    @contextmanager
    def watch(self, run_id: int, output: bool) -> Iterator[Watch]:
        """Watch a run. ``output``: its output as well."""
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
        """Receive all messages from now on."""
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
        """Poll until the task is cancelled."""
        while True:
            await self._wanted.wait()
            try:
                await self._poll()
                await asyncio.sleep(INTERVAL)
            except Exception as error:  # an unexpected error must not end the poller, or all streams would stall
                if isinstance(error, Unreachable):
                    log.outage("live poll failed, retrying", action="live_poll_failed", reason=str(error))
                else:
                    log.exception("live poll failed, retrying", action="live_poll_failed", reason=str(error))
                await asyncio.sleep(RETRY_DELAY)
            if not (self._watches or self._listeners or self._joining):
                self._wanted.clear()
                self._positions = self._fleet = None

    async def _poll(self) -> None:
        self._polls += 1
        if self._watches:
            outputs = [run_id for run_id, watches in self._watches.items() if any(watch.output for watch in watches)]
            states, ends = await self._read(_runs, list(self._watches), outputs)
            self._wake(states, ends)
        if self._listeners or self._joining:
            positions = self._positions or await self._begin()
            if self._polls % FLEET_EVERY == 0 and (newest := await self._read(queries.newest_id)) < positions.last:
                positions = await self._begin()
                self._send(Message("reset", LiveReset(newest), positions.contiguous))
            await self._send_events(positions)
            if self._polls % FLEET_EVERY == 0 or self._fleet is None:
                fleet, progress = await self._read(_fleet, self._fleet or {})
                self._send_changes(fleet, progress)
            self._join(positions.contiguous)

    async def _begin(self) -> Positions:
        """Begin after the newest events."""
        recent = await self._read(queries.recent_ids)
        self._positions = Positions(recent, time.monotonic())
        return self._positions

    async def _read(self, query: Callable[..., T], *arguments: Any) -> T:
        def read() -> T:
            return self._db.query(query, *arguments, retry_for=0)

        return await to_thread.run_sync(read, limiter=self._thread)

    def _wake(self, states: Mapping[int, Any], ends: Mapping[int, Any]) -> None:
        for run_id, watches in self._watches.items():
            for watch in watches:
                seen = (states.get(run_id), ends.get(run_id) if watch.output else None)
                if seen != watch.seen:
                    watch.seen = seen
                    watch.changed.set()

    async def _send_events(self, positions: Positions) -> None:
        while True:
            missing = sorted(positions.missing)
            events = await self._read(queries.events, positions.last, missing)
            ids = [event.view.id for event in events]
            positions.see(ids, time.monotonic())
            for event, position in zip(events, resume_points(ids, positions.contiguous), strict=True):
                self._send(Message("run", event.view, position, event.category))
            if len(events) < queries.PAGE:
                return

    def _send_changes(self, fleet: dict[int, WorkerView], progress: dict[int, queries.ProgressRow]) -> None:
        before = self._fleet or {}
        for worker_id, worker in fleet.items():
            if self._fleet is not None and _without_heartbeat(worker) != _without_heartbeat(before.get(worker_id)):
                self._send(Message("worker", worker))
        self._fleet = {worker_id: worker for worker_id, worker in fleet.items() if worker.ended_at is None}
        for run_id, row in progress.items():
            if row != self._progress.get(run_id):
                self._send(Message("progress", row.view, category=row.category))
        self._progress = progress

    def _send(self, message: Message) -> None:
        for listener in list(self._listeners):
            listener.queue.put_nowait(message)
            if listener.queue.qsize() > MAX_QUEUE:
                self._listeners.discard(listener)
                while not listener.queue.empty():
                    listener.queue.get_nowait()
                listener.queue.put_nowait(END)

    def _join(self, start: int) -> None:
        # After the events of this poll were sent, so that a new listener receives no earlier events.
        for joined in self._joining:
            if not joined.done():
                listener = Listener(start)
                self._listeners.add(listener)
                joined.set_result(listener)
        self._joining.clear()


def _without_heartbeat(worker: WorkerView | None) -> WorkerView | None:
    """Return the worker with constant times of its heartbeat, because a heartbeat alone is not sent as a change."""
    return None if worker is None else worker._replace(seen_at=worker.started_at, lease_until=worker.started_at)


def _runs(conn: sa.Connection, run_ids: list[int], outputs: list[int]) -> tuple[dict[int, Any], dict[int, Any]]:
    return queries.states(conn, run_ids), queries.output_ends(conn, outputs)


def _fleet(
    conn: sa.Connection, known: Mapping[int, WorkerView]
) -> tuple[dict[int, WorkerView], dict[int, queries.ProgressRow]]:
    return queries.fleet(conn, known), queries.progress(conn)
