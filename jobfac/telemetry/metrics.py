"""Counters and timings of a role as plain numbers. Updating one needs no library and takes no lock."""

from bisect import bisect_left
from collections.abc import Mapping
from typing import Literal, NamedTuple

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds of the histogram's buckets, in seconds. One more bucket counts longer durations."""


class Timing:
    """A histogram of durations in seconds. One thread may add; any thread may read."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds


Kind = Literal["gauge", "counter", "timing"]


class Metric(NamedTuple):
    """One metric. With a ``label``, ``value`` maps each of the label's few values to a number.

    A counter never decreases while the process runs.
    """

    kind: Kind
    name: str
    help: str
    value: float | Mapping[str, float] | Timing
    label: str | None = None
