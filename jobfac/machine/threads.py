"""Begin a thread without the risk of waiting for ever."""

import threading
from _thread import start_new_thread
from collections.abc import Callable

BEGINS = 1.0
"""Seconds within which a thread has to begin."""


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
                begun.set()
            finally:
                work(*arguments)

    start_new_thread(run, ())
    if not begun.wait(BEGINS) and decided.acquire(blocking=False):
        raise RuntimeError("a thread has not begun; is there memory?")
