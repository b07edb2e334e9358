"""The pulse of the worker's loop."""

import pytest

from jobfac.worker.loop.pulse import Pulse


def test_the_age_grows_unless_the_loop_beats_or_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    pulse = Pulse()
    now = 107.0
    assert pulse.age() == 7.0
    pulse.beat()
    assert pulse.age() == 0.0
    with pulse.waiting():
        now = 200.0
        assert pulse.age() == 0.0
    assert pulse.age() == 0.0
    now = 201.5
    assert pulse.age() == 1.5
