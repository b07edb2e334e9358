"""The notifier: delivers notifications in threads of its own, so that a slow receiver delays no other duty.

It sleeps until it is woken, works until nothing is due, and sleeps again. Each notification is leased before it is
sent, so any number of notifiers work side by side. If one is killed, its leases expire and another notifier sends the
same notifications, perhaps for the second time, with the same ids.
"""

import threading
import time

import sqlalchemy as sa

from jobfac import channels
from jobfac.channels import DeliveryError, Message
from jobfac.database.engine import Database
from jobfac.errors import Unreachable
from jobfac.settings import Settings
from jobfac.states import Delivery
from jobfac.store import outbox, output, runs
from jobfac.store.outbox import Taken
from jobfac.telemetry.logs import logger
from jobfac.telemetry.metrics import Metric
from jobfac.views.serialization import as_json

log = logger("jobfac.notifier")

AT_ONCE = 8
"""Notifications that are sent at the same time."""

BATCH = 50
"""Outbox events that are addressed in one transaction at most."""

LEASE = 120.0
"""Seconds for which a notification is leased: more than the channels' time limits."""

LEAVE = 3.0
"""Seconds that deliveries under way may still take when the notifier is closed."""

TAIL = 4096
"""Bytes of each stream's end that a message contains."""


class Notifier:
    """Delivers what is due whenever ``wake`` is called."""

    def __init__(self, db: Database, settings: Settings, scheduler: str) -> None:
        self._log = log.bind(scheduler=scheduler)
        self._counting = threading.Lock()
        self._tries = dict.fromkeys(("delivered", "failed", "dead"), 0)
        self._db = db
        self._settings = settings
        self._woken = threading.Event()
        self._leaving = threading.Event()
        self._free = threading.Semaphore(AT_ONCE)
        self._thread = threading.Thread(target=self._run, name="notifier")

    def start(self) -> None:
        """Start the thread, which waits until it is woken."""
        self._thread.start()

    def wake(self) -> None:
        """Say that there may be something to deliver."""
        self._woken.set()

    def metrics(self) -> list[Metric]:
        """Deliveries by result."""
        return [Metric("counter", "jobfac_scheduler_deliveries", "Notifications sent", dict(self._tries), "result")]

    def close(self) -> None:
        """Stop soon; another notifier sends again what is still under way then."""
        self._leaving.set()
        self._woken.set()
        self._thread.join()
        end = time.monotonic() + LEAVE
        for _ in range(AT_ONCE):
            self._free.acquire(timeout=max(0.0, end - time.monotonic()))

    def _run(self) -> None:
        while not self._leaving.is_set():
            self._woken.wait()
            self._woken.clear()
            try:
                self._work()
            except Unreachable as error:  # the scheduler polls again and wakes this thread again
                self._log.warning("cannot deliver", action="delivery_failed", reason=str(error))
            except Exception:
                self._log.exception("cannot deliver", action="delivery_failed")

    def _work(self) -> None:
        """Address all outbox events and start the delivery of all notifications that are due."""
        more = True
        while more and not self._leaving.is_set():
            more = self._db.transact(address_some, retry_for=2.0) == BATCH
            number = self._hands()
            taken: list[Taken] = []
            try:
                if number:
                    taken = self._db.transact(outbox.take, number, LEASE, retry_for=2.0)
            finally:
                for _ in range(number - len(taken)):
                    self._free.release()
            for one in taken:
                # A daemon: a delivery that hangs does not keep the process alive.
                threading.Thread(target=self._carry, args=(one,), name=f"notification {one.id}", daemon=True).start()
            more = more or bool(taken)

    def _hands(self) -> int:
        """Wait until at least one more can be sent; how many can, 0 when the notifier closes."""
        while not self._free.acquire(timeout=0.2):
            if self._leaving.is_set():
                return 0
        number = 1
        while number < AT_ONCE and self._free.acquire(blocking=False):
            number += 1
        return number

    def _carry(self, taken: Taken) -> None:
        """Send one and record the result."""
        told = self._log.bind(
            notification=taken.id, run=taken.run_id, attempt=taken.body.get("attempt"), job=taken.body.get("job"),
            worker=taken.body.get("worker"), told=taken.event, to=channels.shown(taken.recipient),
        )  # fmt: skip
        try:
            error = self._send(taken)
            if error is None:
                self._db.transact(outbox.delivered, taken)
                self._count("delivered")
                told.info("delivered", action="delivered")
            else:
                became = self._db.transact(outbox.failed, taken, error)
                self._count("dead" if became == Delivery.DEAD else "failed")
                say = told.error if became == Delivery.DEAD else told.warning
                say("not delivered", action="not_delivered", became=became, tries=taken.tries, reason=error)
        except Unreachable as error:  # it is sent again when its lease expires
            told.warning("delivery not noted", action="delivery_failed", reason=str(error))
        finally:
            self._free.release()

    def _count(self, result: str) -> None:
        with self._counting:
            self._tries[result] += 1

    def _send(self, taken: Taken) -> str | None:
        """The reason why it did not arrive; None if it arrived."""
        try:
            message = Message(taken.dedupe, taken.event, taken.body, self._tail(taken))
            channels.deliver(message, taken.recipient, self._settings)
        except DeliveryError as error:
            return str(error)
        except Unreachable:
            raise
        except Exception as error:  # the text of an unknown error may hold a secret
            return f"it could not be sent ({type(error).__name__})"
        return None

    def _tail(self, taken: Taken) -> str:
        """The end of the output, for channels that show it."""
        if not channels.takes_output(taken.recipient) or taken.run_id is None or not taken.body.get("attempt"):
            return ""
        return self._db.query(tail, taken.run_id, taken.body["attempt"])


def address_some(conn: sa.Connection) -> int:
    """Address some outbox events; how many there were."""
    items = outbox.unaddressed(conn, BATCH)
    without_body = [item.run_id for item in items if item.body is None and item.run_id is not None]
    bodies = {run_id: as_json(run) for run_id, run in runs.snapshots(conn, without_body).items()}
    for problem in outbox.address(conn, items, bodies):
        log.warning("nobody was told", action="not_addressed", reason=problem)
    return len(items)


def tail(conn: sa.Connection, run_id: int, attempt: int) -> str:
    """The end of an execution's output, stream by stream, each from the beginning of a line."""
    parts = []
    for stream in output.STREAMS:
        begin = max(0, output.end_of(conn, run_id, attempt, stream) - TAIL)
        positions, data = {stream: begin}, b""
        while pieces := output.read(conn, run_id, attempt, positions):
            data += b"".join(piece.data for piece in pieces)
        text = data.decode("utf-8", "replace")
        if begin:
            text = text.partition("\n")[2] or text
        if text:
            parts.append(f"{stream}:\n{text}")
    return "\n".join(parts)
