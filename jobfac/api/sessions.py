"""Sessions of browsers: a signed cookie that names the key that opened it, and until when it is valid."""

import base64
import binascii
import hashlib
import hmac
import json
import threading
import time
from contextlib import suppress
from typing import NamedTuple

from sqlalchemy.exc import DBAPIError

from jobfac.database.engine import Database
from jobfac.store import session_keys

RETRY_FOR = 3.0
"""Seconds for which the signing key is read again after a transient error."""

LONGEST = 4096
"""Characters of a signed text at most."""


class Session(NamedTuple):
    """What a session's cookie says.

    Attributes:
        id: random.
        key_id: the API key that opened it, which must still be valid.
        is_alone: the key was made for this session alone, by a login link, and ends with it.
        expires: seconds since 1970.
    """

    id: str
    key_id: int
    is_alone: bool
    expires: float


PURPOSE = "session 2"
"""The number changes with the fields, so that a cookie of an earlier version asks for a login."""


class Sessions:
    """Signs and checks. The signing key is read from the database once. Used by several threads."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._key: bytes | None = None
        self._lock = threading.Lock()

    def write(self, session: Session) -> str:
        """Return the cookie's value."""
        return self.sign(PURPOSE, json.dumps(session))

    def read(self, text: str) -> Session | None:
        """Return the session of a cookie's value, None: the value is forged, or the session is over."""
        found = self.verify(PURPOSE, text)
        session = None if found is None else Session(*json.loads(found))
        return session if session is not None and session.expires > time.time() else None

    def sign(self, purpose: str, text: str) -> str:
        """Return the text with a signature; a text that is signed for one purpose is valid for no other."""
        body = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
        return f"{body}.{self._signature(purpose, body)}"

    def verify(self, purpose: str, text: str) -> str | None:
        """Return the text that ``sign`` was given, None: the signature does not match."""
        body, _, signature = text.partition(".")
        if len(text) > LONGEST or not text.isascii():
            return None
        if not hmac.compare_digest(self._signature(purpose, body), signature):
            return None
        try:
            return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None

    def _signature(self, purpose: str, body: str) -> str:
        return hmac.new(self._signing_key(), f"{purpose}.{body}".encode(), hashlib.sha256).hexdigest()

    def _signing_key(self) -> bytes:
        with self._lock:
            if self._key is None:
                self._key = bytes.fromhex(self._read_or_create())
            return self._key

    def _read_or_create(self) -> str:
        found = self._db.query(session_keys.current, retry_for=RETRY_FOR)
        if found is None:
            with suppress(DBAPIError):  # another API process was faster; then its key is there now
                self._db.transact(session_keys.create, retry_for=RETRY_FOR)
            found = self._db.query(session_keys.current, retry_for=RETRY_FOR)
        assert found is not None
        return found
