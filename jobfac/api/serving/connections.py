"""Limits on connections: how many are open, and how long a client may be silent.

Everything except ``__init__`` runs in the thread of the server's event loop.
"""

import asyncio
import contextlib
import errno
import os
import resource
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

from starlette.requests import ClientDisconnect
from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

from jobfac.telemetry.log_throttle import LogThrottle
from jobfac.telemetry.logs import logger

log = logger("jobfac.api")

MAX_CONNECTIONS = 1000
"""The default limit of open connections."""

BATCH = 64
"""Connections that one iteration of the event loop accepts. The limit may be exceeded by as many for a moment."""

HEADER_TIMEOUT = 10.0
"""Seconds from the connection, or from the first byte of a further request, to the end of its header."""

WRITE_TIMEOUT = 60.0
"""Seconds after which a connection is closed if the client reads nothing of a response."""

PROTOCOL = "jobfac.protocol"
"""Where a request's scope has its connection, until that is closed."""

PROTECTED = "jobfac.protected"
"""Where a request's scope has the owner of its key, once that is known."""

GONE = "jobfac.gone"
"""What is in a request's scope once its connection is closed."""

QUEUED = "jobfac.queued"
"""Where a request's scope has its task, while that waits for its turn."""

OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def connection_limit(configured: int = 0) -> int:
    """Return the limit of open connections: ``configured`` (0: ``MAX_CONNECTIONS``), but at most half of the file
    descriptors that the process may open. The other half is for the database, the programs of a worker in the same
    process, and other files.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    half = MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else soft // 2 - BATCH
    return max(8, min(configured or MAX_CONNECTIONS, half))


class Connections:
    """The open connections, by descriptor. Above ``limit``, the connection that was silent longest is closed.

    A connection is *waiting* until the owner of a request's key is known, and again after the response. In between it
    is *busy* and is not closed in favour of others, however slowly its client sends or takes a body. A request may have
    no key, or a made-up one, so its client keeps its place among those that wait until somebody calls ``protect``.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._open: dict[int, Accepted] = {}
        self._waiting: dict[int, None] = {}  # an ordered set; the first was silent longest
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._halted: set[int] = set()  # those among the waiting that have sent the header of a request
        self._ended: set[int] = set()  # shut down, and not closed yet
        self._busy: dict[int, str] = {}  # with the owner
        self._of_owner: Counter[str] = Counter()  # how many of those that are busy
        self._throttle = LogThrottle()

    def __len__(self) -> int:
        """The number of open connections, including those that are about to be closed."""
        return len(self._open)

    def admit(self, accepted: "Accepted") -> bool:
        """Add a new connection. False: the caller must close it, because all others are busy."""
        self._open[accepted.number] = accepted
        self._waiting[accepted.number] = None
        self.expect_header(accepted.number)
        if len(self._open) <= self.limit:
            return True
        self.warn("connection_limit_reached", "too many connections: closed the one that was silent longest")
        oldest = next(iter(self._waiting))
        self._end(oldest)
        return oldest != accepted.number

    def attach(self, transport: asyncio.Transport) -> int:
        """Note the transport of a connection and return its number."""
        number: int = transport.get_extra_info("socket").fileno()
        if number in self._ended:
            transport.abort()
        elif number in self._open:
            self._open[number].transport = transport
        return number

    def expect_header(self, number: int) -> None:
        """Close the connection unless the header of a request is complete within ``HEADER_TIMEOUT``."""
        if number in self._waiting and number not in self._timers and number not in self._halted:
            self._timers[number] = asyncio.get_running_loop().call_later(HEADER_TIMEOUT, self._end, number)

    def handle(self, number: int, owner: str | None) -> None:
        """Record that a request is being handled, for this owner. None: its sender is not known.

        One owner leaves twice as many places to others as it has: the connections of more requests wait.
        """
        if number not in self._open or number in self._ended or (owner is not None and number in self._busy):
            return
        if owner is not None and self._of_owner[owner] < max(1, (self.limit - len(self._busy)) // 2):
            self._forget(number)
            self._busy[number] = owner
            self._of_owner[owner] += 1
            return
        self._rest(number)
        self._waiting.setdefault(number)
        self._halted.add(number)
        self._stop_timer(number)

    def idle(self, number: int) -> None:
        """Record that the response is complete."""
        self._forget(number)
        if number in self._open and number not in self._ended:
            self._waiting[number] = None

    def remove(self, accepted: "Accepted") -> None:
        """Remove a closed connection."""
        if self._open.get(accepted.number) is accepted:
            self._forget(accepted.number)
            self._ended.discard(accepted.number)
            del self._open[accepted.number]

    def close_idle(self) -> None:
        """Close the connections that were silent longest, because the process has no free descriptors."""
        for number in list(self._waiting)[:BATCH]:
            self._end(number)

    def warn(self, action: str, sentence: str) -> None:
        """Log a warning, at most once a minute for each action."""
        if (left_out := self._throttle.due(action)) is not None:
            log.warning(sentence, action=action, open=len(self._open), limit=self.limit, left_out=left_out)

    def _rest(self, number: int) -> None:
        if (owner := self._busy.pop(number, None)) is not None:
            self._of_owner[owner] -= 1
            if not self._of_owner[owner]:
                del self._of_owner[owner]

    def _forget(self, number: int) -> None:
        self._rest(number)
        self._waiting.pop(number, None)
        self._halted.discard(number)
        self._stop_timer(number)

    def _stop_timer(self, number: int) -> None:
        if timer := self._timers.pop(number, None):
            timer.cancel()

    def _end(self, number: int) -> None:
        self._forget(number)
        if accepted := self._open.get(number):
            self._ended.add(number)
            accepted.end()


class Accepted(socket.socket):
    """An accepted connection that removes itself from ``Connections`` when it is closed."""

    def __init__(self, connections: Connections, family: int, kind: int, protocol: int, descriptor: int) -> None:
        super().__init__(family, kind, protocol, fileno=descriptor)
        self.number = descriptor
        self.transport: asyncio.Transport | None = None
        self._connections: Connections | None = connections

    def end(self) -> None:
        """Shut the connection down; the event loop then closes it."""
        with contextlib.suppress(OSError):  # the client has closed it
            self.shutdown(socket.SHUT_RDWR)
        if self.transport is not None:  # it reads nothing, and does not notice, if the client has sent a second request
            self.transport.abort()

    def close(self) -> None:
        """Close and remove it."""
        connections, self._connections = self._connections, None
        super().close()
        if connections is not None:
            connections.remove(self)


class LimitedListener(socket.socket):
    """A listening socket that limits the number of open connections."""

    def __init__(self, family: int, kind: int, protocol: int, limit: int) -> None:
        super().__init__(family, kind, protocol)
        self.connections = Connections(limit)
        self._spare: int | None = None
        self._pauses = False

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept the next connection.

        Raises:
            BlockingIOError: there is none, or the limit is reached.
        """
        # At the limit each takes the place of another one. A turn of the event loop accepts one then: if it took more
        # than it can handle, each would be closed for further ones before its key was checked.
        pauses, self._pauses = self._pauses, len(self.connections) >= self.connections.limit and not self._pauses
        # A connection that was shut down is closed in a later iteration of the event loop.
        while not pauses and len(self.connections) < self.connections.limit + BATCH:
            connection, address = self._next()
            if self.connections.admit(connection):
                return connection, address
            connection.close()
        raise BlockingIOError

    def _next(self) -> tuple[Accepted, Any]:
        try:
            return self._take()
        except OSError as error:
            if error.errno not in OUT_OF_RESOURCES:
                raise
            self.connections.warn("descriptors_exhausted", f"cannot accept a connection: {error.strerror}")
            self.connections.close_idle()
        # A connection that stays in the kernel's queue would wake the event loop in every iteration, so it is accepted
        # with the spare descriptor and closed.
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
        """Stop listening."""
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
        super().close()


def protocol(connections: Connections) -> type[H11Protocol]:
    """Return uvicorn's HTTP/1.1 protocol with the limits and timeouts of these connections."""

    class Limited(H11Protocol):
        number = -1
        stalled: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.number = connections.attach(transport)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if not self.transport.is_closing():
                connections.expect_header(self.number)  # no effect if a request is being handled

        def handle_events(self) -> None:
            super().handle_events()
            self.record()

        def record(self) -> None:
            if self.cycle is not None and not (self.cycle.response_complete or self.cycle.disconnected):
                self.scope[PROTOCOL] = self  # type: ignore[literal-required]
                connections.handle(self.number, cast(Scope, self.scope).get(PROTECTED))

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
            _closed(cast(Scope | None, self.scope))

        def _moves(self) -> None:
            if self.stalled is not None:
                self.stalled.cancel()
                self.stalled = None

    return Limited


def protect(scope: Scope, owner: str) -> None:
    """Keep the connection of a request while it is handled, as far as the owner of its key has not too many."""
    scope[PROTECTED] = owner
    if PROTOCOL in scope:
        scope[PROTOCOL].record()


def _closed(scope: Scope | None) -> None:
    """Note that the connection of the last request is closed."""
    if scope is not None and scope.pop(PROTOCOL, None) is not None:
        scope[GONE] = True
        if QUEUED in scope:
            scope[QUEUED].cancel()


@contextlib.contextmanager
def queued(scope: Scope) -> Iterator[None]:
    """Wait for a turn inside the block. ``ClientDisconnect`` ends the wait as soon as the client has gone: nobody
    expects what was given up to be done later, and who sends requests and leaves would make a queue of any length."""
    if GONE in scope:
        raise ClientDisconnect
    task = asyncio.current_task()
    assert task is not None
    scope[QUEUED] = task
    try:
        yield
    except asyncio.CancelledError:
        if GONE not in scope:
            raise
        task.uncancel()
        raise ClientDisconnect from None
    finally:
        del scope[QUEUED]
