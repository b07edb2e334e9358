"""Who or what started a run, in words."""

from typing import Any

import pytest

from jobfac.views.origins import origin_in_words
from jobfac.views.runs import RunView
from jobfac.views.serialization import from_row
from tests.unit.views.test_serialization import RUN

AFTER = {"id": 4, "job": "extract", "state": "succeeded"}


@pytest.mark.parametrize(
    ("row", "cause", "step", "words"),
    [
        ({}, {"due": "2027-01-31T00:00:00+00:00"}, None, "me"),
        ({"retry_of": 5, "created_by": "ann"}, {"path": "/in/a", "size": 1}, None, "retry of run 5 by ann"),
        ({"created_by": "url 3 (github)"}, {}, None, "start URL 3 (github)"),
        ({"sequence_run_id": 6, "created_by": "run 6"}, {}, "load", "step load of run 6"),
        ({"sequence_run_id": 6, "created_by": "run 6"}, {}, None, "run 6"),
        ({"schedule_id": 1, "created_by": "schedule nightly"}, {}, None, "schedule nightly"),
        ({"schedule_id": 1, "created_by": "ann"}, {}, None, "backfill of a schedule by ann"),
        (
            {"schedule_id": 1, "created_by": "schedule 1"},
            {"path": "/in/a.csv", "size": 1234},
            None,
            "schedule 1, by the file /in/a.csv (1,234 bytes)",
        ),
        (
            {"schedule_id": 1, "created_by": "schedule 1", "retry_of": 5},
            {"path": "/in/a.csv", "size": 1},
            None,
            "schedule 1, by the file /in/a.csv (1 byte), which came back after run 5",
        ),
        (
            {"schedule_id": 1, "created_by": "schedule 1"},
            {"run": AFTER},
            None,
            "schedule 1, after run 4 of extract (succeeded)",
        ),
        (
            {"schedule_id": 1, "created_by": "schedule 1"},
            {"run": AFTER, "runs": [AFTER, {"id": 9, "job": "load", "state": "failed"}]},
            None,
            "schedule 1, after run 4 of extract (succeeded) and run 9 of load (failed)",
        ),
    ],
)
def test_the_origin_of_a_run(row: dict[str, Any], cause: dict[str, Any], step: str | None, words: str) -> None:
    assert origin_in_words(from_row(RunView, RUN | row), cause, step) == words
