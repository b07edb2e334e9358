"""Breaks connections whose packets nobody acknowledges, as after a firewall or a NAT has forgotten them.

The drivers' own limit is of little use then: they send a cancellation and wait for its answer twice as long as for the
statement, so 30 s become 90, and the 3 s of a heartbeat 9, which is longer than the rest of its lease. The kernel can
give up a connection sooner. A server that works on a long statement acknowledges packets meanwhile.
"""

import ctypes
import os
import socket
import sys
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")

UNACKNOWLEDGED = 4.0
"""Seconds without an acknowledgement after which the kernel gives up a connection. The default heartbeats, every 5 s
under a lease of 15 s, then have time for another connection."""

OPEN = "/proc/self/fd"

_LIBC = ctypes.CDLL(None)


def sockets() -> dict[str, int]:
    """Return the open sockets of this process, as far as they can be seen: the kernel's names and their descriptors."""
    if sys.platform != "linux":
        return {}
    try:
        numbers = os.listdir(OPEN)  # noqa: PTH208 (descriptors)
    except OSError:  # too many open files: no reason to fail the connection
        return {}
    found = {}
    for number in numbers:
        try:
            name = os.readlink(f"{OPEN}/{number}")  # noqa: PTH115 (of a descriptor)
        except OSError:  # closed meanwhile
            continue
        if name.startswith("socket:"):
            found[name] = int(number)
    return found


def given_up_when_dead(connect: Callable[[], T]) -> T:
    """Return what ``connect`` returns, and make the kernel give up dead connections that it has opened.

    Other threads may have opened some meanwhile: it does them no harm.
    """
    before = sockets()
    connection = connect()
    _limit([descriptor for name, descriptor in sockets().items() if name not in before], UNACKNOWLEDGED)
    return connection


def be_patient() -> None:
    """Leave all connections of this process to the kernel's usual limits, for a statement that takes long.

    With the limit it gives up a connection that waits for an answer if one probe of TCP's keep-alive is lost: the
    drivers send them after 30 s, and wait a second for an answer.
    """
    _limit(sockets().values(), 0.0)


def _limit(descriptors: Iterable[int], seconds: float) -> None:
    limit = ctypes.c_int(round(1000 * seconds))
    for descriptor in descriptors:
        # Not by Python's socket, which would need a second descriptor. Other kinds of sockets refuse it.
        _LIBC.setsockopt(
            descriptor, socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, ctypes.byref(limit), ctypes.sizeof(limit)
        )
