"""Who may use the threads of the API at once, so that nobody keeps others out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import NamedTuple

from jobfac.api.problems import RETRY_AFTER, Problem


class Limits(NamedTuple):
    """How many requests run at once: of all kinds, and of those that change something. The latter may wait for a lock
    that an open transaction holds, and those that read must not wait for them."""

    any_kind: int
    changing: int


class _Turns:
    def __init__(self, limits: Limits) -> None:
        self._any = asyncio.Semaphore(limits.any_kind)
        self._changing = asyncio.Semaphore(limits.changing)

    @asynccontextmanager
    async def turn(self, changes: bool) -> AsyncIterator[None]:
        async with self._changing if changes else nullcontext(), self._any:
            yield


class _Share:
    def __init__(self, limits: Limits) -> None:
        self.turns = _Turns(limits)
        self.present = 0


class Shares:
    """Limits the requests of each caller and of all callers together. Everything runs in the event loop.

    A request that runs holds a thread, and one that waits holds a connection. Both are there for all callers.
    """

    def __init__(self, of_one: Limits, present: int, together: Limits | None = None) -> None:
        """
        Args:
            of_one: the requests of one caller that run at once.
            present: the requests of one caller that run or wait.
            together: the requests of all callers that run at once; None: any number.
        """
        self._of_one = of_one
        self._most = present
        self._together = None if together is None else _Turns(together)
        self._shares: dict[str, _Share] = {}

    @asynccontextmanager
    async def turn(self, caller: str, *, changes: bool = False) -> AsyncIterator[None]:
        """Wait for a turn of this caller, such as "key 'anna'".

        Raises:
            Problem: 503 if too many others of this caller run or wait.
        """
        share = self._shares.setdefault(caller, _Share(self._of_one))
        if share.present >= self._most:
            detail = f"The {caller} has {share.present} requests that run or wait, its share; send fewer at once."
            raise Problem(503, detail, {"Retry-After": str(RETRY_AFTER)})
        share.present += 1
        try:
            # The turn of the caller comes first: in the queue of all callers nobody has more requests than its share.
            async with share.turns.turn(changes), self._together.turn(changes) if self._together else nullcontext():
                yield
        finally:
            share.present -= 1
            if not share.present:
                del self._shares[caller]
