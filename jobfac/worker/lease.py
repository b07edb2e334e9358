"""A worker's lease: the heartbeat that renews it, and the trust in it, which ends before the lease does."""

import threading
from collections.abc import Callable

import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.errors import Unreachable
from jobfac.programs import Guardian
from jobfac.programs.guardian import clock
from jobfac.settings import Settings
from jobfac.store import workers
from jobfac.store.workers import Beat, LeaseLost, MachineLoad, Registration
from jobfac.store.workers.leases import UNKNOWN_LOAD
from jobfac.telemetry.logs import logger
from jobfac.telemetry.metrics import Metric
from jobfac.worker.load import coarse, is_worth_storing, measure

log = logger("jobfac.lease")

RETRY_INTERVAL = 0.5
"""Seconds until the next heartbeat after a failed one, and while a worker's expired lease is not handled yet."""


def lock_wait(settings: Settings) -> float:
    """Seconds that a statement of a worker waits for a lock: a quarter of the time for which its lease is trusted.

    After it the transaction is rolled back, so a worker that waits for a DBA holds up nobody else for longer.
    """
    return max(1.0, (settings.lease - settings.lease_margin) / 4)


def trusted_until(known: float, sent: float, promise: float | None, margin: float) -> float:
    """Until when a lease is trusted, by all that is known. Pure; times are of one clock, in seconds.

    Args:
        known: until when it was trusted before.
        sent: when a request was sent that was answered with a promise.
        promise: for so long after the request nobody can end the lease: the whole lease after a renewal; on SQLite the
            notice that an expiry has to give, if reading showed that there is none. None: no promise.
        margin: seconds before the end of the promise at which the worker begins to end its programs.
    """
    return known if promise is None else max(known, sent + promise - margin)


def register(
    db: Database, who: Registration, settings: Settings, first: Callable[[sa.Connection], None]
) -> tuple[int, float]:
    """Call ``first`` and register, in one transaction. Returns the worker's id, and when its lease began, on ``clock``.

    If only the answer to the commit is lost, the worker has one registration nevertheless. A second one would end as
    dead, and until then the fleet would leave runs to it.

    Raises:
        Unreachable: the database is unreachable.
    """
    known = (0, 0.0)

    def work(conn: sa.Connection) -> tuple[int, float]:
        nonlocal known
        if known[0] and workers.is_registered(conn, known[0], who.token):
            return known
        first(conn)
        sent = clock()
        known = workers.register(conn, who, settings.lease, notice=settings.lease / 2), sent
        return known

    return db.transact(work, retry_for=5.0)


