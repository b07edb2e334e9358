"""Readiness: the database is checked at most once a second, no matter how often clients ask."""

import asyncio
import time
from collections.abc import Callable

from anyio import CapacityLimiter, to_thread

from jobfac.errors import Unreachable

AGE = 1.0
"""Seconds for which an answer is used again."""

TIMEOUT = 4.0
"""Seconds after which a check without a result means that the service is not ready."""


class Readiness:
    """The last answer of a check, which one task at a time renews. Used in the event loop only.

    The check needs a connection to the database, and the endpoint no key: without a limit anybody could occupy all
    connections of the API. It has a thread of its own, so that it never waits for the threads of requests.
    """

    def __init__(self, check: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        """``check``: raises an error if the service is not ready."""
        self._check = check
        self._clock = clock
        self._thread = CapacityLimiter(1)
        self._known: tuple[float, Exception | None] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._since = 0.0  # when the task began

    async def check(self, timeout: float = TIMEOUT) -> None:
        """Raise the error of the last check, if it failed. Only the first callers wait, up to ``timeout`` seconds.

        Raises:
            Unreachable: the database does not answer.
        """
        known = self._known
        if known is None or self._clock() >= known[0] + AGE:
            waits = known is None or self._asking is None
            if self._asking is None:
                self._since = self._clock()
                self._asking = asyncio.create_task(self._ask(), name="readiness")
            asking = self._asking
            if waits:
                await asyncio.wait({asking}, timeout=timeout)
            if not asking.done() and (waits or self._clock() >= self._since + timeout):
                raise Unreachable(f"The database has not answered for {self._clock() - self._since:.0f} s.")
        if self._known is not None and self._known[1] is not None:
            raise self._known[1].with_traceback(None)

    async def _ask(self) -> None:
        error = None
        try:
            await to_thread.run_sync(self._check, limiter=self._thread, abandon_on_cancel=True)
        except Exception as failed:
            error = failed
        finally:
            self._asking = None
        self._known = self._clock(), error
