"""The share of one caller in the threads of the API, so that nobody keeps others out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from jobfac.api.problems import RETRY_AFTER, Problem


class _Share:
    def __init__(self, at_once: int) -> None:
        self.turns = asyncio.Semaphore(at_once)
        self.present = 0


class Shares:
    """Limits the requests of each caller, by its label. Everything runs in the event loop.

    A request that runs holds a thread, and one that waits holds a connection. Both are there for all callers.
    """

    def __init__(self, at_once: int, present: int) -> None:
        """``at_once``: the requests of one caller that run at once; ``present``: those that run or wait."""
        self._at_once = at_once
        self._most = present
        self._shares: dict[str, _Share] = {}

    @asynccontextmanager
    async def turn(self, caller: str | None) -> AsyncIterator[None]:
        """Wait until fewer than ``at_once`` other requests of this caller run. None, for a request that needs no key,
        waits for nothing: one client could keep all others from the login and from the readiness.

        Raises:
            Problem: 503 if ``present`` others of this caller run or wait.
        """
        if caller is None:
            yield
            return
        share = self._shares.setdefault(caller, _Share(self._at_once))
        if share.present >= self._most:
            detail = f"The key {caller} has {share.present} requests that run or wait, its share; send fewer at once."
            raise Problem(503, detail, {"Retry-After": str(RETRY_AFTER)})
        share.present += 1
        try:
            async with share.turns:
                yield
        finally:
            share.present -= 1
            if not share.present:
                del self._shares[caller]
