"""A table of admission decisions."""

import pytest

from jobfac.store.runs.admission import Rule, decide


@pytest.mark.parametrize(
    ("policy", "of_job", "of_key", "limit", "retrying", "wanted"),
    [
        ("start", True, 0, None, False, "queued"),
        ("start", False, 1, 2, False, "queued"),
        ("start", False, 2, 2, False, "blocked"),
        ("start", False, 3, 2, False, "blocked"),
        ("deny", False, 0, None, False, "queued"),
        ("deny", True, 0, None, False, "denied"),
        ("deny", True, 9, 1, False, "denied"),
        ("deny", False, 1, 1, False, "blocked"),
        ("deny", True, 0, None, True, "blocked"),
        ("queue", False, 0, None, False, "queued"),
        ("queue", True, 0, None, False, "blocked"),
        ("queue", False, 1, 1, False, "blocked"),
        ("replace", True, 0, None, False, "blocked"),
        ("replace", False, 0, 1, False, "queued"),
    ],
)
def test_admission_decides_by_policy_and_limits(
    policy: str, of_job: bool, of_key: int, limit: int | None, retrying: bool, wanted: str
) -> None:
    assert decide(policy, has_others_of_job=of_job, others_of_key=of_key, limit=limit, retrying=retrying) == wanted


def test_a_run_without_limits_depends_on_no_other() -> None:
    assert not Rule("a", "start", None).has_limits
    assert Rule("a", "deny", None).has_limits
    assert Rule("a", "start", "k").has_limits
