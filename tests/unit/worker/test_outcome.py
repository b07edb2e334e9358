"""The state that a program's report gives its run."""

from typing import NamedTuple

import pytest

from jobfac.states import RunState
from jobfac.worker.executions.outcome import judge_report, with_remarks


class Said(NamedTuple):
    incomplete: str | None
    refused: str | None
    exit_message: str | None = None


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
def test_a_reported_result_determines_the_state(
    result: str, message: str | None, state: str, reason: str | None
) -> None:
    assert judge_report(result, message) == (state, reason)


@pytest.mark.parametrize(
    ("state", "reason", "incomplete", "refused", "aware", "expected"),
    [
        ("succeeded", None, None, None, True, ("succeeded", None)),
        ("succeeded", None, "too long", None, False, ("succeeded", "too long")),
        ("succeeded", None, "too long", None, True, ("failed", "too long")),
        ("failed", "exit code 3", "too long", "refused", True, ("failed", "exit code 3; too long; refused")),
        ("timed_out", "ran longer", "too long", None, True, ("timed_out", "ran longer; too long")),
        ("succeeded", None, None, "refused", True, ("succeeded", "refused")),
    ],
)
def test_unread_parts_of_a_report_are_named_in_the_reason(
    state: str, reason: str | None, incomplete: str | None, refused: str | None, aware: bool, expected: object
) -> None:
    assert with_remarks(RunState(state), reason, Said(incomplete, refused), aware) == expected


def test_the_reason_says_that_a_program_has_reported_success_in_vain() -> None:
    paid = Said(None, None, "all paid")
    assert with_remarks(RunState.QUEUED, "its worker was drained", paid, True, True) == (
        RunState.QUEUED,
        "its worker was drained; its program has reported success: all paid",
    )
