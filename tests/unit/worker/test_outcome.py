"""What the result that a program reports means for its run."""

import pytest

from jobfac.worker.outcome import judge_report


@pytest.mark.parametrize(
    ("result", "message", "state", "reason"),
    [
        ("succeeded", "12 files", "succeeded", None),
        ("failed", None, "failed", "the program reported failure"),
        ("failed", "no rows", "failed", "the program reported failure: no rows"),
        (
            "failure",
            "no rows",
            "failed",
            "the program reported the result 'failure', which is neither succeeded nor failed",
        ),
        ("", None, "failed", "the program reported the result '', which is neither succeeded nor failed"),
    ],
)
def test_a_reported_result(result: str, message: str | None, state: str, reason: str | None) -> None:
    assert judge_report(result, message) == (state, reason)
