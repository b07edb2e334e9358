"""A table of admission decisions."""

import pytest

from jobfac.store.runs.admission import Rule, decide


@pytest.mark.parametrize(
    ("policy", "of_job", "of_key", "limit", "retrying", "wanted"),
    [
        ("start", 5, 0, None, False, "queued"),
        ("start", 0, 1, 2, False, "queued"),
        ("start", 0, 2, 2, False, "blocked"),
        ("start", 0, 3, 2, False, "blocked"),
        ("deny", 0, 0, None, False, "queued"),
        ("deny", 1, 0, None, False, "denied"),
        ("deny", 1, 9, 1, False, "denied"),
        ("deny", 0, 1, 1, False, "blocked"),
        ("deny", 1, 0, None, True, "blocked"),
        ("queue", 0, 0, None, False, "queued"),
        ("queue", 1, 0, None, False, "blocked"),
        ("queue", 0, 1, 1, False, "blocked"),
        ("replace", 1, 0, None, False, "blocked"),
        ("replace", 0, 0, 1, False, "queued"),
    ],
)
def test_admission_decides_by_policy_and_limits(
    policy: str, of_job: int, of_key: int, limit: int | None, retrying: bool, wanted: str
) -> None:
    assert decide(policy, others_of_job=of_job, others_of_key=of_key, limit=limit, retrying=retrying) == wanted


def test_a_run_without_limits_depends_on_no_other() -> None:
    assert not Rule("a", "start", None).has_limits
    assert Rule("a", "deny", None).has_limits
    assert Rule("a", "start", "k").has_limits
