"""The chart of a job's successes by day says how many runs there were, and how each of them ended."""

from jobfac.store.history.job_history import Ended
from jobfac.web.drawing import bars


def test_runs_that_neither_succeeded_nor_failed_are_named() -> None:
    drawn = bars.rate({"1 Mar": Ended(), "2 Mar": Ended(1, 2), "3 Mar": Ended(mixed=3), "4 Mar": Ended(other=4)})
    for title in (
        "1 Mar: no runs",
        "2 Mar: 1 succeeded, 2 failed",
        "3 Mar: 0 succeeded, 0 failed, 3 mixed",
        "4 Mar: 0 succeeded, 0 failed, 4 stopped or denied",
    ):
        assert f"<title>{title}</title>" in drawn
    assert "Success by day: 1 succeeded, 2 failed, 3 mixed, 4 stopped or denied in 4 days" in drawn


def test_a_mixed_run_is_no_success() -> None:
    assert Ended(1, 0, 1, 5).judged == 2
