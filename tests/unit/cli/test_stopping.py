"""The messages of a role that is asked to stop."""

import fcntl
import os
import threading
from contextlib import suppress

import pytest

from jobfac.cli.commands.roles import _announce, stop_sentence
from jobfac.cli.signals import run_in_thread
from jobfac.settings import Settings


@pytest.mark.parametrize(
    ("running", "unstored", "limit", "first", "sentence"),
    [
        (0, 0, 60.0, True, "Stopping: no program runs."),
        (0, 0, 60.0, False, "Stopping: no program runs."),
        (
            0, 1, 60.0, True,
            "Stopping: 1 outcome waits for the database. Press Ctrl-C again (or send a second signal) to stop without "
            "waiting; then its run may be executed again.",
        ),
        (
            0, 2, 60.0, False,
            "Stopping at once: 2 outcomes wait for the database. What it does not store now is lost, and such a run "
            "may be executed again.",
        ),
        (
            2, 0, 90.0, True,
            "Stopping: 2 programs run; waiting up to 1m30s, then restartable runs go back into the queue. Press Ctrl-C "
            "again (or send a second signal) to stop without waiting.",
        ),
        (
            1, 3, 60.0, False,
            "Stopping at once: 1 program runs and will be stopped; restartable runs go back into the queue.",
        ),
    ],
)  # fmt: skip
def test_the_message_names_what_the_role_waits_for(
    running: int, unstored: int, limit: float, first: bool, sentence: str
) -> None:
    assert stop_sentence(running, unstored, limit, first) == sentence


def test_the_message_does_not_wait_for_a_reader() -> None:
    """It is written in a signal handler: a role whose log nobody reads waited there, after its work had ended."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    for size in (4096, 1):
        with suppress(BlockingIOError):
            while True:
                os.write(writer, b"x" * size)
    os.set_blocking(writer, True)
    before = os.dup(2)
    os.dup2(writer, 2)
    try:
        _announce("Stopping.", Settings())
    finally:
        os.dup2(before, 2)
        for descriptor in (reader, writer, before):
            os.close(descriptor)


def test_a_role_runs_beside_a_thousand_inherited_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def high_pipe() -> tuple[int, int]:
        low = pipe()
        made.extend(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 1024) for end in low)
        for end in low:
            os.close(end)
        return made[0], made[1]

    pipe, ran = os.pipe, []
    monkeypatch.setattr(os, "pipe", high_pipe)
    run_in_thread(lambda: ran.append(threading.Event().wait(0.05)))  # so that the main thread waits for it
    assert (ran, min(made) >= 1024) == ([False], True)
