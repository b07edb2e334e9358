"""Limits on connections: how many are open, and how long one may stay silent.

Everything here runs in the thread of the server's event loop, but for ``__init__``.
"""

import asyncio
import contextlib
import errno
import os
import resource
import socket
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from jobfac.api.serving.seldom import Seldom
from jobfac.telemetry.logs import logger

log = logger("jobfac.api")

MOST = 1000
"""Connections open at once, where the process may open enough files."""

BATCH = 64
"""Connections accepted in one turn of the event loop at most: so many are open beyond the limit for a moment."""

HEADER_TIMEOUT = 10.0
"""Seconds from the connection, or from the first byte of a further request, to the end of its header."""

WRITE_TIMEOUT = 60.0
"""Seconds that a client may take no byte of an answer that waits for it."""

FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def share(wanted: int = 0) -> int:
    """How many connections the API may hold: ``wanted``, or 0 for ``MOST``, but no more than half of the file
    descriptors that the process may open. The other half is for the database, the programs of a worker in this process,
    and whatever else works here.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    fits = MOST if soft == resource.RLIM_INFINITY else soft // 2 - BATCH
    return max(8, min(wanted or MOST, fits))


class Connections:
    """The open connections, by descriptor. Above ``limit`` the one that has been silent for longest is closed.

    A connection is *waiting* until the header of a request is complete, and again after the answer. In between it is
    *busy*, and is not closed to make room for others.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._open: dict[int, Accepted] = {}
        self._waiting: dict[int, None] = {}  # an ordered set, the longest silent first
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._seldom = Seldom()

    def __len__(self) -> int:
        """How many are open, those included that are about to be closed."""
        return len(self._open)

    def admit(self, accepted: "Accepted") -> bool:
        """Count a new connection. False: it must be closed, since all others are busy."""
        self._open[accepted.number] = accepted
        self._waiting[accepted.number] = None
        self.expect_header(accepted.number)
        if len(self._open) <= self.limit:
            return True
        self.say("connection_limit", "too many connections: the one that was silent for longest is closed")
        oldest = next(iter(self._waiting))
        self._end(oldest)
        return oldest != accepted.number

    def expect_header(self, number: int) -> None:
        """From now on the header of a request must be complete within ``HEADER_TIMEOUT``."""
        if number in self._waiting and number not in self._timers:
            self._timers[number] = asyncio.get_running_loop().call_later(HEADER_TIMEOUT, self._end, number)

    def busy(self, number: int) -> None:
        """A request is under way."""
        self._forget(number)

    def idle(self, number: int) -> None:
        """The answer is complete."""
        self._forget(number)
        if number in self._open:
            self._waiting[number] = None

    def gone(self, accepted: "Accepted") -> None:
        """The connection is closed."""
        if self._open.get(accepted.number) is accepted:
            self._forget(accepted.number)
            del self._open[accepted.number]

    def relieve(self) -> None:
        """The process is out of descriptors: close some silent connections."""
        for number in list(self._waiting)[:BATCH]:
            self._end(number)

    def say(self, action: str, sentence: str) -> None:
        """Log a line, once a minute."""
        if (left_out := self._seldom.due(action)) is not None:
            log.warning(sentence, action=action, open=len(self._open), limit=self.limit, left_out=left_out)

    def _forget(self, number: int) -> None:
        self._waiting.pop(number, None)
        if timer := self._timers.pop(number, None):
            timer.cancel()

    def _end(self, number: int) -> None:
        self._forget(number)
        if accepted := self._open.get(number):
            accepted.end()


class Accepted(socket.socket):
    """An accepted connection that tells when it is closed."""

    def __init__(self, connections: Connections, family: int, kind: int, protocol: int, descriptor: int) -> None:
        super().__init__(family, kind, protocol, fileno=descriptor)
        self.number = descriptor
        self._connections: Connections | None = connections

    def end(self) -> None:
        """Let the event loop find the connection closed, whatever it is about to do with it."""
        with contextlib.suppress(OSError):  # the client was faster
            self.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it and count it no more."""
        connections, self._connections = self._connections, None
        super().close()
        if connections is not None:
            connections.gone(self)


class Door(socket.socket):
    """A listening socket that admits connections within a limit."""

    def __init__(self, family: int, kind: int, protocol: int, limit: int) -> None:
        super().__init__(family, kind, protocol)
        self.connections = Connections(limit)
        self._spare: int | None = None

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection that is admitted.

        Raises:
            BlockingIOError: there is none.
        """
        # A connection that was told to end is closed some turns of the loop later.
        while len(self.connections) < self.connections.limit + BATCH:
            connection, address = self._next()
            if self.connections.admit(connection):
                return connection, address
            connection.close()
        raise BlockingIOError

    def _next(self) -> tuple[Accepted, Any]:
        try:
            return self._take()
        except OSError as error:
            if error.errno not in FULL:
                raise
            self.connections.say("out_of_descriptors", f"cannot accept a connection: {error.strerror}")
            self.connections.relieve()
        # A connection that is left in the queue would wake the event loop again at once, for ever: it is taken with the
        # descriptor that is kept for this, and closed.
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
            with contextlib.suppress(OSError):
                self._take(spare=False)[0].close()
        raise BlockingIOError

    def _take(self, spare: bool = True) -> tuple[Accepted, Any]:
        if spare and self._spare is None:
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        plain, address = super().accept()
        family, kind, protocol = plain.family, plain.type, plain.proto
        return Accepted(self.connections, family, kind, protocol, plain.detach()), address

    def close(self) -> None:
        """Listen no more."""
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
        super().close()


def protocol(connections: Connections) -> type[H11Protocol]:
    """HTTP/1.1 as uvicorn speaks it, within the limits of these connections."""

    class Limited(H11Protocol):
        number = -1
        stalled: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.number = transport.get_extra_info("socket").fileno()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if not self.transport.is_closing():
                connections.expect_header(self.number)  # unless it has made it busy

        def handle_events(self) -> None:
            super().handle_events()
            if self.cycle is not None and not self.cycle.response_complete:
                connections.busy(self.number)

        def on_response_complete(self) -> None:
            connections.idle(self.number)
            super().on_response_complete()

        def pause_writing(self) -> None:
            super().pause_writing()
            self.stalled = self.loop.call_later(WRITE_TIMEOUT, self.transport.abort)

        def resume_writing(self) -> None:
            self._moves()
            super().resume_writing()

        def connection_lost(self, exc: Exception | None) -> None:
            self._moves()
            super().connection_lost(exc)

        def _moves(self) -> None:
            if self.stalled is not None:
                self.stalled.cancel()
                self.stalled = None

    return Limited
