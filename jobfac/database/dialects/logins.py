"""New connections to SQL Server: a limit for each, and pauses while the server refuses the login."""

import copy
import threading
import time
from typing import Any

import sqlalchemy as sa

from jobfac.database.dialects.answers import ANSWER, SERVER, is_transient, refusal
from jobfac.database.dialects.dead_network import give_up_when_dead, sockets
from jobfac.machine import threads

CONNECTING = ANSWER + 15.0
"""Timeout in seconds for a new connection. The drivers limit the login, but in the first connection of a process pyodbc
then asks what types the server has, and waits without a limit."""


def _connected(dialect: sa.Dialect, arguments: Any, named: Any) -> Any:
    def connect() -> Any:
        before = sockets()
        connection = dialect.connect(*arguments, **named)
        give_up_when_dead(before)
        return connection

    try:
        return threads.within(CONNECTING, connect, lambda late: late.close())
    except RuntimeError:  # the machine refuses threads
        return connect()
    except TimeoutError:
        why = "the server took the login and then answered nothing; timeout expired"
        raise dialect.loaded_dbapi.OperationalError("HYT00", why) from None


FIRST_PAUSE, LAST_PAUSE = 1.0, 60.0
"""The shortest and the longest pause in seconds before the next login after a refused one."""


def login_pause(refused_for: float) -> float:
    """Return the pause in seconds before the next login, when logins have been refused for so many seconds.

    A quarter of that: a failover that refuses logins for some seconds costs no worker its lease.
    """
    return min(max(FIRST_PAUSE, refused_for / 4), LAST_PAUSE)


class LoginPause:
    """Pauses between the logins of a process while the server refuses them: more of them would only lock the login out.

    A connection that is wanted meanwhile fails at once, with the same error. Connections that are open are not
    affected. ``_lock`` protects the other fields; times are monotonic seconds.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._error: Exception | None = None
        self._since = self._until = 0.0

    def install(self, engine: sa.Engine) -> None:
        """Make the engine's logins obey the pause."""
        sa.event.listen(engine, "do_connect", self._connect)

    def _connect(self, dialect: sa.Dialect, record: Any, arguments: Any, named: Any) -> Any:
        with self._lock:
            now = time.monotonic()
            if self._error is not None and now < self._until:
                raise copy.copy(self._error)  # not itself: each thread adds its traceback to what it raises
            if self._error is not None:
                self._until = now + login_pause(now - self._since)  # one thread tries again
        try:
            connection = _connected(dialect, arguments, named)
        except Exception as error:
            is_refused = not is_transient(error) and refusal(error) is not None
            self._tried(error if is_refused else None)
            if not is_refused and isinstance(error, dialect.loaded_dbapi.Error) and SERVER in str(error):
                vars(error)["at_login"] = True
            raise
        self._tried(None)
        return connection

    def _tried(self, error: Exception | None) -> None:
        """Record that a login was refused with this error; None: it was not refused."""
        with self._lock:
            now = time.monotonic()
            self._since = now if self._error is None else self._since
            self._until = now + login_pause(now - self._since)
            self._error = None if error is None else copy.copy(error)
