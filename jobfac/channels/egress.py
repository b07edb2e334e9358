"""The rule for outgoing connections of all channels, enforced where a socket connects.

A library decides by itself where it connects: it resolves names again and follows redirects. So the rule is an audit
hook of the interpreter: it sees the address of each connection before it is made, whatever library makes it.
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
"""What would go on outside of this thread, where the rule does not hold. Threads are reported from Python 3.12 on; the
services that start some are not among the default ``apprise_schemes``."""

EVENTS = SENDING | ESCAPES


class AddressRefused(OSError):
    """A connection that the rule does not allow."""


class Rule:
    """What one delivery may connect to. ``why``: the first refusal, once there is one."""

    def __init__(self, allow_local: bool, allow_private: bool) -> None:
        self.allow_local = allow_local
        self.allow_private = allow_private
        self.why: str | None = None

    def check(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Raise ``AddressRefused`` for a connection to a refused address, and for programs and threads."""
        why = "the channel would start a program or a thread, which is not allowed"
        if event in SENDING:
            place = arguments[1]
            if place is None:  # of a socket that is connected already
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
    """Hold this thread to the rule of these settings. ``trusted_host``: it connects to a host that a setting names, and
    not a definition, so that private addresses are allowed.

    Raises:
        DeliveryError: something failed after a connection was refused; the text says which.
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
