"""Authentication: API keys, the login link of `jobfac up`, and the backoff of failed logins."""

import hashlib
import secrets
import threading
import time
from collections import OrderedDict, deque

from starlette.requests import Request

from jobfac.api.problems import Problem
from jobfac.api.serving.seldom import Seldom
from jobfac.database.engine import Database
from jobfac.store import api_keys
from jobfac.store.api_keys import Caller, Role
from jobfac.telemetry.logs import logger

log = logger("jobfac.api")

RETRY_FOR = 3.0
"""Seconds for which a request tries again when the database has a transient error."""

FAILURES = 20
"""Failed logins with one key prefix within ``WINDOW`` after which its wrong keys are answered with 429."""

WINDOW = 60.0
"""Seconds."""

PREFIXES = 10_000
"""Key prefixes remembered at most."""

LINK = 3600.0
"""Seconds for which a login link may be used."""

SESSION = 7 * 86400.0
"""Seconds for which a browser stays logged in after it opened the link."""


class FailedLogins:
    """Counts failed logins by key prefix, within a sliding window. Used by several threads."""

    def __init__(self, limit: int = FAILURES, window: float = WINDOW) -> None:
        self._limit = limit
        self._window = window
        self._lock = threading.Lock()
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def note(self, prefix: str, now: float) -> None:
        """Count one more failure at ``now`` (monotonic seconds)."""
        with self._lock:
            times = self._times.setdefault(prefix, deque(maxlen=self._limit))
            times.append(now)
            self._times.move_to_end(prefix)
            while len(self._times) > PREFIXES:
                self._times.popitem(last=False)

    def wait(self, prefix: str, now: float) -> float:
        """Seconds that a client with a wrong key of this prefix has to wait; 0: none."""
        with self._lock:
            times = self._times.get(prefix)
            if times is None or len(times) < self._limit:
                return 0.0
            return max(0.0, times[0] + self._window - now)


class Gate:
    """Authenticates requests by key or session. Used by several threads; links and sessions live in this process."""

    def __init__(self, db: Database) -> None:
        self.failures = FailedLogins()
        self._db = db
        self._lock = threading.Lock()
        self._links: dict[str, float] = {}  # digest of the token -> monotonic time of expiry
        self._sessions: dict[str, float] = {}
        self._seldom = Seldom()

    def caller(self, request: Request) -> Caller:
        """The caller of a request. A valid key is accepted however many wrong ones were sent before.

        Raises:
            Problem: 401 without a valid key, 429 for a wrong key after too many failures with its prefix.
        """
        scheme, key = credentials(request.headers.get("authorization", ""))
        if scheme != "bearer":
            if self.has_session(request):
                return Caller("link", Role.ADMIN)
            raise _unauthorized("Send a key: `Authorization: Bearer KEY`; `jobfac keys create` makes one.")
        caller = self._db.query(api_keys.check, key, retry_for=RETRY_FOR)
        if caller is None:
            raise self._failed(request, prefix_of(key))
        return caller

    def _failed(self, request: Request, prefix: str) -> Problem:
        now = time.monotonic()
        wait = self.failures.wait(prefix, now)
        if not wait:
            self.failures.note(prefix, now)
        if (left_out := self._seldom.due(("login_failed", prefix), now)) is not None:
            address = request.client.host if request.client else ""
            log.warning("a login failed", action="login_failed", address=address, key_prefix=prefix, left_out=left_out)
        if wait:
            seconds = int(wait) + 1
            shown = f"with the prefix '{prefix}'" if prefix else "that have not the form of a key"
            detail = f"Too many failed logins with keys {shown}; wait {seconds} s, or send a valid key."
            return Problem(429, detail, {"Retry-After": str(seconds)})
        return _unauthorized("This key is unknown, revoked or expired; `jobfac keys list` shows the keys.")

    def new_link(self) -> str:
        """A token that logs one browser in, once, within ``LINK`` seconds."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._links[_digest(token)] = time.monotonic() + LINK
        return token

    def open_session(self, token: str) -> str | None:
        """Exchange a link's token for a session's; None: it was used, is expired, or was never made."""
        now = time.monotonic()
        with self._lock:
            if self._links.pop(_digest(token), 0.0) <= now:
                return None
            session = secrets.token_urlsafe(32)
            self._sessions = {key: end for key, end in self._sessions.items() if end > now}
            self._sessions[_digest(session)] = now + SESSION
        return session

    def has_session(self, request: Request) -> bool:
        """Whether the browser was logged in by a link before."""
        # Found by digest: the time that the search takes tells nothing about the token.
        session = request.cookies.get(cookie_name(request))
        return session is not None and self._sessions.get(_digest(session), 0.0) > time.monotonic()


def credentials(authorization: str) -> tuple[str, str]:
    """The scheme, in lower case, and the credentials of an Authorization header."""
    scheme, _, key = authorization.partition(" ")
    return scheme.lower(), key.strip()


def prefix_of(key: str) -> str:
    """The part of a key that names its row; empty for what has not the form of a key."""
    parts = key.split("_", 2)
    return parts[1] if len(parts) == 3 and parts[0] == "jf" and len(parts[1]) == PREFIX_LENGTH else ""


PREFIX_LENGTH = 12
"""Characters of a key's prefix."""


def cookie_name(request: Request) -> str:
    """The session's cookie; browsers share the cookies of all ports of a host, so the name has the port."""
    return f"jobfac-{(request.scope.get('server') or ('', 0))[1]}"


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def _unauthorized(detail: str) -> Problem:
    return Problem(401, detail, {"WWW-Authenticate": 'Bearer realm="jobfac"'})
