"""Durations as short texts."""

import pytest

from jobfac.views.durations import short_duration, spaced_duration


@pytest.mark.parametrize(
    ("seconds", "short", "spaced"),
    [
        (-1, "0.0s", "0.0 s"),
        (9.94, "9.9s", "9.9 s"),
        (12.7, "12s", "12 s"),
        (185, "3m05s", "3 min 5 s"),
        (7810, "2h10m", "2 h 10 min"),
        (7500, "2h05m", "2 h 5 min"),
        (360_000, "4d4h", "4 d 4 h"),
    ],
)
def test_a_duration_has_one_or_two_units(seconds: float, short: str, spaced: str) -> None:
    assert (short_duration(seconds), spaced_duration(seconds)) == (short, spaced)
