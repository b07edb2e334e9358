"""Authentication: API keys, sessions of browsers, the login link of `jobfac up`, the rate limit of failed logins."""

import hashlib
import re
import secrets
import threading
import time
from collections import OrderedDict, deque
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from jobfac.api.problems import Problem
from jobfac.api.sessions import Session, Sessions
from jobfac.api.single_sign_on import PEER, SECRET, SingleSignOn
from jobfac.database.engine import Database
from jobfac.errors import Unreachable
from jobfac.store import api_keys, session_keys
from jobfac.store.api_keys import Caller, Role
from jobfac.telemetry.log_throttle import LogThrottle
from jobfac.telemetry.logs import logger

log = logger("jobfac.api")

RETRY_FOR = 3.0
"""Seconds for which a request is retried after a transient error of the database."""

MAX_FAILURES = 20
"""Failed logins with one key prefix within ``FAILURE_WINDOW``. Further wrong keys with this prefix get 429."""

FAILURE_WINDOW = 60.0
"""Seconds."""

MAX_LINES = 20
"""The maximum number of log lines on failed logins in a minute, of all key prefixes together."""

MAX_PREFIXES = 10_000
"""The maximum number of key prefixes whose failures are counted."""

LINK_LIFETIME = 3600.0
"""Seconds until a login link expires."""

SESSION_LIFETIME = 7 * 86400.0
"""Seconds until the session of a browser expires."""

PERSON_LIFETIME = 600.0
"""Seconds after which a stream of a person whom a proxy named ends. The client connects again; the proxy decides."""

NAMED = "jobfac.named"
"""Where a request's scope has the monotonic time at which a proxy named its person."""

LINK = "log in by link"
"""What the audit says of a key that a login link made."""

PREFIX_LENGTH = 12
"""Characters of a key's prefix."""


class SessionOver(Problem):
    """The browser sent a session that is no longer valid."""

    def __init__(self) -> None:
        super().__init__(401, "The session has ended, or its key was revoked: log in again.")


class FailedLogins:
    """Counts failed logins by key prefix within a sliding window. Thread-safe."""

    def __init__(self, limit: int = MAX_FAILURES, window: float = FAILURE_WINDOW) -> None:
        self._limit = limit
        self._window = window
        self._lock = threading.Lock()
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def note(self, prefix: str, now: float) -> None:
        """Count a failure at ``now`` (monotonic seconds)."""
        with self._lock:
            times = self._times.setdefault(prefix, deque(maxlen=self._limit))
            times.append(now)
            self._times.move_to_end(prefix)
            while len(self._times) > MAX_PREFIXES:
                self._times.popitem(last=False)

    def wait(self, prefix: str, now: float) -> float:
        """Return the seconds that a client with a wrong key of this prefix must wait; 0: none."""
        with self._lock:
            times = self._times.get(prefix)
            if times is None or len(times) < self._limit:
                return 0.0
            return max(0.0, times[0] + self._window - now)