class Lease:
    """Renews one worker's lease, in its own thread and on its own connection.

    The heartbeat is one UPDATE of the worker's row in ``worker_lease``, which no turn locks (see ``store.workers``).
    The worker gets all other information (stops, queues, number of its runs) with its polls for work, so a delay or a
    failure of a poll does not affect the lease.

    The worker trusts its lease until the *send* time of the last successful request, plus the lease, minus a margin.
    The clock is this machine's time since boot, which includes suspension. The database cannot have counted from an
    earlier moment. When trust ends, a second thread calls ``on_lost`` at once, because the first may wait for a
    database that does not answer. The argument of ``on_lost`` says until when, on ``clock``, it is certain that the
    guardian has not killed anything.

    On SQLite another process may hold the write lock for longer than a lease. Then a read shows that nobody can end the
    lease (see ``database.dialects.lease_notice``), and prolongs the trust.
    """

    def __init__(
        self,
        db: Database,
        who: Registration,
        settings: Settings,
        guardian: Guardian,
        on_beat: Callable[[Beat, MachineLoad], None],
        on_lost: Callable[[float], None],
        loop_age: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """``loop_age``: seconds since the last turn of the worker's loop. No renewal if it exceeds half a lease."""
        self.worker_id = 0
        self.lost = False
        self._db = db
        self._who = who
        self._settings = settings
        self._guardian = guardian
        self._on_beat = on_beat
        self._on_lost = on_lost
        self._loop_age = loop_age
        self._trusted_until = 0.0
        self._stored = (0, UNKNOWN_LOAD)  # by which registration, and what; written by the heartbeat's thread
        self._stalled = False  # written by the heartbeat's thread
        self._leaving = False  # written by the loop
        # One thread at a time kills programs. A second one could not tell which programs ended by themselves.
        self._losing = threading.Lock()
        self._log = log.bind(worker=who.name)
        self._ended = threading.Event()
        self._beat_now = threading.Event()
        self._threads = [
            threading.Thread(target=self._beat_forever, name="heartbeat", daemon=True),
            threading.Thread(target=self._watch, name="trust", daemon=True),
        ]

    @property
    def window(self) -> float:
        """Seconds that a renewal is trusted, counted from the moment it was sent."""
        return self._settings.lease - self._settings.lease_margin

    def is_trusted(self) -> bool:
        """Whether the lease is certainly valid now."""
        return not self.lost and clock() < self._trusted_until

    def metrics(self) -> list[Metric]:
        """Return the age of the last heartbeat, and the time for which the lease is still trusted."""
        left = self._trusted_until - clock()
        age = self.window - left
        return [
            Metric("gauge", "jobfac_worker_heartbeat_age_seconds", "Time since the last heartbeat", age),
            Metric("gauge", "jobfac_worker_lease_left_seconds", "Time until the worker kills its programs", left),
        ]

    def adopt(self, worker_id: int, sent: float) -> None:
        """Use a new registration. ``sent``: when its request was sent, on ``clock``."""
        self.worker_id = worker_id
        self._trusted_until = trusted_until(0.0, sent, self._settings.lease, self._settings.lease_margin)
        self._guardian.renewed(self._trusted_until + self._advance - clock())
        self.lost = False
        if clock() - sent > self._settings.heartbeat / 2:  # a slow database: little may be left of the trust
            self._beat_now.set()

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def leave(self) -> None:
        """The worker deregisters and has no programs, so an end of its lease from now on is no loss."""
        with self._losing:
            self._leaving = True

    def close(self) -> None:
        """Stop the heartbeat. Called last when a worker deregisters."""
        self._ended.set()
        self._beat_now.set()
        for thread in self._threads:
            thread.join(timeout=5.0)

    @property
    def _advance(self) -> float:
        """Seconds that a live worker acts before its guardian, to detect which programs ended by themselves."""
        return self._settings.lease_margin / 4

    def _trust(self, sent: float, promise: float | None) -> None:
        """Prolong the trust and tell the guardian, unless it is too late for that. The caller holds ``_losing``.

        A worker that was frozen, alone or with its machine, may find its lease still valid. But its guardian has killed
        its programs, or is about to. Which of them ended by themselves is unknown then, so the trust is over.
        """
        killing = self._trusted_until + self._advance
        until = trusted_until(self._trusted_until, sent, promise, self._settings.lease_margin)
        if clock() < killing:
            self._guardian.renewed(until + self._advance - clock())
            if clock() < killing:  # the guardian reads it before it acts
                self._trusted_until = until

    def _beat_forever(self) -> None:
        pause = self._settings.heartbeat
        while True:
            self._beat_now.wait(pause)
            self._beat_now.clear()
            if self._ended.is_set():
                return
            pause = self._settings.heartbeat
            if not self.lost and self._is_stalled():
                pause = RETRY_INTERVAL
            elif not self.lost:
                # Another worker's lease may expire before the next heartbeat. Then renew at that time, to detect it.
                expiry = self._beat()
                pause = min(pause, RETRY_INTERVAL if expiry is None else max(RETRY_INTERVAL, expiry + 0.02))

    def _is_stalled(self) -> bool:
        """Whether the worker's loop no longer turns. Then timeouts and stops have no effect, so the lease must end."""
        age = self._loop_age()
        stalled = age > self._settings.lease / 2
        if stalled and not self._stalled:
            self._log.error(
                "the worker's loop is stuck; its lease is no longer renewed and its runs will go to other workers",
                action="loop_stalled", seconds=round(age, 1),
            )  # fmt: skip
        self._stalled = stalled
        return stalled

    def _beat(self) -> float | None:
        """Renew the lease; returns the seconds until the first lease in the fleet expires. None: the renewal failed."""
        worker_id, sent = self.worker_id, clock()
        try:
            # The time limit leaves enough time to renew the lease on another connection before trust ends.
            load = measure()
            stored = self._stored[1] if self._stored[0] == worker_id else UNKNOWN_LOAD
            is_new = is_worth_storing(stored, load)
            news = coarse(load) if is_new else UNKNOWN_LOAD
            beat = self._db.single(workers.renew, worker_id, self._settings.lease, news, within=self.window / 4)
        except LeaseLost as error:
            self.lose(worker_id, str(error))
            return None
        except Unreachable as error:
            self._log.outage("heartbeat failed", action="heartbeat_failed", reason=str(error))
            return None
        except Exception:  # the next heartbeat may succeed while the lease is still valid
            self._log.exception("heartbeat failed", action="heartbeat_failed")
            return None
        with self._losing:
            if worker_id != self.worker_id or self.lost:
                return beat.expiry
            self._trust(sent, self._settings.lease)
        self._on_beat(beat, load)
        if is_new:
            self._stored = (worker_id, load)
        return beat.expiry

    def _watch(self) -> None:
        while not self._ended.wait(self._until_distrust()):
            self.check()

    def _read_promise(self) -> None:
        """Read whether an expiry has given notice, while the heartbeat waits for SQLite's lock or fails.

        If it has not, nobody can end the lease as long as a notice lasts, and the worker need not end its programs.
        """
        worker_id, sent = self.worker_id, clock()
        if not self._db.dialect.gives_notice or self._stalled:
            return
        try:
            promise = self._db.query(workers.promised, worker_id, retry_for=0)
        except Exception as error:  # then trust ends as it would have
            self._log.debug("cannot read the lease", action="lease_not_read", reason=str(error))
            return
        if promise is not None and worker_id == self.worker_id:
            self._trust(sent, promise)

    def lose(self, worker_id: int, reason: str) -> None:
        """The database says that this registration has no lease. Ensures that ``on_lost`` has been called, once."""
        with self._losing:
            if worker_id == self.worker_id and not self.lost and not self._leaving:
                self._log.warning("lease lost", action="lease_lost", reason=reason)
                self._lose()

    def check(self) -> None:
        """If trust has ended, ensure that ``on_lost`` has been called when this method returns."""
        with self._losing:
            if self._leaving:
                return
            if not self.lost and self._trusted_until - clock() < self._advance:
                self._read_promise()
            if not self.lost and not self.is_trusted():
                self._log.error("lease not renewed in time", action="self_fence", window=self.window)
                self._lose()

    def _until_distrust(self) -> float:
        left = self._trusted_until - clock()
        if self.lost or self._leaving:
            return 0.25
        # Before its end there is time to read, which a renewal meanwhile makes unnecessary.
        return min(left - self._advance, 1.0) if left > self._advance else min(max(left, 0.0) + 0.005, 0.1)

    def _lose(self) -> None:
        self.lost = True
        try:
            self._on_lost(self._trusted_until + self._advance / 2)
        except Exception:  # the loop does it again; without this thread, no later lease would be renewed or watched
            self._log.exception("cannot end the programs, retrying", action="kill_failed")
