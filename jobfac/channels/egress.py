"""The rule for outgoing connections of all channels, enforced where a socket connects.

A library resolves names again and follows redirects, so a check before the call is not enough. The rule is therefore
an audit hook of the interpreter. The hook sees the address of each connection, from any library, before it is made.

The rule also limits the time of a delivery. The timeouts of the libraries are for each read, so a server that sends a
byte now and then would occupy a thread for as long as it likes. So would one that asks for a pause.
"""

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jobfac.channels import addresses
from jobfac.channels.message import DeliveryError
from jobfac.machine.threads import begin
from jobfac.settings import Settings

SENDING = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})

ESCAPES = frozenset(
    {
        "subprocess.Popen",
        "os.system",
        "os.exec",
        "os.posix_spawn",
        "os.fork",
        "os.forkpty",
        "_thread.start_new_thread",
        "_thread.start_joinable_thread",
    }
)
"""Events that start work outside this thread, where the rule does not apply. Python reports new threads from 3.12 on.
The default ``apprise_schemes`` contain no service that starts threads."""

EVENTS = SENDING | ESCAPES

SECONDS = 60.0
"""The maximum duration of a delivery, from its first connection on: half of the lease of a notification."""


class AddressRefused(OSError):
    """The rule does not allow this connection, program or thread, or no longer answer."""


class Rule:
    """The addresses that one delivery may connect to, and for how long. Used by one thread, except ``cut``.

    ``why`` is the reason of the first refusal, or None.
    """

    def __init__(self, allow_local: bool, allow_private: bool) -> None:
        self.allow_local = allow_local
        self.allow_private = allow_private
        self.why: str | None = None
        self.too_late = f"it took longer than {SECONDS:g} s"
        self._end = time.monotonic() + SECONDS
        self._lock = threading.Lock()
        self._is_cut = False
        self._connections: list[socket.socket] = []  # copies: TLS takes the descriptor away from the original

    def check(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Raise ``AddressRefused`` for a connection to a refused address, and for programs and threads."""
        why = "the channel would start a program or a thread, which is not allowed"
        if event in SENDING:
            place = arguments[1]
            if place is None:  # the socket is already connected
                return
            host = place[0] if isinstance(place, tuple) and place and isinstance(place[0], str) else str(place)
            refused = addresses.refusal(host, self.allow_local, self.allow_private)
            if refused is None:
                if event == "socket.connect":
                    self._keep(arguments[0])
                return
            why = f"it leads to {host}, {refused}"
        raise self.refused(why)

    def refused(self, why: str) -> "AddressRefused":
        """Return the error that ends the delivery, and remember the first one's reason."""
        self.why = self.why or why
        return AddressRefused(why)

    def pause(self, seconds: float) -> None:
        """Raise ``AddressRefused`` if the delivery has no time for a pause of so many seconds."""
        if time.monotonic() + seconds > self._end:
            raise self.refused(self.too_late)

    def _keep(self, connection: socket.socket) -> None:
        with self._lock:
            if self._is_cut:
                raise AddressRefused("its time is over")
            # Not by its method, which a connection with TLS does not have.
            self._connections.append(socket.socket(fileno=os.dup(connection.fileno())))

    def cut(self, why: str) -> None:
        """Shut all connections of the delivery down, which ends every wait for them. Any thread may call it."""
        with self._lock:
            self._is_cut, self.why = True, self.why or why
            for connection in self._connections:
                with contextlib.suppress(OSError):  # it is not connected, or the server has closed it
                    connection.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Close the copies of the connections."""
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()


_active = threading.local()
_installing = threading.Lock()
_installed = False


def active() -> Rule | None:
    """Return the rule that applies to this thread now, or None."""
    rule: Rule | None = getattr(_active, "rule", None)
    return rule


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event in EVENTS and (rule := active()) is not None:
        rule.check(event, arguments)


def _install() -> None:
    global _installed
    with _installing:
        if not _installed:
            sys.addaudithook(_hook)
            _installed = True


def _cut_late(rule: Rule, is_over: threading.Event) -> None:
    if not is_over.wait(SECONDS):
        rule.cut(rule.too_late)


@contextmanager
def guarded(settings: Settings, trusted_host: bool = False) -> Iterator[Rule]:
    """Apply the rule of these settings to this thread.

    Set ``trusted_host`` if a setting, not a definition, names the host. Private addresses are then allowed.

    Raises:
        DeliveryError: the rule refused a connection, a program or a thread, or the delivery took longer than
            ``SECONDS``. The text gives the first refusal. Or no thread can begin that limits its time.
    """
    _install()
    rule = Rule(settings.webhook_allow_local, settings.webhook_allow_private or trusted_host)
    is_over = threading.Event()
    try:
        begin(_cut_late, rule, is_over)
    except RuntimeError as error:
        raise DeliveryError(str(error)) from None
    _active.rule = rule
    try:
        yield rule
    except Exception:
        if rule.why is not None:
            raise DeliveryError(rule.why) from None
        raise
    finally:
        _active.rule = None
        is_over.set()
        rule.release()
    if rule.why is not None:
        raise DeliveryError(rule.why)
