"""Begin a thread, and wait for one, without the risk of waiting for ever."""

import threading
from _thread import start_new_thread
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

_living: set[object] = set()
"""One for each thread of ``begin`` that has not ended. ``threading.enumerate`` does not know them."""


def are_alive() -> bool:
    """Whether a thread of ``begin`` has not ended."""
    return bool(_living)


BEGINS = 1.0
"""Seconds within which a thread has to begin."""


AGAIN, LONGEST = 60.0, 3600.0
"""Seconds after which a thread that hangs is left alone and another one does its work, for the first time and at most.
What the first one waits for may never answer it, and answer others again: a drive that was mounted anew, a keyring."""


def longer(again: float) -> float:
    """Return after how many seconds the successor of a thread is left alone that was itself left alone after these."""
    return min(2 * again, LONGEST)


class Tries:
    """When what does not answer is tried again: one try at a time, after longer and longer pauses.

    Otherwise a dead drive would soon have all threads. One thread at a time may use it.
    """

    def __init__(self, first: float) -> None:
        """``first``: seconds of the pause, which doubles with the first try."""
        self._first = first
        self._next: dict[str, tuple[float, float]] = {}  # when to try it again, and the pause then

    def may(self, what: str, now: float) -> bool:
        """Whether to try it now (monotonic seconds). Counts as a try if so."""
        at, pause = self._next.get(what, (now, self._first))
        if now < at:
            return False
        self._next[what] = now + longer(pause), longer(pause)
        return True

    def clear(self) -> None:
        """Something has answered again: the others need not wait."""
        self._next.clear()


def begin(work: Callable[..., object], *arguments: object) -> None:
    """Call ``work`` in a daemon thread.

    ``Thread.start`` waits until the thread has begun, which a thread without memory never does.

    Raises:
        RuntimeError: the machine refuses threads, or this one has not begun in time. Then ``work`` is not called.
    """
    decided, begun = threading.Lock(), threading.Event()  # ``decided``: taken by the first of the two to act

    def run() -> None:
        if decided.acquire(blocking=False):
            try:
                with suppress(MemoryError):  # the caller goes on after ``BEGINS``
                    begun.set()
                work(*arguments)
            finally:
                _living.discard(begun)

    _living.add(begun)
    try:
        start_new_thread(run, ())
        has_begun = begun.wait(BEGINS) or not decided.acquire(blocking=False)
    except RuntimeError:
        has_begun = False
    if not has_begun:
        _living.discard(begun)
        raise RuntimeError("a thread cannot begin; is there memory, and is there a limit of processes?")


def within(seconds: float, work: Callable[[], T], dispose: Callable[[T], object]) -> T:
    """Return what ``work`` returns, or raise what it raises. It is called in a daemon thread, and may hang.

    ``dispose``: called with what it returns too late.

    Raises:
        TimeoutError: it has not ended within so many seconds.
        RuntimeError: as ``begin``.
    """
    from concurrent.futures import Future  # slow to import

    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    def discard(late: "Future[T]") -> None:
        if late.exception() is None:
            dispose(late.result())

    begin(run)
    try:
        return future.result(seconds)
    except TimeoutError:
        if not future.done():  # else it is what ``work`` has raised
            future.add_done_callback(discard)
        raise
