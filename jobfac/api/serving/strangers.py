"""Requests of senders that are not known yet: anybody can send any number, so they take nothing from those that are."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from jobfac.api.problems import Problem
from jobfac.api.serving import connections
from jobfac.api.serving.shares import Limits, Shares
from jobfac.errors import NotFound

CHECKS = 4
"""Keys, sessions and start URLs of strangers that are checked at once."""

OPEN = 2
"""Requests at once for pages that need no key, such as the login."""

MOST = 10_000
"""How many senders are remembered: those whose requests came last."""

T = TypeVar("T")


@asynccontextmanager
async def queueing(request: Request, turn: AbstractAsyncContextManager[Any]) -> AsyncIterator[None]:
    """Wait for a turn, unless the client leaves before it comes. The block is the turn.

    Raises:
        ClientDisconnect: the client has gone before.
    """
    async with AsyncExitStack() as stack:
        with connections.queued(request.scope):
            await stack.enter_async_context(turn)
        yield


class LastFirst:
    """A fixed number of places. The request that came last gets the next free place.

    Used as ``async with``, in the event loop only. In a flood, the connection of the request that came first is the
    next to be closed. If places were given in the order of arrival, most requests would be closed before their turn.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: dict[asyncio.Future[None], None] = {}  # an ordered set; the last came last

    async def __aenter__(self) -> None:
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = None
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiting.pop(turn, None)  # it is not there if a place became free meanwhile
            else:  # it got the place at the same moment
                self._leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        while self._waiting:
            turn = self._waiting.popitem()[0]
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class Strangers:
    """Tells senders whose key was valid a while ago from others. Used in the event loop only.

    A sender is the text that ``Authenticator.identity`` returns, or a token. Those that are known are part of the share
    of their key's owner, who may have many sessions, and wait for nobody whose key may be made up; a key is checked at
    each request all the same. Those that are not have a few threads, and their connections may be closed in favour of
    new ones.
    """

    def __init__(self, known: Shares, waiting: int) -> None:
        """``known``: the turns of known senders; ``waiting``: the requests of one stranger that wait."""
        self._turns = known
        self._first = Shares(Limits(1, 1), waiting)
        self._checks, self._open = LastFirst(CHECKS), LastFirst(OPEN)
        self._known: OrderedDict[str, str] = OrderedDict()  # the owner of the key of each sender

    def __contains__(self, sender: str) -> bool:
        return sender in self._known

    async def check(
        self, request: Request, sender: str, owner: Callable[[Any], str], work: Callable[..., T], *arguments: Any
    ) -> T:
        """Call what checks the key of a request in a thread, and return whose it is.

        Args:
            owner: returns the name of the owner, of what ``work`` returned.
            work: raises an error, or returns a response, if the key is not valid.

        Raises:
            ClientDisconnect: the client has gone before its turn came.
            Problem: 503 if too many requests of this sender run or wait.
        """
        if sender not in self._known:
            async with AsyncExitStack() as turn:
                with connections.queued(request.scope):
                    await turn.enter_async_context(self._first.turn(sender))  # those that came with it are known then
                    if sender not in self._known:
                        await turn.enter_async_context(self._checks)
                if sender not in self._known:
                    found = await run_in_threadpool(work, *arguments)
                    if not isinstance(found, Response):
                        self._remember(sender, owner(found))
                        connections.protect(request.scope, self._known[sender])
                    return found
        connections.protect(request.scope, self._known[sender])
        async with queueing(request, self._turns.turn(self._known[sender])):
            try:
                found = await run_in_threadpool(work, *arguments)
            except (Problem, NotFound):
                self._known.pop(sender, None)
                raise
        if isinstance(found, Response):
            if found.status_code < 500:  # a database that is away says nothing about a key
                self._known.pop(sender, None)
        else:
            self._remember(sender, owner(found))
        return found

    async def answer(self, request: Request, work: Callable[..., Response], *arguments: Any) -> Response:
        """Call what answers a request that needs no key, or is refused, in a thread."""
        try:
            async with queueing(request, self._open):
                return await run_in_threadpool(work, *arguments)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it

    def _remember(self, sender: str, owner: str) -> None:
        self._known[sender] = owner
        self._known.move_to_end(sender)
        if len(self._known) > MOST:
            self._known.popitem(last=False)
