"""Who asks: keys, the one-time link of a person at the machine, and the limit on failed logins."""

import hashlib
import secrets
import time
from collections import OrderedDict, deque

from starlette.requests import Request

from jobfac.api.problems import Problem
from jobfac.database.engine import Database
from jobfac.store import api_keys
from jobfac.store.api_keys import Caller, Role

PATIENCE = 3.0
"""Seconds for which a request tries again when the database has a transient error."""

FAILURES = 20
"""Failed logins of one address within ``WINDOW`` after which it has to wait."""

WINDOW = 60.0
"""Seconds."""

ADDRESSES = 10_000
"""Addresses remembered at most."""

SESSION = 7 * 86400.0
"""Seconds that a browser which opened the link stays logged in."""


class FailedLogins:
    """Counts them by address, within a sliding window."""

    def __init__(self, limit: int = FAILURES, window: float = WINDOW) -> None:
        self._limit = limit
        self._window = window
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def note(self, address: str, now: float) -> None:
        """One more, at ``now`` (monotonic)."""
        times = self._times.setdefault(address, deque(maxlen=self._limit))
        times.append(now)
        self._times.move_to_end(address)
        while len(self._times) > ADDRESSES:
            self._times.popitem(last=False)

    def wait(self, address: str, now: float) -> float:
        """Seconds this address has to wait; 0: none."""
        times = self._times.get(address)
        if times is None or len(times) < self._limit:
            return 0.0
        return max(0.0, times[0] + self._window - now)


class Gate:
    """Tells callers from their keys or their sessions. Used by several threads; sessions live in this process alone."""

    def __init__(self, db: Database) -> None:
        self.failures = FailedLogins()
        self._db = db
        self._links: set[str] = set()
        self._sessions: dict[str, float] = {}

    def caller(self, request: Request) -> Caller:
        """Who asks.

        Raises:
            Problem: 401 without a valid key, 429 after too many failures.
        """
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            if self.has_session(request):
                return Caller("link", Role.ADMIN)
            raise _unauthorized("Send a key: `Authorization: Bearer KEY`; `jobfac keys create` makes one.")
        address = request.client.host if request.client else ""
        if wait := self.failures.wait(address, time.monotonic()):
            seconds = int(wait) + 1
            detail = f"Too many failed logins from {address}; wait {seconds} s."
            raise Problem(429, detail, {"Retry-After": str(seconds)})
        caller = self._db.query(api_keys.check, key.strip(), retry_for=PATIENCE)
        if caller is None:
            self.failures.note(address, time.monotonic())
            raise _unauthorized("This key is unknown, revoked or expired; `jobfac keys list` shows the api_keys.")
        return caller

    def new_link(self) -> str:
        """A token that logs one browser in, once."""
        token = secrets.token_urlsafe(32)
        self._links.add(_digest(token))
        return token

    def open_session(self, token: str) -> str | None:
        """Exchange a link's token for a session's; None: it was used before, or never made."""
        try:
            self._links.remove(_digest(token))
        except KeyError:
            return None
        session = secrets.token_urlsafe(32)
        self._sessions[_digest(session)] = time.monotonic() + SESSION
        return session

    def has_session(self, request: Request) -> bool:
        """Whether the browser was logged in by a link before."""
        # Found by digest: how long the search takes tells nothing about the token.
        session = request.cookies.get(cookie_name(request))
        return session is not None and self._sessions.get(_digest(session), 0.0) > time.monotonic()


def cookie_name(request: Request) -> str:
    """The session's cookie; browsers do not keep the ports of one host apart, so the name does."""
    return f"jobfac-{(request.scope.get('server') or ('', 0))[1]}"


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _unauthorized(detail: str) -> Problem:
    return Problem(401, detail, {"WWW-Authenticate": 'Bearer realm="jobfac"'})
