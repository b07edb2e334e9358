"""The rule for outgoing connections of all channels, enforced where a socket connects.

A library resolves names again and follows redirects, so a check before the call is not enough. The rule is therefore
an audit hook of the interpreter. The hook sees the address of each connection, from any library, before it is made.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jobfac.channels import addresses
from jobfac.channels.message import DeliveryError
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


class AddressRefused(OSError):
    """The rule does not allow this connection, program or thread."""


class Rule:
    """The addresses that one delivery may connect to. ``why`` is the reason of the first refusal, or None."""

    def __init__(self, allow_local: bool, allow_private: bool) -> None:
        self.allow_local = allow_local
        self.allow_private = allow_private
        self.why: str | None = None

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
                return
            why = f"it leads to {host}, {refused}"
        self.why = self.why or why
        raise AddressRefused(why)


_active = threading.local()
_installing = threading.Lock()
_installed = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event in EVENTS and (rule := getattr(_active, "rule", None)) is not None:
        rule.check(event, arguments)


def _install() -> None:
    global _installed
    with _installing:
        if not _installed:
            sys.addaudithook(_hook)
            _installed = True


@contextmanager
def guarded(settings: Settings, trusted_host: bool = False) -> Iterator[Rule]:
    """Apply the rule of these settings to this thread.

    Set ``trusted_host`` if a setting, not a definition, names the host. Private addresses are then allowed.

    Raises:
        DeliveryError: the rule refused a connection, a program or a thread. The text gives the first refusal.
    """
    _install()
    rule = Rule(settings.webhook_allow_local, settings.webhook_allow_private or trusted_host)
    _active.rule = rule
    try:
        yield rule
    except Exception:
        if rule.why is not None:
            raise DeliveryError(rule.why) from None
        raise
    finally:
        _active.rule = None
    if rule.why is not None:
        raise DeliveryError(rule.why)
