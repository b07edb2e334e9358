"""The notifier: delivers notifications in separate threads, so that a slow receiver delays no other duty.

It sleeps until it is woken, works until nothing is due, and sleeps again. Each notification is leased before it is
sent, so any number of notifiers work side by side. If one is killed, its leases expire and another notifier sends the
same notifications, perhaps for the second time, with the same ids.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import sqlalchemy as sa

from jobfac import channels
from jobfac.channels import DeliveryError, Message
from jobfac.database.engine import Database
from jobfac.errors import Unreachable
from jobfac.machine import threads
from jobfac.scheduler.poll import Poll
from jobfac.settings import Settings
from jobfac.states import Delivery
from jobfac.store import outbox, output, runs
from jobfac.store.outbox import Taken
from jobfac.telemetry.logs import logger
from jobfac.telemetry.metrics import Metric
from jobfac.views.serialization import as_json

T = TypeVar("T")

log = logger("jobfac.notifier")

MAX_DELIVERIES = 12
"""The maximum number of deliveries at the same time."""

SHARE = MAX_DELIVERIES // 4
"""The maximum number of those to one recipient, of emails, and of those to recipients whom starts have named; of
emails to one address, and to those whom starts have named, one less. A receiver that hangs, for a minute and ten times
for each notification, delays only its own, and a storm of mails to one address does not delay those to others."""

BATCH = 50
"""The maximum number of outbox events that one transaction addresses."""

LEASE = 120.0
"""Seconds for which a notification is leased: longer than the timeouts of the channels."""

NO_THREAD_PAUSE = 1.0
"""Seconds until it tries again to start a thread that the machine has refused."""

RECORD_PAUSE = 1.0
"""Seconds until it tries again to store the result of a delivery while the database cannot be reached."""

CLOSE_TIMEOUT = 3.0
"""Seconds for which ``close`` waits for deliveries."""

TAIL = 4096
"""The size of the last part of each stream that a message contains, in bytes."""


class Notifier:
    """Delivers all due notifications whenever ``wake`` is called."""

    def __init__(self, db: Database, settings: Settings, scheduler: str) -> None:
        self._log = log.bind(scheduler=scheduler)
        self._count_lock = threading.Lock()
        self._deliveries = dict.fromkeys(("delivered", "failed", "dead"), 0)
        self._failure: Exception | None = None
        self._db = db
        self._settings = settings
        self._woken = threading.Event()
        self._closing = threading.Event()
        self._free = threading.Semaphore(MAX_DELIVERIES)
        self._busy: Counter[str] = Counter()  # deliveries by group, under ``_count_lock``
        self._leased: list[outbox.Leased] = []  # by takes without an answer
        self._thread = threading.Thread(target=self._run, name="notifier")

    def start(self) -> None:
        """Start the thread. It waits for ``wake``."""
        self._thread.start()

    def has_work(self, poll: Poll) -> bool:
        """Whether something is to be delivered, or the last round has failed."""
        return poll.outbox or poll.is_past(poll.deliver_at) or self._failure is not None

    def wake(self) -> None:
        """Deliver what is due now.

        Raises what the last round failed with, so that the scheduler's duty has failed. The round is repeated.
        """
        failure, self._failure = self._failure, None
        self._woken.set()
        if failure is not None:
            raise failure

    def metrics(self) -> list[Metric]:
        """Return the number of deliveries by result. May be called from any thread."""
        values = dict(self._deliveries)
        return [Metric("counter", "jobfac_scheduler_deliveries", "Notifications sent", values, "result")]

    def close(self) -> None:
        """Stop, and wait up to ``CLOSE_TIMEOUT`` for deliveries. Another notifier repeats those that do not finish."""
        self._closing.set()
        self._woken.set()
        self._thread.join()
        end = time.monotonic() + CLOSE_TIMEOUT
        for _ in range(MAX_DELIVERIES):
            self._free.acquire(timeout=max(0.0, end - time.monotonic()))

    def _run(self) -> None:
        while not self._closing.is_set():
            self._woken.wait()
            self._woken.clear()
            try:
                self._work()
            except Exception as error:  # the next poll of the scheduler wakes this thread again
                self._failure = error

    def _work(self) -> None:
        """Address all outbox events and start the delivery of all notifications that are due."""
        more = True
        while more and not self._closing.is_set():
            more = self._db.transact(address_some, retry_for=2.0)
            number = self._reserve()
            begun = 0
            try:
                begun = self._begin(number) if number else 0
            finally:
                for _ in range(number - begun):
                    self._free.release()
            more = more or begun > 0

    def _begin(self, number: int) -> int:
        """Take up to ``number`` notifications and begin their deliveries. Returns how many were begun."""
        with self._count_lock:
            room = outbox.Room(SHARE, dict(self._busy))
        taken = self._db.transact(outbox.take, number, LEASE, self._leased, room, retry_for=2.0)
        leases, self._leased = {one.id: one for one in self._leased}, []
        for begun, notification in enumerate(taken):
            with self._count_lock:
                self._busy.update(notification.groups)
            # A daemon thread, so that a delivery that hangs does not keep the process alive.
            try:
                threads.begin(self._deliver, notification)
            except RuntimeError as error:  # the machine refuses threads
                self._forget(notification)
                self._leased = [leases[one.id] for one in taken[begun:]]  # the next take releases these
                self._log.warning("cannot deliver, retrying", action="delivery_failed", reason=str(error))
                self._woken.set()
                self._closing.wait(NO_THREAD_PAUSE)
                return begun
        return len(taken)

    def _reserve(self) -> int:
        """Wait for capacity and reserve all of it. Returns the number of deliveries; 0: the notifier is closing."""
        while not self._free.acquire(timeout=0.2):
            if self._closing.is_set():
                return 0
        number = 1
        while number < MAX_DELIVERIES and self._free.acquire(blocking=False):
            number += 1
        return number

    def _deliver(self, taken: Taken) -> None:
        """Send a notification, record the result and release its capacity."""
        try:
            bound = self._log.bind(
                notification=taken.id, run=taken.run_id, attempt=taken.attempt, job=taken.job,
                worker=taken.worker, about=taken.event, to=channels.shown(taken.recipient),
            )  # fmt: skip
            error = self._send(taken)
            if error is None:
                self._record(outbox.delivered, taken)
                self._count("delivered")
                bound.info("notification delivered", action="delivered")
            else:
                state = self._record(outbox.failed, taken, error)
                self._count("dead" if state == Delivery.DEAD else "failed")
                write = bound.error if state == Delivery.DEAD else bound.warning
                write(
                    "notification not delivered",
                    action="not_delivered",
                    became=state,
                    tries=taken.tries,
                    reason=error,
                )
        except Unreachable as error:
            bound.warning(
                "result of a delivery not recorded; it is repeated when its lease expires",
                action="delivery_failed",
                reason=str(error),
            )
        finally:
            self._end(taken)

    def _record(self, result: Callable[..., T], *arguments: Any) -> T:
        """Store the result of a delivery. An outage, or a refused login, must not make it arrive twice.

        Raises:
            Unreachable: the lease has ended meanwhile, or the notifier is closing.
        """
        end = time.monotonic() + LEASE
        while True:
            try:
                return self._db.transact(result, *arguments)
            except Unreachable:
                if time.monotonic() > end or self._closing.wait(RECORD_PAUSE):
                    raise

    def _end(self, taken: Taken) -> None:
        """Release the capacity of a delivery, and wake the notifier if others may wait for room in its groups."""
        with self._count_lock:
            was_full = any(self._busy[group] >= outbox.places(group, SHARE) for group in taken.groups)
        self._forget(taken)
        self._free.release()
        if was_full:
            self._woken.set()

    def _forget(self, taken: Taken) -> None:
        with self._count_lock:
            self._busy.subtract(taken.groups)
            self._busy += Counter()  # without those that are zero

    def _count(self, result: str) -> None:
        with self._count_lock:
            self._deliveries[result] += 1

    def _send(self, taken: Taken) -> str | None:
        """Send a notification. Returns the reason of a failure; None: it was delivered."""
        try:
            body = linked(taken.body, taken.run_id, self._settings.public_url)
            message = Message(taken.dedupe, taken.event, body, self._tail(taken), taken.by_start)
            channels.deliver(message, taken.recipient, self._settings)
        except DeliveryError as error:
            return str(error)
        except Unreachable:
            raise
        except Exception as error:  # the text of an unexpected error may contain a secret
            return f"it could not be sent ({type(error).__name__})"
        return None

    def _tail(self, taken: Taken) -> str:
        """Return the end of the output, for channels that show it."""
        if not channels.takes_output(taken.recipient) or taken.run_id is None or not taken.attempt:
            return ""
        return self._db.query(tail, taken.run_id, taken.attempt)


def address_some(conn: sa.Connection) -> bool:
    """Create the notifications of up to ``BATCH`` outbox events. Returns whether there may be more events."""
    items, more = outbox.unaddressed(conn, BATCH)
    without_body = [item.run_id for item in items if item.body is None and item.run_id is not None]
    bodies = {run_id: as_json(run) for run_id, run in runs.snapshots(conn, without_body).items()}
    for problem in outbox.address(conn, items, bodies):
        log.warning("no notification created", action="not_addressed", reason=problem)
    return more


def linked(body: Mapping[str, Any], run_id: int | None, public_url: str) -> Mapping[str, Any]:
    """Return the body with the link to the run's page, if it is about a run and the URL of the pages is set."""
    return {**body, "link": f"{public_url.rstrip('/')}/runs/{run_id}"} if public_url and run_id is not None else body


def tail(conn: sa.Connection, run_id: int, attempt: int) -> str:
    """Return the last lines of each stream of an attempt, up to ``TAIL`` bytes of each."""
    parts = []
    for stream in output.STREAMS:
        begin = max(0, output.end_of(conn, run_id, attempt, stream) - TAIL)
        positions, data = {stream: begin}, b""
        while pieces := output.read(conn, run_id, attempt, positions):
            for piece in pieces:
                data += output.cut_mark(piece.skipped if data or not begin else 0) + piece.data
        text = data.decode("utf-8", "replace")
        if begin:
            text = text.partition("\n")[2] or text
        if text:
            parts.append(f"{stream}:\n{text}")
    return "\n".join(parts)
