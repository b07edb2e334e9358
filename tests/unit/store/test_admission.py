"""A table of admission decisions."""

import pytest

from jobfac.store.runs.admission.rules import Rule, decide


@pytest.mark.parametrize(
    ("policy", "denied", "of_job", "of_key", "limit", "retrying", "wanted"),
    [
        ("start", False, True, 0, None, False, "queued"),
        ("start", False, False, 1, 2, False, "queued"),
        ("start", False, False, 2, 2, False, "blocked"),
        ("start", False, False, 3, 2, False, "blocked"),
        ("deny", False, False, 0, None, False, "queued"),
        ("deny", True, True, 0, None, False, "denied"),
        ("deny", True, False, 0, None, False, "denied"),
        ("deny", True, True, 9, 1, False, "denied"),
        ("deny", False, True, 0, None, False, "blocked"),
        ("deny", False, False, 1, 1, False, "blocked"),
        ("deny", True, True, 0, None, True, "blocked"),
        ("queue", False, False, 0, None, False, "queued"),
        ("queue", False, True, 0, None, False, "blocked"),
        ("queue", False, False, 1, 1, False, "blocked"),
        ("replace", False, True, 0, None, False, "blocked"),
        ("replace", False, False, 0, 1, False, "queued"),
    ],
)
def test_admission_decides_by_policy_and_limits(
    policy: str, denied: bool, of_job: bool, of_key: int, limit: int | None, retrying: bool, wanted: str
) -> None:
    decision = decide(
        policy, is_denied=denied, has_others_of_job=of_job, others_of_key=of_key, limit=limit, retrying=retrying
    )
    assert decision == wanted


def test_a_run_without_limits_depends_on_no_other() -> None:
    assert not Rule("a", "start", None).has_limits
    assert Rule("a", "deny", None).has_limits
    assert Rule("a", "start", "k").has_limits