class Authenticator:
    """Authenticates requests by key or session. Thread-safe. Login links are lost when the process ends."""

    def __init__(self, db: Database, single_sign_on: SingleSignOn | None = None) -> None:
        self._single_sign_on = single_sign_on
        self.failures = FailedLogins()
        self.sessions = Sessions(db)
        self._db = db
        self._lock = threading.Lock()
        self._links: dict[str, tuple[float, str]] = {}  # digest of the token -> monotonic time of expiry, who made it
        self._throttle = LogThrottle(most=MAX_LINES)

    def caller(self, request: Request) -> Caller:
        """Return the caller of a request. A valid key is accepted even after too many failures with its prefix.

        Raises:
            SessionOver: the browser's session is no longer valid.
            Problem: 401 without a valid key; 429 with a wrong key after too many failures with its prefix.
        """
        if sends_key(request.headers, self._person_header):
            return self.check(request, credentials(request.headers["authorization"])[1])
        person = self._single_sign_on.caller(request) if self._single_sign_on is not None else None
        if person is not None:
            request.scope.setdefault(NAMED, time.monotonic())
            return person
        if (cookie := request.cookies.get(cookie_name(request))) is None:
            raise _unauthorized(
                "Send a key: `Authorization: Bearer KEY`; `POST /v1/keys` with an admin's key makes one."
            )
        caller = self._of_session(cookie)
        if caller is None:
            raise SessionOver
        return caller

    @property
    def _person_header(self) -> str:
        """The header in which a proxy names a person; empty: none does."""
        return self._single_sign_on.header if self._single_sign_on is not None else ""

    def identity(self, request: Request) -> str:
        """Return what distinguishes the sender of a request from others before its key is checked.

        A request without a key or a session is a sender of its own: many of them must not keep out people who have not
        logged in yet. Nobody else can send what the sender of a valid key, of a session or of a proxy's header sends.
        """
        headers, sent = request.headers, []
        if sends_key(headers, self._person_header):
            sent = [*credentials(headers["authorization"])]
        elif self._person_header and self._person_header in headers:
            sent = [
                *headers.getlist(self._person_header),
                *headers.getlist(SECRET),
                (request.scope.get(PEER) or [""])[0],
            ]
        elif (cookie := request.cookies.get(cookie_name(request))) is not None:
            sent = [cookie]
        return f"login {_digest(repr(sent))[:32] if sent else secrets.token_hex(16)}"

    def accepts(self, request: Request) -> bool:
        """Whether the key or the session of a request is valid, or its proxy has named the person recently."""
        try:
            self.caller(request)
        except Problem:
            return False
        return NAMED not in request.scope or time.monotonic() - request.scope[NAMED] < PERSON_LIFETIME

    def check(self, request: Request, key: str) -> Caller:
        """Return the owner of a key that came with this request.

        Raises:
            Problem: 401 for a wrong key; 429 after too many failures with its prefix.
        """
        caller = self._db.query(api_keys.check, key, retry_for=RETRY_FOR)
        if caller is None:
            raise self._failed(request, prefix_of(key))
        return caller

    def _of_session(self, cookie: str) -> Caller | None:
        session = self.sessions.read(cookie)
        if session is None:
            return None
        return self._db.query(api_keys.of_session, session.key_id, session.id, retry_for=RETRY_FOR)

    def _failed(self, request: Request, prefix: str) -> Problem:
        now = time.monotonic()
        wait = self.failures.wait(prefix, now)
        if not wait:
            self.failures.note(prefix, now)
        if (left_out := self._throttle.due(("login_failed", prefix), now)) is not None:
            address = request.client.host if request.client else ""
            log.warning("a login failed", action="login_failed", address=address, key_prefix=prefix, left_out=left_out)
        if wait:
            seconds = int(wait) + 1
            which = f"with the prefix '{prefix}'" if prefix else "that do not have the form of a key"
            detail = f"Too many failed logins with keys {which}; wait {seconds} s, or send a valid key."
            return Problem(429, detail, {"Retry-After": str(seconds)})
        return _unauthorized("This key is unknown, revoked or expired; `GET /v1/keys` with an admin's shows all.")

    def new_link(self, name: str) -> str:
        """Create a token that logs one browser in as administrator ``name``, once, within ``LINK_LIFETIME`` seconds."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._links[_digest(token)] = time.monotonic() + LINK_LIFETIME, name
        return token

    def use_link(self, token: str) -> Caller | None:
        """Return whom the token of a link logs in. None: the link was used, has expired or is unknown.

        The link makes a key that is shown to nobody, so that `jobfac keys revoke` ends the session of a stolen link.
        """
        # A search by digest: its duration reveals nothing about the token.
        with self._lock:
            end, name = self._links.pop(_digest(token), (0.0, ""))
        if end <= time.monotonic():
            return None
        try:
            made = self._db.transact(
                api_keys.create, name, Role.ADMIN, name, None, SESSION_LIFETIME, what=LINK, retry_for=RETRY_FOR
            )
        except Unreachable:  # its page tries again; a key that was made all the same is shown to nobody
            with self._lock:
                self._links[_digest(token)] = end, name
            raise
        return Caller(name, Role.ADMIN, None, made.id)

    def open_session(self, request: Request, response: Response, caller: Caller, *, is_alone: bool = False) -> None:
        """Let the response log the browser in as ``caller``. ``is_alone``: the key was made for this session."""
        assert caller.key_id is not None
        session = Session(secrets.token_hex(16), caller.key_id, is_alone, time.time() + SESSION_LIFETIME)
        # Lax, not strict: a link to a page that a colleague sent must find the session.
        response.set_cookie(
            cookie_name(request),
            self.sessions.write(session),
            max_age=int(SESSION_LIFETIME),
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )

    def end_session(self, request: Request) -> None:
        """End the session of the browser, at every API process and wherever its cookie was copied to."""
        session = self.sessions.read(request.cookies.get(cookie_name(request), ""))
        caller = None if session is None else self._of_session(request.cookies[cookie_name(request)])
        if session is None or caller is None:
            return
        if session.is_alone:
            self._db.transact(api_keys.revoke, session.key_id, caller.name, retry_for=RETRY_FOR)
        else:
            left = session.expires - time.time()
            self._db.transact(session_keys.end, session.id, left, retry_for=RETRY_FOR)


def credentials(authorization: str) -> tuple[str, str]:
    """Return the scheme, in lower case, and the credentials of an Authorization header."""
    scheme, _, key = authorization.partition(" ")
    return scheme.lower(), key.strip()


def sends_key(headers: Headers, person: str) -> bool:
    """Whether the Authorization header of a request has a key. ``person``: the header in which a proxy names a person,
    empty: none does. Such proxies may add a token of their own, which is no key.
    """
    scheme, key = credentials(headers.get("authorization", ""))
    return scheme == "bearer" and (not person or person not in headers or prefix_of(key) != "")


def prefix_of(key: str) -> str:
    """Return the public part of a key, which identifies its row; empty if the text does not have the form of a key."""
    parts = key.split("_", 2)
    return parts[1] if len(parts) == 3 and parts[0] == "jf" and len(parts[1]) == PREFIX_LENGTH else ""


def cookie_name(request: Request) -> str:
    """Return the name of the session's cookie, which is the same at every API process behind one address.

    It contains the address that browsers use, or its port, because all ports of a host share cookies.
    """
    public = urlsplit(request.app.state.service.public_url).netloc
    port = re.search(r":([0-9]+)$", request.headers.get("host", ""))
    return f"jobfac-{re.sub('[^A-Za-z0-9.-]', '-', public) or (port[1] if port else 443)}"


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def _unauthorized(detail: str) -> Problem:
    return Problem(401, detail, {"WWW-Authenticate": 'Bearer realm="jobfac"'})
