"""Bursty arrivals for a fleet, and the measures of what became of them."""

import random
from collections.abc import Sequence
from typing import NamedTuple

SLOTS = (2, 4, 8, 16)
"""The slots of the workers, in turn."""

MEAN_DURATION = 2.0
"""Mean seconds of a run; durations are exponential."""

SIZES = (0.05, 0.5, 1.5)
"""The sizes of the bursts, in turn, as a part of all slots: a few runs, half the fleet, more than the fleet."""

UTILISATION = 0.5
"""How busy the fleet is on average."""


class Run(NamedTuple):
    """A run: when it was queued, and for how many seconds its program runs."""

    number: int
    queued_at: float
    duration: float


class Result(NamedTuple):
    """What a dispatcher made of the arrivals.

    Attributes:
        waits: by run, seconds from queued to started.
        unevenness: the standard deviation of the workers' loads (busy slots of all slots), averaged over the time.
    """

    waits: Sequence[float]
    unevenness: float


def fleet_of(workers: int) -> list[int]:
    """The slots of each worker."""
    return [SLOTS[number % len(SLOTS)] for number in range(workers)]


def arrivals(slots: Sequence[int], bursts: int, chance: random.Random) -> list[list[Run]]:
    """Bursts of runs, each burst queued at one moment."""
    found: list[list[Run]] = []
    at, number = 0.0, 0
    for burst in range(bursts):
        size = max(1, round(SIZES[burst % len(SIZES)] * sum(slots)))
        at += chance.expovariate(1) * size * MEAN_DURATION / (UTILISATION * sum(slots)) + 0.2
        found.append([Run(number + one, at, chance.expovariate(1 / MEAN_DURATION)) for one in range(size)])
        number += size
    return found


class Spread:
    """Averages the unevenness of a fleet over the time."""

    def __init__(self, slots: Sequence[int]) -> None:
        self._slots = slots
        self._loads = [0.0] * len(slots)
        self._sum = self._squares = 0.0
        self._last = 0.0
        self._area = 0.0

    def change(self, worker: int, busy: int, now: float) -> None:
        """A worker has so many busy slots from now on."""
        number = len(self._slots)
        variance = max(0.0, self._squares / number - (self._sum / number) ** 2)
        self._area += (now - self._last) * variance**0.5
        self._last = now
        load, before = busy / self._slots[worker], self._loads[worker]
        self._sum += load - before
        self._squares += load**2 - before**2
        self._loads[worker] = load

    def mean(self) -> float:
        """The average so far."""
        return self._area / self._last if self._last else 0.0


def quantile(values: Sequence[float], part: float) -> float:
    """The value below which this part of the values lies."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]
