"""The messages of a role that is asked to stop."""

import pytest

from jobfac.cli.commands.roles import stop_sentence


@pytest.mark.parametrize(
    ("running", "limit", "first", "sentence"),
    [
        (0, 60.0, True, "Stopping: no program runs."),
        (0, 60.0, False, "Stopping: no program runs."),
        (
            2, 90.0, True,
            "Stopping: 2 programs run; waiting up to 1m30s, then restartable runs go back into the queue. Press Ctrl-C "
            "again (or send a second signal) to stop without waiting.",
        ),
        (
            1, 60.0, False,
            "Stopping at once: 1 program runs and will be stopped; restartable runs go back into the queue.",
        ),
    ],
)  # fmt: skip
def test_the_message_names_what_the_role_waits_for(running: int, limit: float, first: bool, sentence: str) -> None:
    assert stop_sentence(running, limit, first) == sentence
