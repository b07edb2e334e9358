"""Authentication: API keys, sessions of browsers, the login link of `jobfac up`, and the backoff of failed logins."""

import hashlib
import secrets
import threading
import time
from collections import OrderedDict, deque

from starlette.requests import Request
from starlette.responses import Response

from jobfac.api.problems import Problem
from jobfac.api.serving.seldom import Seldom
from jobfac.api.sessions import Session, Sessions
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
"""Seconds for which a browser stays logged in."""


class SessionOver(Problem):
    """The browser sent a session that is no longer valid."""

    def __init__(self) -> None:
        super().__init__(401, "The session has ended, or its key was revoked: log in again.")


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
    """Authenticates requests by key or session. Used by several threads; login links live in this process."""

    def __init__(self, db: Database) -> None:
        self.failures = FailedLogins()
        self.sessions = Sessions(db)
        self._db = db
        self._lock = threading.Lock()
        self._links: dict[str, tuple[float, str]] = {}  # digest of the token -> monotonic time of expiry, who made it
        self._seldom = Seldom()

    def caller(self, request: Request) -> Caller:
        """The caller of a request. A valid key is accepted however many wrong ones were sent before.

        Raises:
            SessionOver: the browser's session is no longer valid.
            Problem: 401 without a valid key, 429 for a wrong key after too many failures with its prefix.
        """
        scheme, key = credentials(request.headers.get("authorization", ""))
        if scheme == "bearer":
            return self.check(request, key)
        if (cookie := request.cookies.get(cookie_name(request))) is None:
            raise _unauthorized("Send a key: `Authorization: Bearer KEY`; `jobfac keys create` makes one.")
        caller = self._of_session(cookie)
        if caller is None:
            raise SessionOver
        return caller

    def check(self, request: Request, key: str) -> Caller:
        """The owner of a key that this request came with.

        Raises:
            Problem: 401 for a wrong key, 429 after too many failures with its prefix.
        """
        caller = self._db.query(api_keys.check, key, retry_for=RETRY_FOR)
        if caller is None:
            raise self._failed(request, prefix_of(key))
        return caller

    def _of_session(self, cookie: str) -> Caller | None:
        session = self.sessions.read(cookie)
        if session is None:
            return None
        if session.key_id is None:
            return Caller(session.name, session.role, session.categories)
        return self._db.query(api_keys.get, session.key_id, retry_for=RETRY_FOR)

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

    def new_link(self, name: str) -> str:
        """A token that logs one browser in as the administrator ``name``, once, within ``LINK`` seconds."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._links[_digest(token)] = time.monotonic() + LINK, name
        return token

    def use_link(self, token: str) -> Caller | None:
        """Who a link's token logs in; None: it was used, is expired, or was never made."""
        # Found by digest: the time that the search takes tells nothing about the token.
        with self._lock:
            end, name = self._links.pop(_digest(token), (0.0, ""))
        return Caller(name, Role.ADMIN) if end > time.monotonic() else None

    def open_session(self, request: Request, answer: Response, caller: Caller) -> None:
        """Let the answer log the browser in as ``caller``."""
        session = Session(caller.name, caller.role, caller.categories, caller.key_id, time.time() + SESSION)
        # Lax, not strict: a link to a page that a colleague sent must find the session.
        answer.set_cookie(
            cookie_name(request),
            self.sessions.write(session),
            max_age=int(SESSION),
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )


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
