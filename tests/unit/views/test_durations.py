"""Durations as short texts."""

from datetime import UTC, datetime

import pytest

from jobfac.cli.rendering.text import duration
from jobfac.states import RunState
from jobfac.views.durations import has_duration, short_duration, spaced_duration
from jobfac.views.runs import PastRun
from jobfac.web.templating import took


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


@pytest.mark.parametrize(("state", "ended", "has"), [("running", False, True), ("scheduled", False, False),
                                                     ("queued", False, False), ("stopped", True, True)])  # fmt: skip
def test_a_run_that_waits_for_its_next_attempt_takes_no_time(state: str, ended: bool, has: bool) -> None:
    begin = datetime(2027, 1, 1, tzinfo=UTC)
    run = PastRun(1, "load", RunState(state), None, begin, begin if ended else None)
    assert has_duration(run) == has
    assert bool(took(run)) == bool(duration(run)) == has
