"""Asks the addresses for which steps of sequences wait, in separate threads: a slow one delays no duty.

Each request follows the rule for outgoing connections that channels follow. If a scheduler dies with a request, the
address is asked again when its interval is over.
"""

import threading
import time
from collections.abc import Iterable

from jobfac.channels import DeliveryError, webhook
from jobfac.database.engine import Database
from jobfac.definitions import Secret
from jobfac.errors import Unreachable
from jobfac.machine import threads
from jobfac.secret_references import SecretError
from jobfac.settings import Settings
from jobfac.store import sequences
from jobfac.store.sequences import WaitingVisit
from jobfac.telemetry.logs import logger

log = logger("jobfac.asker")

AT_A_TIME = 16
"""The maximum number of requests at the same time."""

SHARE = 4
"""The maximum number of those to one host: for one that hangs many sequences may wait, and others for other hosts."""

LOCKED_FOR = 60.0
"""Seconds for which an answer is kept that cannot be stored because another transaction holds a lock."""

TRIED_AGAIN = 1.0
"""Seconds until it is tried again."""

SLOW = 2.0
"""Seconds after which an answer was slow. The host then gets one request at a time, until it answers faster."""


class Asker:
    """Asks addresses, each once at a time, so that a slow one takes one thread only.

    ``_asked``: the hosts that are being asked, by the ids of the visits. ``_later``: by host, the visits that wait for
    its share. ``_slow``: hosts whose last answer was slow. All are written under ``_lock`` by the threads that ask and
    the one that calls ``ask``.
    """

    def __init__(self, db: Database, settings: Settings, scheduler: str) -> None:
        self._db = db
        self._settings = settings
        self._scheduler = scheduler
        self._log = log.bind(scheduler=scheduler)
        self._lock = threading.Lock()
        self._asked: dict[int, str] = {}
        self._later: dict[str, dict[int, WaitingVisit]] = {}
        self._slow: set[str] = set()

    @property
    def free(self) -> int:
        """How many more addresses it may ask now."""
        with self._lock:
            return AT_A_TIME - len(self._asked)

    def ask(self, waiting: Iterable[WaitingVisit]) -> None:
        """Ask the addresses of these visits, at most ``free``, unless the last request is still under way.

        One whose host has its share of requests is asked after those. Left to its next interval, it might never be
        asked, because the others have the same interval.
        """
        for one in waiting:
            host = _host(one)
            with self._lock:
                if one.id in self._asked:
                    continue
                if self._is_full(host):
                    self._later.setdefault(host, {}).setdefault(one.id, one)
                    continue
                self._asked[one.id] = host
            try:
                # A daemon thread, so that a request that hangs does not keep the process alive.
                threads.begin(self._run, one)
            except RuntimeError as error:  # no more threads: the address is asked again after its interval
                with self._lock:
                    del self._asked[one.id]
                self._log.warning("address not asked", action="ask_failed", run=one.run_id, reason=str(error))

    def _is_full(self, host: str) -> bool:
        hosts = list(self._asked.values())
        return len(hosts) >= AT_A_TIME or hosts.count(host) >= (1 if host in self._slow else SHARE)

    def _run(self, waiting: WaitingVisit) -> None:
        """Ask an address, and then those that have waited for its host."""
        one: WaitingVisit | None = waiting
        while one is not None:
            self._ask(one)
            one = self._next(_host(one))

    def _next(self, host: str) -> WaitingVisit | None:
        with self._lock:
            later = self._later.get(host, {})
            if not later or self._is_full(host):
                return None
            one = later.pop(next(iter(later)))
            if not later:
                del self._later[host]
            self._asked[one.id] = host
            return one

    def _ask(self, waiting: WaitingVisit) -> None:
        began = time.monotonic()
        try:
            why = self._answer(waiting)
            with self._lock:
                (self._slow.add if time.monotonic() - began > SLOW else self._slow.discard)(_host(waiting))
            if why is not None:
                self._db.transact(sequences.note, waiting, why)
            elif self._found(waiting):
                self._log.info("address answered", action="address_answered", run=waiting.run_id, step=waiting.step)
        except Unreachable as error:
            self._log.outage("answer not stored, retrying", action="ask_failed", reason=str(error))
        except Exception:  # the address is asked again after its interval
            self._log.exception("address not asked", action="ask_failed", run=waiting.run_id, step=waiting.step)
        finally:
            with self._lock:
                del self._asked[waiting.id]

    def _found(self, waiting: WaitingVisit) -> bool:
        """Let the sequence go on; returns False if it does not wait any more.

        Waits here for a lock that is held, because the address might be asked again only after the step's time is over.
        """
        end = time.monotonic() + LOCKED_FOR
        while (done := self._db.transact(sequences.found, waiting, "it has answered", self._scheduler)) is None:
            if time.monotonic() >= end:
                return False
            time.sleep(TRIED_AGAIN)
        return done

    def _answer(self, waiting: WaitingVisit) -> str | None:
        """Ask the address. Returns why it does not count as an answer, or None."""
        wanted = waiting.wanted["http"]
        try:
            webhook.ask(wanted if isinstance(wanted, str) else Secret(secret=wanted["secret"]), self._settings)
        except (DeliveryError, SecretError) as error:
            return str(error)
        return None


def _host(waiting: WaitingVisit) -> str:
    """Return the host of an address, or the reference to the secret that holds the address."""
    wanted = waiting.wanted.get("http")
    return "/".join(wanted.split("/")[:3]) if isinstance(wanted, str) else str(wanted)
