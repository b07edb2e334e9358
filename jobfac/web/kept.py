"""A cache of values that take seconds to compute and may be some minutes old. One thread at a time computes."""

import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")

MOST = 20
"""The maximum number of cached values."""


class Kept(Generic[T]):
    """Cached values by key, each for ``age`` seconds. Thread-safe."""

    def __init__(self, age: float) -> None:
        self._age = age
        self._lock = threading.Lock()
        self._found: dict[Hashable, tuple[float, T]] = {}

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return the value of a key. Computes it if it is missing or too old."""
        with self._lock:
            known = self._found.get(key)
            if known is None or known[0] < time.monotonic():
                self._found.pop(key, None)
                known = self._found[key] = (time.monotonic() + self._age, compute())
                while len(self._found) > MOST:
                    del self._found[next(iter(self._found))]
        return known[1]
