"""Notices that the clock was set."""

from datetime import UTC, datetime, timedelta

from jobfac.scheduler.clock import ClockWatch


def test_only_a_long_step_counts_and_only_once() -> None:
    at = datetime(2027, 1, 31, tzinfo=UTC)
    watch = ClockWatch()
    said = []
    for passed, shown in ((0, 0), (5, 5), (10, 3610), (15, 3615), (20, 20), (25, 25), (30, 0), (4000, 3400)):
        said.append(watch.step(at + timedelta(seconds=shown), float(passed)))
    assert said == [0, 0, 3600, 0, -3600, 0, 0, 0]
