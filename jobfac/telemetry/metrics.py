"""What a role counts and measures of itself, as plain numbers: counting costs next to nothing and needs no library."""

from bisect import bisect_left
from collections.abc import Mapping
from typing import Literal, NamedTuple

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds, in seconds, by which durations are told apart; the last class has none."""


class Timing:
    """Durations in seconds, by class. One thread adds, others may read."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds


Kind = Literal["gauge", "counter", "timing"]


class Metric(NamedTuple):
    """``value`` with a ``label`` is a number for each of the label's values, of which there are only a few.

    A counter only grows while its process lives.
    """

    kind: Kind
    name: str
    help: str
    value: float | Mapping[str, float] | Timing
    label: str | None = None
